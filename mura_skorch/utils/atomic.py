"""Whole files: a path and its writer go in; the old file or the new one is there, never half."""

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
    """Write under another name in the same folder, then rename.

    Parameters
    ----------
    file : path
        Replaced where it exists.
    write : callable
        Takes the path to write.
    n_bytes : int, optional
        About how many bytes it writes, to name them where the disk is full.
    flush : bool, default=False
        Wait until the disk has it, so that not even a power cut loses both.

    Raises
    ------
    OSError
        The disk is full, among others; the old file stands.
    """
    file = Path(file)
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        unfinished.touch()
        mode = unfinished.stat().st_mode  # the umask's, which some writers do not mind
        write(unfinished)
        if unfinished.stat().st_mode != mode:
            with suppress(OSError):  # not every file system has modes
                unfinished.chmod(mode)
        if flush:
            _flush(unfinished)
        unfinished.replace(file)
        if flush:
            _flush(file.parent)
    except Exception as error:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _CLOSED:
            raise _closed(file.parent, f"write {file.name}", error) from error
        if not _is_full(error):
            raise
        raise _full(file.parent, n_bytes, f"write {file.name}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


@contextmanager
def whole_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder to write to, whose files then replace those of `folder`, each of them whole.

    Where the block ends in an exception, what it wrote is kept, too.

    Parameters
    ----------
    folder : path
        Made where it is missing.

    Raises
    ------
    OSError
        The disk has too little room, of which it says how much, and for how much; `folder` is as
        it was.
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
    """Make a folder, and those it is in, where they are missing.

    Raises
    ------
    OSError
        Nobody may write there, among others.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _CLOSED:
            raise _closed(folder, "make it", error) from error
        raise


def check_writable(folder: str | os.PathLike[str]) -> None:
    """Raise an OSError where a folder cannot be written or made; nothing is made."""
    path = Path(folder).absolute()
    place = next(parent for parent in (path, *path.parents) if parent.exists())
    if not os.access(place, os.W_OK):
        error = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise _closed(folder, "write there", error)


def _closed(folder, what, error):
    return OSError(
        error.errno,
        f"expected a folder that can be written to {what}, got {folder} ({error.strerror}); pass "
        "another",
    )


def _full(folder, n_bytes, what):
    needed = "more" if n_bytes is None else f"{n_bytes:,}"
    return OSError(
        errno.ENOSPC,
        f"expected {needed} bytes free in {folder} to {what}, got "
        f"{shutil.disk_usage(folder).free:,}; make room, or write elsewhere. What was there "
        "before is whole",
    )


def _is_full(error):
    # safetensors writes by itself, and says why only in words
    return getattr(error, "errno", None) in _FULL or "No space left" in str(error)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(file, text):
    """Write a text file that is whole at every moment."""
    write_whole(file, lambda path: path.write_text(text, encoding="utf-8"), n_bytes=len(text))
