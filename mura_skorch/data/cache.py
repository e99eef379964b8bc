"""Store prepared views on disk, so that no image is decoded twice.

A cache is a NumPy file, ``224px-<hash>.npy``, and a JSON file of the same name that describes it.
The hash stands for the paths, the transform and the rules by which files are read. Features of
`mura_skorch.features` are stored in the same manner, and are listed and removed here.
"""

import errno
import hashlib
import json
import math
import os
import re
import shutil
import sqlite3
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.lib import format as npy

from mura_skorch.data.images import READING, read_view
from mura_skorch.data.remote_views import RemoteView, RemoteViewStore
from mura_skorch.data.unreadable import find_unreadable
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.intensity import ViewNotes
from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.remote import is_remote, stat_files

__all__ = [
    "CacheFile",
    "cached_unreadable",
    "description_of",
    "fill_cache",
    "fingerprint_of",
    "list_caches",
    "lock_of",
    "make_cache_folder",
    "no_room",
    "read_description",
    "remove_caches",
    "stamps_of",
]

FORMAT = 1  # raise it when the description or the checksum changes
UNREADABLE = "unreadable-"  # first part of the names of the lists of unreadable views
FEATURES = "features-"  # first part of the names of parts of features
REMOTE = "remote-"  # first part of the names of stores of remote views
STORE = ".sqlite"
UNFINISHED = ".unfinished"
LOCK = ".lock"

Stamp = tuple[int, int | str]  # size, and time of change or what a store names instead
# Names of the files that are listed, so that no other file of the folder is ever removed.
OWN_NAME = re.compile(
    r"((\d+px|features-[0-9a-f]{24})-[0-9a-f]{24}\.npy(\.unfinished)?"
    r"|unreadable-[0-9a-f]{24}\.json|remote-[0-9a-f]{24}\.sqlite)"
)


def fill_cache(folder: str | os.PathLike[str], paths: Iterable[str], transform: Any) -> Path:
    """Return the cache file of some images, filled if there is no valid one.

    Parameters
    ----------
    folder : path
        Created if it does not exist. Holds one cache per list of images and transform.
    paths : iterable of str
        Image files or addresses, in the order of the views.
    transform : Prepare
        Applied to each view. Its ``repr`` and ``image_size`` identify it.

    Returns
    -------
    Path
        A NumPy file of shape (n_views, image_size, image_size), uint8.

    Raises
    ------
    OSError
        The disk has too little room; the message says how much is needed and how much is free. Or
        a store does not answer; what was read of it will not be read again.
    ImportError
        The package for an address is not installed.
    FileNotFoundError, ValueError
        An image cannot be read; the message names it.

    Warns
    -----
    UserWarning
        An image has changed since, or the cache is damaged: it is filled again.

    Notes
    -----
    The cache is written under another name and renamed when it is complete and on the disk. A
    second process waits for the first. Each use checks a fingerprint of the images, their sizes
    and times of change, and a checksum of the pixels. Remote files are first read into a store of
    single views, ``remote-<hash>.sqlite``, from which any list of them is cached; what breaks off
    is continued.
    """
    paths = list(paths)
    settings = _settings(transform)
    folder = make_cache_folder(folder)
    file = folder / f"{transform.image_size}px-{_hash_of(paths, settings)}.npy"
    shape = (len(paths), transform.image_size, transform.image_size)
    with FileLock(lock_of(file)):
        stamps = stamps_of(paths)
        fingerprint = fingerprint_of(stamps)
        if file.is_file():
            problem = _problem(file, shape, fingerprint)
            if problem is None:
                os.utime(description_of(file))  # when it was last used
                return file
            warnings.warn(f"{file} {problem}; it is filled again", stacklevel=2)
        if math.prod(shape) > shutil.disk_usage(folder).free:
            raise no_room(file, math.prod(shape))
        with _reader(folder, paths, stamps, transform) as read:
            checksum = _write_views(file, read, shape)
        description = settings | {
            "image_size": transform.image_size,
            "n_views": len(paths),
            "fingerprint": fingerprint,
            "checksum": checksum,
            "paths": [os.fspath(path) for path in paths],
        }
        write_text(description_of(file), json.dumps(description, indent=1))
    return file


def cached_unreadable(
    folder: str | os.PathLike[str], paths: Iterable[str], transform: Any = None
) -> dict[str, str]:
    """Return the views that cannot be read, from a file that is valid until an image changes.

    Parameters
    ----------
    folder : path
        Folder of caches, created if it does not exist.
    paths : iterable of str
        Image files or addresses.
    transform : Prepare, optional
        With it, remote views are prepared and stored, so that `fill_cache` need not read them.

    Returns
    -------
    dict of str to str
        As `mura_skorch.data.find_unreadable` returns it.
    """
    paths = list(paths)
    name = _hash_of(paths, {"format": FORMAT, "reading_rules": READING})
    file = make_cache_folder(folder) / f"{UNREADABLE}{name}.json"
    with FileLock(lock_of(file)):
        stamps = stamps_of(paths)
        fingerprint = fingerprint_of(stamps)
        known = read_description(file)
        if known.get("fingerprint") == fingerprint and isinstance(known.get("reasons"), dict):
            os.utime(file)
            return known["reasons"]
        remote = _remote_views(paths, stamps) if transform is not None else []
        if remote:
            with _open_store(file.parent, len(remote), transform) as store:
                reasons = store.read(remote, keep_going=True)
            reasons |= find_unreadable(path for path in paths if not is_remote(path))
        else:
            reasons = find_unreadable(paths)
        found = {"fingerprint": fingerprint, "reasons": reasons, "paths": list(map(str, paths))}
        write_text(file, json.dumps(found, indent=1))
    return reasons


