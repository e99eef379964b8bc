"""Places: a root and paths go in, those that leave the root come out."""

import os
import re
from collections.abc import Iterable

__all__ = ["leaving", "outside"]


def leaving(text: str) -> bool:
    r"""Return whether a path of a table is absolute or climbs, as on Linux or as on Windows.

    Parameters
    ----------
    text : str
        With slashes or backslashes.

    Examples
    --------
    >>> [leaving(text) for text in ("MURA-v1.1/train/a", "/etc/a", "C:\\a", "train/../../a")]
    [False, True, True, True]
    """
    text = text.strip()
    return bool(re.match(r"[\\/~]|[A-Za-z]:", text)) or ".." in re.split(r"[\\/]", text)


def outside(root: str | os.PathLike[str], paths: Iterable[str | os.PathLike[str]]) -> list[str]:
    """Return the paths that lie outside a folder once all links are followed.

    Parameters
    ----------
    root : path
        May be a link itself.
    paths : iterable of path

    Returns
    -------
    list of str

    Examples
    --------
    >>> outside("/data/MURA", ["/data/MURA/train", "/data/MURA/../secret"])
    ['/data/MURA/../secret']
    """
    top = os.path.join(os.path.realpath(root), "")
    places = ((os.fspath(path), os.path.realpath(path)) for path in paths)
    return [path for path, place in places if not os.path.join(place, "").startswith(top)]
