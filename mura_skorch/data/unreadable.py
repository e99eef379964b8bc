"""Find views that cannot be read, and drop them from study tables.

A study keeps its readable views. A study without a readable view is dropped.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.data.images import read_view
from mura_skorch.utils.intensity import Note, ViewNotes
from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.text import printable

__all__ = [
    "check_none_lost",
    "collect_unreadable",
    "drop_unreadable",
    "find_unreadable",
    "insert_nan",
    "list_unreadable",
    "warn_unreadable",
]

COLUMNS = ["row", "study", "view", "file", "reason", "study_left_out"]


def find_unreadable(paths: Iterable[str]) -> dict[str, str]:
    """Decode image files in threads and return those that cannot be read.

    Parameters
    ----------
    paths : iterable of str
        Image files; a path that occurs several times is read once.

    Returns
    -------
    dict of str to str
        The path of each file that is missing, damaged or no image, and the reason. The reason does
        not contain the path.

    Raises
    ------
    OSError, ImportError, MemoryError
        Access is denied, a package is missing, or memory ran out: the image is not to blame.
    """
    paths = list(dict.fromkeys(paths))
    reason_of = partial(_reason, note=ViewNotes())
    reasons = map_in_threads(reason_of, paths, desc="check", unit="view")
    return {path: reason for path, reason in zip(paths, reasons, strict=True) if reason is not None}


def drop_unreadable(
    studies: pd.DataFrame, reasons: Mapping[str, str]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a study table without unreadable views, and the list of what was dropped.

    Parameters
    ----------
    studies : DataFrame
        A checked study table. Never modified.
    reasons : dict of str to str
        Unreadable files and the reasons, as `find_unreadable` returns them.

    Returns
    -------
    studies : DataFrame
        Without the unreadable views, and without the studies that have no others.
    bad_views : DataFrame
        One row per unreadable view: ``row`` of the study in the given table, from 0; ``study``, its
        key, or the table's index if it has none; ``view``, its number in the study, from 1;
        ``file``, its name without the folder; ``reason``; ``study_left_out``.

    Raises
    ------
    ValueError
        No view can be read.

    Examples
    --------
    >>> studies = pd.DataFrame({"study": ["s", "t"], "views": [("a", "b"), ("c",)]})
    >>> kept, bad_views = drop_unreadable(studies, {"a": "got zero bytes", "c": "got zero bytes"})
    >>> kept
      study views
    0     s  (b,)
    >>> bad_views[["study", "view", "file", "study_left_out"]]
      study  view file  study_left_out
    0     s     1    a           False
    1     t     1    c            True
    """
    keys = studies.get("study", studies.index)
    views = [tuple(path for path in own if path not in reasons) for own in studies["views"]]
    found = [
        (row, key, number, printable(os.path.basename(path)), reasons[path], not kept)
        for row, (key, own, kept) in enumerate(zip(keys, studies["views"], views, strict=True))
        for number, path in enumerate(own, start=1)
        if path in reasons
    ]
    table = pd.DataFrame(found, columns=COLUMNS)
    if not found:
        return studies, table
    is_kept = np.array([len(own) > 0 for own in views])
    if not is_kept.any():
        raise ValueError(
            f"expected readable views, got none among {len(table):,}:"
            f"{list_unreadable(table)}\nCheck whether the disk of the images is mounted"
        )
    return studies.assign(views=np.fromiter(views, object, len(views)))[is_kept], table


