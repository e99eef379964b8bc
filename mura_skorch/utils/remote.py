"""List and read files of object stores and web servers by their addresses, through fsspec."""

import errno
import io
import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple, TypeGuard

from mura_skorch.utils.progress import PACE, map_in_threads
from mura_skorch.utils.text import short_reason

__all__ = [
    "N_THREADS",
    "FileStat",
    "file_sizes",
    "is_remote",
    "list_files",
    "open_file",
    "stat_files",
]

PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}  # by scheme
WEB = ("http", "https")  # without listings
STARTS = tuple(f"{scheme}://" for scheme in PACKAGES)
N_THREADS = 16  # that read: each waits for the network most of the time
N_SINGLE = 32  # files that are asked for one by one rather than by listing folders
# Folders that are listed instead of the one that holds them all, which may hold much else: at most
# this number, and one for so many files.
MAX_FOLDERS, N_FILES = 32, 50
# Seconds between two attempts. fsspec repeats no request to a web server; s3fs and gcsfs repeat one
# some times, but give up a store that refuses connections within ten seconds.
WAITS = (0.5, 2, 4, 8)
MISSING, DENIED, BUSY = (404, 410), (401, 403), (408, 425, 429)  # HTTP statuses


class FileStat(NamedTuple):
    """What a store says of a file.

    Attributes
    ----------
    size : int
        In bytes; -1 if there is no such file, 0 also if the size is not known.
    tag : str
        Differs when the content does: ETag, digest or time of change.
    digest : str or None
        Equal for equal contents, under any address of the same kind of store.
    """

    size: int
    tag: str
    digest: str | None = None


_log = logging.getLogger(__name__)
_said = -PACE  # when a warning was logged last
# What was listed last in this process: digests of a fit's data ask for no listing of their own.
_seen: dict[str, FileStat] = {}


def is_remote(path: object) -> TypeGuard[str]:
    """Return whether a path is an address that starts with s3://, gs://, https:// or http://."""
    return isinstance(path, str) and path.startswith(STARTS)