# ---------------------------------------------------------- list and remove files


@dataclass(frozen=True)
class CacheFile:
    """A cache in a folder.

    Attributes
    ----------
    file : Path
        The NumPy file, or the list of unreadable views.
    n_bytes : int
        Size on disk, with its description.
    n_views : int or None
        Number of views; None if it is not known.
    last_used : float
        Seconds since 1970.
    problem : str or None
        Why it will not be used again: "images have changed", "images are gone", "unfinished",
        "damaged" or "other reading rules". None if it can be used. Whether remote images have
        changed is not asked for here.
    """

    file: Path
    n_bytes: int
    n_views: int | None
    last_used: float
    problem: str | None


def list_caches(folder: str | os.PathLike[str]) -> list[CacheFile]:
    """Return the caches in a folder, the one used last first.

    Parameters
    ----------
    folder : path
        Folder that was passed as ``dataset__cache``.

    Returns
    -------
    list of CacheFile

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"expected a folder of caches, got {folder}, which is none; pass the folder that was "
            "used as dataset__cache"
        )
    files = [file for file in folder.iterdir() if OWN_NAME.fullmatch(file.name)]
    return sorted(map(_describe, files), key=lambda cache: -cache.last_used)


def remove_caches(
    folder: str | os.PathLike[str], *, unused_days: float | None = None, all_files: bool = False
) -> list[CacheFile]:
    """Remove the caches of a folder that will not be used again.

    Parameters
    ----------
    folder : path
        Folder that was passed as ``dataset__cache``.
    unused_days : float or None, default=None
        Also remove caches that were not used for this many days.
    all_files : bool, default=False
        Remove every cache.

    Returns
    -------
    list of CacheFile
        What was removed. A cache that another process is filling stays.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    """
    removed = []
    for cache in list_caches(folder):
        is_old = unused_days is not None and time.time() - cache.last_used > unused_days * 86400
        if not (all_files or is_old or cache.problem):
            continue
        with _lock_if_free(cache.file) as is_free:
            if is_free:
                cache.file.unlink(missing_ok=True)
                description_of(cache.file).unlink(missing_ok=True)
                Path(f"{cache.file}-journal").unlink(missing_ok=True)  # of a killed process
                removed.append(cache)
    return removed


@contextmanager
def _lock_if_free(file: Path) -> Iterator[bool]:
    """Give whether no other process holds a cache, and hold it."""
    lock = FileLock(lock_of(file))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _describe(file: Path) -> CacheFile:
    description = description_of(file)
    about = read_description(description)
    paths = about.get("paths")
    used = description if description.is_file() else file
    n_bytes = sum(part.stat().st_size for part in {file, description} if part.is_file())
    n_views = len(paths) if isinstance(paths, list) else about.get("n_views")
    return CacheFile(file, n_bytes, n_views, used.stat().st_mtime, _why_unused(file, about, paths))


def _why_unused(file: Path, about: dict[str, Any], paths: Any) -> str | None:
    if file.suffix == UNFINISHED:
        return "unfinished"
    if not isinstance(paths, list) and (file.suffix != STORE or not about):
        return "damaged"
    if about.get("reading_rules", READING) != READING or about.get("format", FORMAT) != FORMAT:
        return "other reading rules"
    if file.suffix == STORE or any(map(is_remote, paths)):
        return None
    if not any(map(os.path.exists, paths)):
        return "images are gone"
    found = fingerprint_of(stamps_of(paths))
    return None if about.get("fingerprint") == found else "images have changed"


# ------------------------------------------------------------------- the files


def make_cache_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the absolute path of a folder of caches, made if it is missing."""
    folder = Path(folder).expanduser().resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def lock_of(file: Path) -> str:
    """Return the lock of a cache, or the one of all features of a network."""
    name = file.name.removesuffix(UNFINISHED)
    if name.startswith(FEATURES):
        name = "-".join(name.split("-")[:2])
    return f"{file.with_name(name)}{LOCK}"


def description_of(file: Path) -> Path:
    """Return the JSON file that describes a cache."""
    return file if file.suffix == UNFINISHED else file.with_suffix(".json")


