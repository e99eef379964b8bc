"""Whole files: a path and its writer go in; the old file or the new one is there, never half."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

__all__ = ["write_whole"]

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
        write(unfinished)
        if flush:
            _flush(unfinished)
        unfinished.replace(file)
        if flush:
            _flush(file.parent)
    except Exception as error:
        unfinished.unlink(missing_ok=True)
        if not _is_full(error):
            raise
        needed = "more" if n_bytes is None else f"{n_bytes:,}"
        raise OSError(
            errno.ENOSPC,
            f"expected {needed} bytes free to write {file}, got "
            f"{shutil.disk_usage(file.parent).free:,}; make room, or write elsewhere"
            + (". The file of before is whole" if file.exists() else ""),
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)


def _is_full(error):
    # safetensors writes by itself, and says why only in words
    return getattr(error, "errno", None) in _FULL or "No space left" in str(error)


def _flush(path):
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