def open_file(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file for reading: one on disk, or the complete content of a remote one.

    Parameters
    ----------
    path : path or address

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ImportError
        The package for such addresses is not installed.
    OSError
        The store does not answer or denies access.
    """
    return io.BytesIO(_call(path, "cat_file")) if is_remote(path) else open(path, "rb")


def list_files(folder: str) -> dict[str, FileStat]:
    """Return all files below an address of an object store, from one recursive listing.

    Parameters
    ----------
    folder : str
        An address of s3:// or gs://.

    Returns
    -------
    dict of str to FileStat
        By address; empty if there are none.

    Raises
    ------
    FileNotFoundError, ImportError, OSError
        As `open_file`.
    ValueError
        It is an address of a web server, which lists nothing.
    """
    scheme = folder.partition(":")[0]
    if scheme in WEB:
        raise ValueError(
            f"{folder}: expected a folder on disk or an address of s3:// or gs://, got one of a "
            "web server, which lists no files; make the table of addresses yourself"
        )
    listed = _call(folder, "find", detail=True)
    found = {
        f"{scheme}://{name}": _stat(scheme, info)
        for name, info in listed.items()
        if info.get("type") == "file"
    }
    _seen.update(found)
    return found


def stat_files(paths: Iterable[Any], *, fresh: bool = True) -> dict[str, FileStat]:
    """Return what stores say of the remote files among some paths, in few calls.

    Parameters
    ----------
    paths : iterable
        Paths and addresses. Only addresses are looked up.
    fresh : bool, default=True
        False takes what this process was told last, where it was.

    Returns
    -------
    dict of str to FileStat
        By address.

    Raises
    ------
    ImportError, OSError
        As `open_file`.

    Notes
    -----
    Many files of an object store are found by listing the folders that hold them, at most
    ``MAX_FOLDERS``. A few files, and those of web servers, are asked for one by one, in threads.
    """
    wanted = dict.fromkeys(filter(is_remote, paths))
    unknown = [address for address in wanted if fresh or address not in _seen]
    listed = [address for address in unknown if not address.startswith(("http:", "https:"))]
    if len(listed) > N_SINGLE:
        found: dict[str, FileStat] = {}
        for folder in _folders(listed):
            found |= list_files(folder)
        _seen.update((address, found.get(address, FileStat(-1, ""))) for address in listed)
        unknown = [address for address in unknown if address.startswith(("http:", "https:"))]
    stats = map_in_threads(
        _ask, unknown, desc="find files", unit="file", n_threads=N_THREADS, leave=False, delay=1.0
    )
    _seen.update(zip(unknown, stats, strict=True))
    return {address: _seen[address] for address in wanted}


def file_sizes(paths: Iterable[Any]) -> list[int | None]:
    """Return the sizes of files in bytes, None where a size cannot be found.

    Parameters
    ----------
    paths : iterable
        Paths and addresses, or anything else, of which no size is known.
    """
    paths = list(paths)
    with suppress(ImportError, OSError):
        stat_files(paths, fresh=False)
    return [_size(path) for path in paths]


def _size(path):
    if is_remote(path):
        size = _seen[path].size if path in _seen else -1
        return None if size < 0 else size
    try:
        return os.path.getsize(path)
    except (OSError, TypeError, ValueError):  # of a dataset that does not read files
        return None


def _folders(addresses):
    """Return few folders that together hold all files, as deep as possible."""
    parts = [address.split("/")[:-1] for address in addresses]
    folders = {tuple(own[:3]) for own in parts}  # scheme, nothing, bucket
    most = min(MAX_FOLDERS, 1 + len(parts) // N_FILES)
    for depth in range(4, max(map(len, parts)) + 1):
        deeper = {tuple(own[:depth]) for own in parts}
        if len(deeper) > most:
            break
        folders = deeper
    return sorted("/".join(own) for own in folders)


def _ask(address):
    """Return what a store says of one file."""
    try:
        info = _call(address, "info")
    except FileNotFoundError:
        return FileStat(-1, "")
    is_file = info.get("type") == "file"
    return _stat(address.partition(":")[0], info) if is_file else FileStat(-1, "")


def _stat(scheme, info):
    # Amazon's ETag is a digest of the content, Google's and a web server's need not be.
    digest = info.get({"s3": "ETag", "gs": "md5Hash"}.get(scheme, ""))
    names = ("ETag", "etag", "Content-MD5", "Digest", "LastModified", "updated", "Last-Modified")
    tag = digest or next((info[name] for name in names if info.get(name)), "")
    return FileStat(int(info.get("size") or 0), str(tag).strip('"'), digest)


def _call(address: str, method: str, **options: Any) -> Any:
    """Call a method of the file system of an address, several times if it fails."""
    scheme, _, path = address.partition("://")
    files = _file_system(scheme)
    for wait in (*WAITS, None):
        try:
            return getattr(files, method)(address if scheme in WEB else path, **options)
        except Exception as error:  # of any of the libraries below
            found, is_final = _explained(scheme, address, error)
            if wait is None or is_final:
                raise found from error
            _say(f"{address}: {found.strerror}. Asking again in {wait:g} s")
        time.sleep(wait)
    return None  # for type checkers: the last attempt returns or raises


def _say(text: str) -> None:
    """Log a warning, one a minute: many threads meet the same trouble."""
    global _said
    if time.monotonic() - _said > PACE:
        _said = time.monotonic()
        _log.warning(text)


def _file_system(scheme: str) -> Any:
    """Return the file system of a scheme; its settings are those of fsspec's configuration."""
    try:
        import fsspec

        # Listings must be those of now. s3fs asks for the size first if it may read in parts.
        options = {"max_concurrency": 1} if scheme == "s3" else {}
        return fsspec.filesystem(scheme, use_listings_cache=False, **options)
    except ImportError as error:
        raise ImportError(
            f"expected the package {PACKAGES[scheme]} to read {scheme}:// addresses, got none; "
            "install it: pip install 'mura-skorch[remote]'"
        ) from error


def _explained(scheme: str, address: str, error: Exception) -> tuple[OSError, bool]:
    """Return an error in plain words, and whether another attempt is of no use."""
    cause: BaseException = error
    if isinstance(error, FileNotFoundError) and scheme in WEB:
        # fsspec says so of a web file whatever the reason is.
        cause = error.__cause__ or error
    is_missing = isinstance(cause, FileNotFoundError)
    status = getattr(cause, "status", 0) if scheme in WEB else 0
    if is_missing or status in MISSING:
        text = "expected a bucket, folder or file, got none; check the address and the endpoint"
        return FileNotFoundError(errno.ENOENT, text, address), True
    reason = short_reason(f"{type(cause).__name__}: {cause}")
    is_denied = isinstance(cause, PermissionError) or status in DENIED
    if is_denied or "Credentials" in type(cause).__name__:  # botocore found none
        text = f"expected to be allowed to read it, got {reason}; check the credentials"
        return PermissionError(errno.EACCES, text, address), True
    text = f"expected an answer, got {reason}; check network and credentials, then try again"
    is_final = getattr(cause, "errno", None) == errno.EINVAL or 400 <= status < 500
    return OSError(errno.EIO, text, address), is_final and status not in BUSY
