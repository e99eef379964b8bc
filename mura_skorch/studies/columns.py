"""Columns of the study table and of the tables made from it."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["explode_views", "is_exploded"]

SPLITS = ("train", "valid", "test")
READ_COUNTS = "read_counts"  # key in the attrs of a table, see `mura_skorch.studies.read_counts`


def explode_views(studies: pd.DataFrame) -> pd.DataFrame:
    """Return a table of single-view studies, one row per view, as the paper trains on.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table.

    Returns
    -------
    DataFrame of n_views rows
        A study table in the order of studies and views. ``views`` holds one path, the new column
        ``view`` its number in the study from 1, and ``study``, if present, becomes
        ``<study>/<view>``. Other columns are copied; the index counts from 0.

    Examples
    --------
    >>> studies = pd.DataFrame({"study": ["a", "b"], "views": [("1.png", "2.png"), ("3.png",)]})
    >>> explode_views(studies)
      study     views  view
    0   a/1  (1.png,)     1
    1   a/2  (2.png,)     2
    2   b/1  (3.png,)     1
    """
    n_views = studies["views"].map(len).to_numpy()
    exploded = studies.iloc[np.repeat(np.arange(len(studies)), n_views)].reset_index(drop=True)
    paths = [(path,) for views in studies["views"] for path in views]
    exploded["views"] = np.fromiter(paths, dtype=object, count=len(paths))
    exploded["view"] = [number + 1 for n in n_views for number in range(n)]
    if "study" in exploded:
        exploded["study"] = exploded["study"].astype(str) + "/" + exploded["view"].astype(str)
    exploded.attrs.pop(READ_COUNTS, None)  # they count studies, and these are views
    return exploded


def is_exploded(studies: pd.DataFrame) -> bool:
    """Return whether the rows of a table are single views, as from `explode_views`."""
    return (
        "view" in studies
        and pd.api.types.is_integer_dtype(studies["view"])
        and bool(studies["views"].map(len).eq(1).all())
    )


COLUMNS = ["study", "study_type", "patient", "label"]
SCORED = ["score", "threshold", "decision", "chosen_by"]
# How ``chosen_by`` ends if the figures are too good.
ON_SCORED = "on the studies scored here"
# Answers of a triage: two decisions, and none.
TRIAGE = ("normal", "abnormal", "look yourself")
# Columns that prediction tables write themselves, and paths, which they never hold.
RESERVED = {
    "views",
    "view",
    "n_views",
    "level",
    "note",
    "mean_intensity",
    "height",
    "width",
    "scored_by",
    "training_percentile",
    "triage",
    "triage_error_rate",
    "view_disagreement",
    *SCORED,
    *(f"pooled_{name}" for name in SCORED),
}


def check_extra_columns(names: Iterable[str]) -> None:
    """Raise a ValueError if a further column has a name that prediction tables reserve."""
    if taken := [name for name in names if name in RESERVED]:
        raise ValueError(
            f"expected further columns not called {', '.join(taken)}, which are reserved for "
            f"prediction tables; rename them, for example to own_{taken[0]}"
        )


def join_notes(*sources: Any) -> str | None:
    """Join the notes of tables, such as "phantoms: no clinical meaning"; None without any.

    Parameters
    ----------
    *sources : DataFrame, str or None
        Notes, and tables with or without a column ``note``.

    Returns
    -------
    str or None
        Each note once, in order of appearance.

    Examples
    --------
    >>> join_notes(pd.DataFrame({"note": ["phantoms", "phantoms"]}), None, "model of phantoms")
    'phantoms; model of phantoms'
    """
    notes: list[str] = []
    for source in sources:
        if isinstance(source, pd.DataFrame):
            notes += map(str, source["note"].dropna().unique()) if "note" in source else []
        elif source:
            notes.append(source)
    notes = "; ".join(notes).split("; ") if notes else []
    return "; ".join(dict.fromkeys(notes)) or None


def add_note(studies: pd.DataFrame, text: str) -> pd.DataFrame:
    """Return a table with a caveat added to the note of every row.

    Parameters
    ----------
    studies : DataFrame
        A table with or without a column ``note``.
    text : str
        Such as "model trained on phantoms".

    Examples
    --------
    >>> add_note(pd.DataFrame({"note": ["drawn", None]}), "flipped")["note"].tolist()
    ['drawn; flipped', 'flipped']
    """
    notes = studies["note"].fillna("") if "note" in studies else [""] * len(studies)
    return studies.assign(note=[f"{note}; {text}" if note else text for note in notes])
