"""Counts of what a reader read and left out, which a study table carries along."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import pandas as pd

from mura_skorch.studies.columns import READ_COUNTS

__all__ = ["read_counts", "with_new_labels", "with_read_counts"]


def with_read_counts(
    studies: pd.DataFrame, files_left_out: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Return a study table that carries how many studies and files were read and left out.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        The complete table, as it was read. Its ``attrs`` are changed.
    files_left_out : mapping of str to int, optional
        Numbers of files by the reason for which they were left out.

    Returns
    -------
    DataFrame
        The table itself.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"] * 3, "label": [1, 0, pd.NA]})
    >>> read_counts(with_read_counts(studies)[:1])
    {'studies': 3, 'unlabelled': 1, 'files_left_out': {}}
    """
    studies.attrs[READ_COUNTS] = {
        "studies": len(studies),
        "unlabelled": _unlabelled(studies),
        "files_left_out": dict(files_left_out or {}),
    }
    return studies


def with_new_labels(studies: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose labels were replaced, with the count of unlabelled studies corrected.

    Parameters
    ----------
    studies, before : DataFrame of n_studies rows
        All studies that were read or a selection of them, with the new and with the old labels. The
        ``attrs`` of `studies` are changed.
    """
    if counts := read_counts(studies):
        counts["unlabelled"] += _unlabelled(studies) - _unlabelled(before)
        studies.attrs[READ_COUNTS] = counts
    return studies


def read_counts(studies: Any) -> dict[str, Any]:
    """Return the counts that a study table carries.

    Parameters
    ----------
    studies : DataFrame
        A table that a reader of this package returned, or a selection of it.

    Returns
    -------
    dict
        ``studies``, ``unlabelled`` and ``files_left_out``; empty if the table carries none, as one
        that was made by hand or joined from several.
    """
    return deepcopy(studies.attrs.get(READ_COUNTS, {}))


def _unlabelled(studies):
    """Return the number of studies without a label."""
    return int(studies["label"].isna().sum()) if "label" in studies else len(studies)
