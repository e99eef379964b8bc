"""Replace files atomically: a reader sees the old file or the new one, never a part."""

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

__all__ = ["check_writable", "make_folder", "whole_folder", "write_text", "write_whole"]

_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)
_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(
    file: str | os.PathLike[str],
    write: Callable[[Path], object],
    *,
    n_bytes: int | None = None,
    flush: bool = False,
) -> None:
    """Write a file in a temporary folder next to it, then move it.

    Parameters
    ----------
    file : path
        Replaced if it exists.
    write : callable
        Called with the path to write to. Whatever else it leaves in that folder is removed.
    n_bytes : int, optional
        About how many bytes it writes, for the error message of a full disk.
    flush : bool, default=False
        Wait until the data is on the disk, so that a power cut cannot lose both files.

    Raises
    ------
    OSError
        Among others, if the disk is full; the old file is unchanged.
    """
    file = Path(file)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished = temporary / file.name
    try:
        temporary.mkdir(exist_ok=True)
        unfinished.touch()
        mode = unfinished.stat().st_mode  # the umask's, which some writers ignore
        write(unfinished)
        if unfinished.stat().st_mode != mode:
            with suppress(OSError):  # some file systems have no modes
                unfinished.chmod(mode)
        if flush:
            _flush(unfinished)
        unfinished.replace(file)
        if flush:
            _flush(file.parent)
    except Exception as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError) and error.errno in _CLOSED:
            raise _closed(file.parent, f"write {file.name}", error) from error
        if not _is_full(error):
            raise
        raise _full(file.parent, n_bytes, f"write {file.name}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder, whose files then replace those of `folder`, each atomically.

    If the block raises, the files written so far are still moved.

    Parameters
    ----------
    folder : path
        Made if it is missing.

    Raises
    ------
    OSError
        The disk has too little space for the files; `folder` is unchanged.
    """
    folder = Path(folder)
    make_folder(folder)
    with tempfile.TemporaryDirectory() as temporary:
        try:
            yield Path(temporary)
        except OSError as error:
            if _is_full(error):
                raise _full(temporary, None, "make the files") from error
            raise
        finally:
            sizes = {file: file.stat().st_size for file in sorted(Path(temporary).iterdir())}
            n_bytes = sum(sizes.values())
            if n_bytes > shutil.disk_usage(folder).free:
                raise _full(folder, n_bytes, f"write {len(sizes)} files")
            for file, size in sizes.items():
                write_whole(folder / file.name, partial(shutil.copyfile, file), n_bytes=size)


def make_folder(folder: str | os.PathLike[str]) -> None:
    """Make a folder and its parents if they are missing.

    Raises
    ------
    OSError
        Among others, if writing is not allowed there.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _CLOSED:
            raise _closed(folder, "make it", error) from error
        raise


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raise OSError if a folder cannot be written to or made, without making it."""
    path = Path(folder).absolute()
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(place, os.W_OK):
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise _closed(folder, "write there", error)


def _closed(folder, what, error):
    return OSError(
        error.errno,
        f"expected a writable folder to {what}, got {folder} ({error.strerror}); pass another",
    )


def _full(folder, n_bytes, what):
    needed = "more" if n_bytes is None else f"{n_bytes:,}"
    return OSError(
        errno.ENOSPC,
        f"expected {needed} bytes free in {folder} to {what}, got "
        f"{shutil.disk_usage(folder).free:,}; make room, or write elsewhere. The files that were "
        "there before are unchanged",
    )


def _is_full(error):
    # safetensors raises its own error type, with the reason only in its text
    return getattr(error, "errno", None) in _FULL or "No space left" in str(error)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(file, text):
    """Replace a text file atomically, in UTF-8."""
    write_whole(file, lambda path: path.write_text(text, encoding="utf-8"), n_bytes=len(text))
