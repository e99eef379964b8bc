"""Bad views: study tables go in, the tables without unreadable views and a list of these come out.

A study keeps the views that can be read; a study none of whose views can be read is left out.
"""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.data.images import read_view
from mura_skorch.utils.intensity import Note, ViewNotes
from mura_skorch.utils.progress import progress_bar
from mura_skorch.utils.text import printable

__all__ = [
    "check_none_lost",
    "count_bad_views",
    "find_bad_views",
    "leave_out",
    "list_bad_views",
    "tell_bad_views",
    "with_gaps",
]

BLOCK = 256  # views that wait for a thread at a time
COLUMNS = ["row", "study", "view", "file", "reason", "study_left_out"]


def find_bad_views(paths: Iterable[str]) -> dict[str, str]:
    """Decode image files, in threads, and return those that cannot be read with the reason.

    Parameters
    ----------
    paths : iterable of str
        Image files; a path that occurs several times is read once.

    Returns
    -------
    dict of str to str
        Path and reason of each file that is missing, damaged or no image. The reason does not name
        the path.

    Raises
    ------
    OSError, ImportError, MemoryError
        A file may not be read, or what reads it is not installed, or memory ran out: no fault of
        the picture.
    """
    paths = list(dict.fromkeys(paths))
    bad = {}
    reason_of = partial(_reason, note=ViewNotes())
    with ThreadPoolExecutor() as pool, progress_bar(len(paths), desc="check", unit="view") as bar:
        for start in range(0, len(paths), BLOCK):
            block = paths[start : start + BLOCK]
            for path, reason in zip(block, pool.map(reason_of, block), strict=True):
                if reason is not None:
                    bad[path] = reason
            bar.update(len(block))
    return bad


def leave_out(studies: pd.DataFrame, bad: Mapping[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a study table without bad views, and the list of what is left out.

    Parameters
    ----------
    studies : DataFrame
        A checked study table. Never modified.
    bad : dict of str to str
        Paths and reasons, as `find_bad_views` gives them.

    Returns
    -------
    studies : DataFrame
        Without the bad views, and without the studies that have no other.
    bad_views : DataFrame
        One row per bad view: ``row`` of the study in the given table, from 0; ``study``, its key,
        or the table's index where it has none; ``view``, its number in the study, from 1; ``file``,
        its name without the folder; ``reason``; ``study_left_out``.

    Raises
    ------
    ValueError
        No view can be read.

    Examples
    --------
    >>> studies = pd.DataFrame({"study": ["s", "t"], "views": [("a", "b"), ("c",)]})
    >>> kept, bad_views = leave_out(studies, {"a": "got zero bytes", "c": "got zero bytes"})
    >>> kept
      study views
    0     s  (b,)
    >>> bad_views[["study", "view", "file", "study_left_out"]]
      study  view file  study_left_out
    0     s     1    a           False
    1     t     1    c            True
    """
    keys = studies.get("study", studies.index)
    views = [tuple(path for path in own if path not in bad) for own in studies["views"]]
    found = [
        (row, key, number, printable(os.path.basename(path)), bad[path], not kept)
        for row, (key, own, kept) in enumerate(zip(keys, studies["views"], views, strict=True))
        for number, path in enumerate(own, start=1)
        if path in bad
    ]
    table = pd.DataFrame(found, columns=COLUMNS)
    if not found:
        return studies, table
    is_kept = np.array([len(own) > 0 for own in views])
    if not is_kept.any():
        raise ValueError(
            f"expected a view that can be read, got none among {len(table):,}:"
            f"{list_bad_views(table)}\nCheck whether the disk of the images is there"
        )
    return studies.assign(views=np.fromiter(views, object, len(views)))[is_kept], table


def count_bad_views(datasets: Iterable[Any], max_share: float) -> pd.DataFrame:
    """Return and tell what datasets have left out, unless it is more than a share of one's views.

    Parameters
    ----------
    datasets : iterable of StudyDataset
        Made with ``on_bad_view="skip"``; one that occurs twice counts once.
    max_share : float
        From 0 to 1.

    Returns
    -------
    DataFrame
        As `leave_out` gives it, of all datasets.

    Raises
    ------
    ValueError
        A dataset has lost more.

    Warns
    -----
    UserWarning
        Views are left out.
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
                f"{n_views:,} ({n_bad / n_views:.2%}):{list_bad_views(dataset.bad_views)}\n"
                "Mend the files, or raise max_bad_share"
            )
    bad_views = pd.concat(tables, ignore_index=True)
    tell_bad_views(bad_views)
    return bad_views


def check_none_lost(bad_views: pd.DataFrame) -> None:
    """Raise ValueError where a study has no view that can be read.

    Parameters
    ----------
    bad_views : DataFrame
        As `leave_out` gives it.
    """
    lost = bad_views[bad_views["study_left_out"]]
    if len(lost):
        raise ValueError(
            "expected a view that can be read of every study, got none of "
            f"{lost['row'].nunique():,}:{list_bad_views(lost)}\nMend the files, or leave these "
            "studies out: no probability can be given"
        )


def tell_bad_views(bad_views: pd.DataFrame) -> None:
    """Warn of what was left out, if anything was.

    Parameters
    ----------
    bad_views : DataFrame
        As `leave_out` gives it.
    """
    if len(bad_views):
        n_studies = bad_views["study"][bad_views["study_left_out"]].nunique()
        warnings.warn(
            f"{len(bad_views):,} views that cannot be read are left out, and {n_studies:,} studies "
            f"that have no other:{list_bad_views(bad_views)}",
            stacklevel=4,
        )


def list_bad_views(bad_views: pd.DataFrame, max_named: int = 5) -> str:
    """Return the first bad views as a text, one line each.

    Parameters
    ----------
    bad_views : DataFrame
        As `leave_out` gives it.
    max_named : int, default=5
        How many are named.
    """
    named = [
        f"\n  {row.study}, view {row.view} ({row.file}): {row.reason}"
        for row in bad_views[:max_named].itertuples()
    ]
    rest = len(bad_views) - max_named
    return "".join(named) + (f"\n  ... and {rest:,} more" if rest > 0 else "")


def with_gaps(arrays: Sequence[np.ndarray], bad_views: pd.DataFrame | None) -> list[np.ndarray]:
    """Return one array per study, with NaN in the places of the views that were left out.

    Parameters
    ----------
    arrays : sequence of ndarray of shape (n_read_views, ...), float
        Of each study what was made of its views.
    bad_views : DataFrame or None
        As `leave_out` gives it; no study is left out. None fills nothing in.

    Returns
    -------
    list of ndarray of shape (n_views, ...)

    Examples
    --------
    >>> bad_views = pd.DataFrame({"row": [0], "view": [1]})
    >>> with_gaps([np.array([0.5]), np.array([0.25])], bad_views)
    [array([nan, 0.5]), array([0.25])]
    """
    filled = list(arrays)
    # Numbers of a study ascend, so that what is put in first moves no later place.
    for row, number in () if bad_views is None else bad_views[["row", "view"]].to_numpy():
        filled[row] = np.insert(filled[row], number - 1, np.nan, axis=0)
    return filled


def _reason(path: str, note: Note) -> str | None:
    """Return why a picture cannot be read, or None."""
    try:
        read_view(path, note=note)
    except (FileNotFoundError, ValueError) as error:
        return str(error).removeprefix(f"{printable(path)}: ")
    return None
