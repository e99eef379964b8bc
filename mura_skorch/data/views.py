"""Where the views of a dataset come from: image files, a cache, or arrays in memory."""

import os
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np

from mura_skorch.data.cache import fill_cache
from mura_skorch.data.images import read_view
from mura_skorch.data.transforms import Prepare
from mura_skorch.utils.intensity import ViewNotes
from mura_skorch.utils.remote import is_remote
from mura_skorch.utils.text import printable

__all__ = ["ArrayViews", "CachedViews", "FileViews", "PackedPaths", "Views"]


class Views(Protocol):
    """Source of prepared views, numbered in the order of the study table.

    Attributes
    ----------
    is_decoded : bool
        Whether reading a view costs no decoding, so that loader workers gain nothing.
    """

    is_decoded: bool

    def __len__(self) -> int:
        """Return the number of views."""

    def __getitem__(self, part: slice) -> np.ndarray:
        """Return new arrays of shape (n_views, image_size, image_size), uint8."""

    def prepare(self) -> None:
        """Do once what reading needs, such as filling a cache."""


def refuse_remote(paths: Iterable[str]) -> None:
    """Raise ValueError if a path is an address such as s3://bucket/image1.png."""
    if remote := next(filter(is_remote, paths), None):
        raise ValueError(
            "expected dataset__cache, a folder for views that are not on a disk, got None for "
            f"{printable(remote)}; pass dataset__cache='cache' to MuraClassifier or load, or "
            "--cache to a script: each view is read once"
        )


class FileViews:
    """Views that are decoded from their files each time they are read.

    Parameters
    ----------
    paths : iterable of str
        Image files.
    image_size : int, default=224
        Height and width of a prepared view, in pixels.

    Raises
    ------
    ValueError
        A path is an address such as s3://bucket/image1.png: such files are read once, into a cache,
        and never by loader workers.
    FileNotFoundError, ValueError
        When a view is read that cannot be, see `mura_skorch.data.read_view`.
    """

    is_decoded = False

    def __init__(self, paths: Iterable[str], image_size: int = 224) -> None:
        self.paths = PackedPaths(paths)
        refuse_remote(self.paths)
        self.transform = Prepare(image_size)
        self.notes = ViewNotes()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, part: slice) -> np.ndarray:
        paths = (self.paths[number] for number in range(*part.indices(len(self))))
        return np.stack([self.transform(read_view(path, note=self.notes)) for path in paths])

    def prepare(self) -> None:
        """Do nothing."""


class CachedViews:
    """Views in a memory-mapped cache file that all processes share.

    Parameters
    ----------
    folder : path
        Folder of caches, created if it does not exist.
    paths : iterable of str
        Image files, or addresses of s3://, gs:// and https://.
    image_size : int, default=224
        Height and width of a prepared view, in pixels.

    Attributes
    ----------
    file : Path or None
        The cache file; None before `prepare`.
    array : memmap of shape (n_views, image_size, image_size), uint8, or None
        The views, read-only; None before `prepare`.

    See Also
    --------
    mura_skorch.data.fill_cache : The file, when it is filled again, and the errors.
    """

    is_decoded = True

    def __init__(
        self, folder: str | os.PathLike[str], paths: Iterable[str], image_size: int = 224
    ) -> None:
        self.folder = folder
        self.paths = PackedPaths(paths)
        self.transform = Prepare(image_size)
        self.file: Any = None
        self.array: Any = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, part: slice) -> np.ndarray:
        if self.array is None:
            raise RuntimeError(
                "expected a filled cache, got one that is not open; call prepare() first"
            )
        return np.array(self.array[part])

    def prepare(self) -> None:
        """Fill the cache, unless a valid one exists, and open it."""
        if self.array is None:
            self.file = fill_cache(self.folder, self.paths, self.transform)
            self._open()

    def _open(self) -> None:
        self.array = np.lib.format.open_memmap(self.file, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pixels out: another process opens the file."""
        return vars(self) | {"array": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self.file is not None:
            self._open()


class ArrayViews:
    """Prepared views that are in memory.

    Parameters
    ----------
    array : ndarray of shape (n_views, image_size, image_size), uint8
        The views.

    Examples
    --------
    >>> ArrayViews(np.zeros((3, 8, 8), dtype=np.uint8))[1:].shape
    (2, 8, 8)
    """

    is_decoded = True

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, part: slice) -> np.ndarray:
        return np.array(self.array[part])

    def prepare(self) -> None:
        """Do nothing."""


class PackedPaths(Sequence):
    """Paths in one array of bytes, read one at a time as str.

    Loader workers share the array. A list of str would be copied page by page, because reading it
    changes reference counts. Offsets keep one long path from widening the others.

    Parameters
    ----------
    paths : iterable of str or path-like
    """

    def __init__(self, paths):
        encoded = [os.fsencode(path) for path in paths]
        self.ends = np.cumsum([0, *map(len, encoded)])
        self.characters = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"expected a view from 0 to {len(self) - 1}, got {index}")
        return os.fsdecode(self.characters[self.ends[index] : self.ends[index + 1]].tobytes())
