"""Cache: image paths and their preparation go in, one memory-mapped file of views comes out."""

import errno
import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from mura_skorch.data.images import READING, read_view
from mura_skorch.utils.intensity import ViewNotes
from mura_skorch.utils.progress import progress_bar

__all__ = ["ViewCache", "remembered"]

HEADER_BYTES = 512  # a line of JSON, padded; the pixels start behind it
FORMAT = "mura_skorch views 1"  # another layout of the file gets another number
BLOCK = 256  # views that are prepared, written and checked at a time


class ViewCache:
    """Prepared views of a table in one file, filled at the first use and shared by all processes.

    Parameters
    ----------
    folder : path
        Made where it is missing. Holds one file per table and preparation.
    paths : sequence of str
        Image files, in the order of the views.
    prepare : Prepare
        What is done to each view; its ``repr`` and `image_size` are part of the file's name.

    Attributes
    ----------
    file : Path
        The cache's file.
    views : memmap of shape (n_views, image_size, image_size), uint8
        Read-only; pages are read as they are needed and shared between processes.

    Raises
    ------
    OSError
        If the disk has too little room; says how much is needed and how much is free.
    FileNotFoundError, ValueError
        If an image cannot be read; names it.

    Notes
    -----
    The file's name stands for the paths, the preparation and the rules by which files are read; its
    header holds a digest of the
    images' sizes and times of change, and a checksum of the pixels. A file whose images have
    changed, or that is damaged, is filled again. It is written under another name and renamed when
    it is whole and on the disk. A second process waits for the first.
    """

    def __init__(self, folder: str | os.PathLike[str], paths: Iterable[str], prepare: Any) -> None:
        paths = list(paths)
        self.shape = (len(paths), prepare.image_size, prepare.image_size)
        folder = Path(folder).expanduser().resolve()
        folder.mkdir(parents=True, exist_ok=True)
        rules = f"{READING} {prepare!r}".encode()
        name = hashlib.sha256(rules + b"\0".join(map(os.fsencode, paths)))
        self.file = folder / f"{prepare.image_size}px-{name.hexdigest()[:24]}.views"
        with FileLock(f"{self.file}.lock"):
            state = _state_of(paths)
            if not self._is_whole(state):
                self._fill(paths, prepare, state)
        self.views = self._open()

    def __getstate__(self):
        """Leave the pixels out: another process opens the file."""
        return {name: value for name, value in vars(self).items() if name != "views"}

    def __setstate__(self, state):
        vars(self).update(state)
        self.views = self._open()

    def _open(self):
        return np.memmap(self.file, np.uint8, mode="r", offset=HEADER_BYTES, shape=self.shape)

    def _is_whole(self, state):
        """Return whether the file is there, of these images as they are now, and undamaged."""
        if not self.file.is_file():
            return False
        header, reason = _read_header(self.file), None
        expected = HEADER_BYTES + int(np.prod(self.shape))
        if header is None or self.file.stat().st_size != expected:
            reason = "is truncated or no cache"
        elif header["state"] != state:
            reason = "is of images that have changed since"
        elif header["checksum"] != _checksum(self._open()):
            reason = "is damaged"
        if reason:
            warnings.warn(f"{self.file} {reason}; it is filled again", stacklevel=4)
        return reason is None

    def _fill(self, paths, prepare, state):
        """Prepare all views into a new file, and give it its name once it is whole."""
        needed = HEADER_BYTES + int(np.prod(self.shape))
        free = shutil.disk_usage(self.file.parent).free
        if needed > free:
            raise _no_room(self.file, needed, free)
        draft = self.file.with_suffix(f".{os.getpid()}")
        try:
            with draft.open("wb") as file:
                file.write(b" " * HEADER_BYTES)
                checksum = _write_views(file, paths, prepare)
                header = {"format": FORMAT, "state": state, "checksum": checksum}
                file.seek(0)
                file.write(json.dumps(header).encode())
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self.file)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                free = shutil.disk_usage(self.file.parent).free
                raise _no_room(self.file, needed, free) from error
            raise
        finally:
            draft.unlink(missing_ok=True)


def remembered(
    folder: str | os.PathLike[str],
    paths: Iterable[str],
    find: Callable[[list[str]], dict[str, str]],
) -> dict[str, str]:
    """Return what is found of images, kept in a file until one of them changes.

    Parameters
    ----------
    folder : path
        Made where it is missing.
    paths : iterable of str
        Image files.
    find : callable
        Returns texts by path, such as `mura_skorch.data.find_bad_views`.

    Returns
    -------
    dict of str to str
    """
    paths = list(paths)
    folder = Path(folder).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    rules = f"{READING} ".encode()
    name = hashlib.sha256(rules + b"\0".join(map(os.fsencode, paths))).hexdigest()[:24]
    file = folder / f"{find.__name__}-{name}.json"
    with FileLock(f"{file}.lock"):
        state = _state_of(paths)
        try:
            known = json.loads(file.read_text("utf-8"))
            if known["state"] == state:
                return dict(known["found"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not there, of another state, or damaged: it is made again
        found = find(paths)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"state": state, "found": found}), "utf-8")
        draft.replace(file)
    return found


def _write_views(file, paths, prepare):
    """Write the prepared views in order, and return their checksum."""
    notes = ViewNotes()

    def prepared(path):
        return prepare(read_view(path, note=notes))

    checksum = 0
    bar = progress_bar(len(paths), desc="cache", unit="view")
    # Threads suffice: decoding and scaling release the lock.
    with bar, ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), BLOCK):
            block = paths[start : start + BLOCK]
            pixels = np.stack(list(pool.map(prepared, block)))
            checksum = zlib.crc32(pixels.data, checksum)
            file.write(pixels)
            bar.update(len(block))
    return checksum


def _state_of(paths):
    """Return a digest of the sizes and times of change of the images."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = os.stat(path)
            digest.update(f"{found.st_size},{found.st_mtime_ns};".encode())
        except FileNotFoundError:
            digest.update(b"missing;")  # the error that names it comes with the reading
    return digest.hexdigest()


def _read_header(file):
    """Return the header of a cache, None of anything else."""
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(HEADER_BYTES))
        return header if header["format"] == FORMAT else None
    except (ValueError, KeyError, TypeError):
        return None


def _checksum(views):
    checksum = 0
    for start in range(0, len(views), BLOCK):
        checksum = zlib.crc32(views[start : start + BLOCK], checksum)
    return checksum


def _no_room(file, needed, free):
    return OSError(
        errno.ENOSPC,
        f"expected {needed / 1e9:.2f} GB of free disk for the cache of prepared views, got "
        f"{free / 1e9:.2f} GB; free some, or pass another folder as dataset__cache",
        str(file),
    )