def _hash_of(paths: list[str], settings: dict[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True).encode() + b"\0"
    return hashlib.sha256(text + b"\0".join(map(os.fsencode, paths))).hexdigest()[:24]


def stamps_of(paths: Iterable[str]) -> list[Stamp]:
    """Return what tells whether files have changed.

    Parameters
    ----------
    paths : iterable of str
        Files or addresses.

    Returns
    -------
    list of tuple
        For each file, its size in bytes and its time of change in ns; for a remote one, what its
        store names instead, such as an ETag. The size of a missing file is -1.
    """
    paths = list(paths)
    remote = stat_files(paths)
    return [remote[path][:2] if path in remote else _stamp(path) for path in paths]


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return -1, -1  # reading it raises the error that names it
    return found.st_size, found.st_mtime_ns


def fingerprint_of(stamps: Iterable[Stamp]) -> str:
    """Return a digest of what `stamps_of` returns."""
    digest = hashlib.sha256()
    for size, changed in stamps:
        digest.update(b"missing;" if size < 0 else f"{size},{changed};".encode())
    return digest.hexdigest()


def read_description(file: Path) -> dict[str, Any]:
    """Return what a JSON file holds, or nothing if it is missing or damaged."""
    try:
        found = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _problem(file: Path, shape: tuple[int, ...], fingerprint: str) -> str | None:
    """Return why a cache file cannot be used, or None."""
    about = read_description(description_of(file))
    try:
        views = npy.open_memmap(file, mode="r")
    except (OSError, ValueError):
        return "is truncated or not a cache"
    if views.shape != shape or views.dtype != np.uint8 or "checksum" not in about:
        return "is truncated or not a cache"
    if about.get("fingerprint") != fingerprint:
        return "is of images that have changed since"
    if about["checksum"] != _join_checksums(map(zlib.crc32, np.asarray(views))):
        return "is damaged"
    return None


def _settings(transform: Any) -> dict[str, Any]:
    """Return what prepared views depend on but for their files."""
    return {"format": FORMAT, "reading_rules": READING, "transform": repr(transform)}


def _remote_views(paths: list[str], stamps: list[Stamp]) -> list[RemoteView]:
    return [
        (path, size, str(tag))
        for path, (size, tag) in zip(paths, stamps, strict=True)
        if is_remote(path)
    ]


@contextmanager
def _open_store(folder: Path, n_views: int, transform: Any) -> Iterator[RemoteViewStore]:
    """Open the store of remote views in a folder of caches, for a number of views."""
    settings = _settings(transform)
    file = folder / f"{REMOTE}{_hash_of([], settings)}{STORE}"
    try:
        with RemoteViewStore(file, transform, settings) as store:
            yield store
    except sqlite3.OperationalError as error:
        if "full" in str(error):
            raise no_room(file, n_views * transform.image_size**2) from error
        raise


@contextmanager
def _reader(
    folder: Path, paths: list[str], stamps: list[Stamp], transform: Any
) -> Iterator[Callable[[int], Any]]:
    """Yield what returns a prepared view by its number; remote ones have been read by then."""
    notes = ViewNotes()

    def read_file(number: int) -> Any:
        return transform(read_view(paths[number], note=notes))

    remote = {view[0]: view for view in _remote_views(paths, stamps)}
    if not remote:
        yield read_file
        return
    with _open_store(folder, len(remote), transform) as store:
        store.read(remote.values())

        def read(number: int) -> Any:
            view = remote.get(paths[number])
            return read_file(number) if view is None else store[view]

        yield read


def _write_views(file: Path, read: Callable[[int], Any], shape: tuple[int, int, int]) -> int:
    """Write the prepared views to a new file, give it its name and return its checksum."""
    unfinished = Path(f"{file}{UNFINISHED}")
    n_bytes = shape[1] * shape[2]
    try:
        with unfinished.open("wb") as opened:
            about = {"descr": "|u1", "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(opened, about)
            start = opened.tell()

        # Written, not mapped: on a full disk a write raises, a memory map ends the process.
        def write_view(number: int) -> int:
            view = read(number)
            with unfinished.open("r+b") as opened:
                opened.seek(start + number * n_bytes)
                opened.write(view)
            return zlib.crc32(view)

        checksums = map_in_threads(write_view, range(shape[0]), desc="cache", unit="view")
        with unfinished.open("r+b") as complete:
            os.fsync(complete.fileno())
        unfinished.replace(file)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise no_room(file, math.prod(shape)) from error
        raise
    finally:
        unfinished.unlink(missing_ok=True)
    return _join_checksums(checksums)


def _join_checksums(checksums: Iterable[int]) -> int:
    """Return one checksum for those of all views."""
    return zlib.crc32(np.fromiter(checksums, dtype="<u4").tobytes())


def no_room(file: Path, needed: int, parameter: str = "dataset__cache") -> OSError:
    """Return the error for a disk with too little room.

    Parameters
    ----------
    file : Path
        File to write.
    needed : int
        Its size in bytes.
    parameter : str, default="dataset__cache"
        The parameter that names the folder.
    """
    free = shutil.disk_usage(file.parent).free
    return OSError(
        errno.ENOSPC,
        f"expected {needed / 1e9:.2f} GB of free disk for the cache, got "
        f"{free / 1e9:.2f} GB; free some, or pass another folder as {parameter}",
        str(file),
    )
