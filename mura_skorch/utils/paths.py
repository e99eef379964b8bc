"""Detect path traversal: paths and names that lead out of a folder."""

import os
import re
from collections.abc import Iterable

__all__ = ["is_name", "is_unsafe_path", "paths_outside"]


def is_name(text: str) -> bool:
    """Return whether a text is the name of a file or folder, and no path.

    Parameters
    ----------
    text : str

    Returns
    -------
    bool

    Examples
    --------
    >>> [is_name(text) for text in ("member_0", "", "..", "a/b")]
    [True, False, False, False]
    """
    return text not in ("", ".", "..") and os.path.basename(text) == text


_ABSOLUTE = re.compile(r"[\\/~]|[A-Za-z]:")


def is_unsafe_path(text: str) -> bool:
    r"""Return whether a path is absolute or contains "..", by the rules of Linux or Windows.

    Parameters
    ----------
    text : str
        A path with slashes or backslashes, such as a row of a CSV file.

    Returns
    -------
    bool

    Examples
    --------
    >>> [is_unsafe_path(text) for text in ("MURA-v1.1/train/a", "/etc/a", "C:\\a", "train/../../a")]
    [False, True, True, True]
    """
    text = text.strip()
    return bool(_ABSOLUTE.match(text)) or ".." in text.replace("\\", "/").split("/")


def paths_outside(
    root: str | os.PathLike[str], paths: Iterable[str | os.PathLike[str]]
) -> list[str]:
    """Return the paths that are outside a folder after all links are resolved.

    Parameters
    ----------
    root : path
        The folder, or a link to it.
    paths : iterable of path
        The paths to check.

    Returns
    -------
    list of str

    Examples
    --------
    >>> paths_outside("/data/MURA", ["/data/MURA/train", "/data/MURA/../secret"])
    ['/data/MURA/../secret']
    """
    top = os.path.join(os.path.realpath(root), "")
    places = ((os.fspath(path), os.path.realpath(path)) for path in paths)
    return [path for path, place in places if not os.path.join(place, "").startswith(top)]