def collect_unreadable(datasets: Iterable[Any], max_share: float) -> pd.DataFrame:
    """Return the views that datasets have dropped, and warn about them.

    Parameters
    ----------
    datasets : iterable of StudyDataset
        Made with ``on_bad_view="skip"`` and prepared; one that occurs twice counts once.
    max_share : float
        Largest share of the views of a dataset that may be dropped, from 0 to 1.

    Returns
    -------
    DataFrame
        As `drop_unreadable` returns it, of all datasets.

    Raises
    ------
    ValueError
        A dataset has dropped more.

    Warns
    -----
    UserWarning
        Views were dropped.
    """
    if not 0 <= max_share <= 1:
        raise ValueError(f"expected max_bad_share from 0 to 1, got {max_share!r}")
    tables = []
    for dataset in {id(dataset): dataset for dataset in datasets}.values():
        tables.append(dataset.bad_views)
        n_bad = len(dataset.bad_views)
        n_views = n_bad + int(dataset.n_views.sum())
        if n_bad > max_share * n_views:
            raise ValueError(
                f"expected at most {max_share:.2%} of the views to be unreadable, got {n_bad:,} of "
                f"{n_views:,} ({n_bad / n_views:.2%}):{list_unreadable(dataset.bad_views)}\n"
                "Repair the files, or raise max_bad_share"
            )
    bad_views = pd.concat(tables, ignore_index=True)
    warn_unreadable(bad_views)
    return bad_views


def check_none_lost(bad_views: pd.DataFrame) -> None:
    """Raise ValueError if a study has no readable view.

    Parameters
    ----------
    bad_views : DataFrame
        As `drop_unreadable` returns it.
    """
    lost = bad_views[bad_views["study_left_out"]]
    if len(lost):
        raise ValueError(
            "expected a readable view of every study, got none of "
            f"{lost['row'].nunique():,}:{list_unreadable(lost)}\nRepair the files, or drop these "
            "studies: no probability can be given"
        )


def warn_unreadable(bad_views: pd.DataFrame) -> None:
    """Warn about dropped views, if there are any.

    Parameters
    ----------
    bad_views : DataFrame
        As `drop_unreadable` returns it.
    """
    if len(bad_views):
        n_studies = bad_views["study"][bad_views["study_left_out"]].nunique()
        warnings.warn(
            f"{len(bad_views):,} unreadable views are left out, and {n_studies:,} studies without "
            f"others:{list_unreadable(bad_views)}",
            stacklevel=4,
        )


def list_unreadable(bad_views: pd.DataFrame, max_named: int = 5) -> str:
    """Return a text that names the first unreadable views, one a line.

    Parameters
    ----------
    bad_views : DataFrame
        As `drop_unreadable` returns it.
    max_named : int, default=5
        How many to name.
    """
    named = [
        f"\n  {row.study}, view {row.view} ({row.file}): {row.reason}"
        for row in bad_views[:max_named].itertuples()
    ]
    rest = len(bad_views) - max_named
    return "".join(named) + (f"\n  ... and {rest:,} more" if rest > 0 else "")


def insert_nan(arrays: Sequence[np.ndarray], bad_views: pd.DataFrame | None) -> list[np.ndarray]:
    """Insert NaN at the places of dropped views.

    Parameters
    ----------
    arrays : sequence of ndarray of shape (n_read_views, ...), float
        One array per study, with a value for each view that was read.
    bad_views : DataFrame or None
        As `drop_unreadable` returns it, without dropped studies. None inserts nothing.

    Returns
    -------
    list of ndarray of shape (n_views, ...)

    Examples
    --------
    >>> bad_views = pd.DataFrame({"row": [0], "view": [1]})
    >>> insert_nan([np.array([0.5]), np.array([0.25])], bad_views)
    [array([nan, 0.5]), array([0.25])]
    """
    filled = list(arrays)
    # The numbers of a study ascend: what is inserted first moves no later place.
    for row, number in () if bad_views is None else bad_views[["row", "view"]].to_numpy():
        filled[row] = np.insert(filled[row], number - 1, np.nan, axis=0)
    return filled


def _reason(path: str, note: Note) -> str | None:
    """Return why an image cannot be read, or None."""
    try:
        read_view(path, note=note)
    except (FileNotFoundError, ValueError) as error:
        return str(error).removeprefix(f"{printable(path)}: ")
    return None
