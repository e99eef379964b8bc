"""Prediction tables: one row per study or view with score, threshold and decision, no paths."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.studies.columns import COLUMNS, SCORED, check_extra_columns

__all__ = [
    "add_pooled_scores",
    "check_columns",
    "prediction_table",
    "scored_rows",
    "view_prediction_table",
    "write_competition",
]


def prediction_table(
    studies: pd.DataFrame,
    y_score: ArrayLike | None = None,
    *,
    threshold: float = 0.5,
    chosen_by: str | None = None,
    keep: Sequence[str] = (),
) -> pd.DataFrame:
    """Return one row per study with its score and decision, without paths.

    Parameters
    ----------
    studies : DataFrame
        A study table.
    y_score : array-like of shape (n_studies,), optional
        Probabilities of abnormality.
    threshold : float, default=0.5
        Operating point: a study is called abnormal if its score is strictly greater.
    chosen_by : str, optional
        How the threshold was chosen, and on which studies, as a text for the report.
    keep : sequence of str, default=()
        Further columns of `studies` to copy, such as readers' labels, site or scanner.

    Returns
    -------
    DataFrame
        ``study`` (or else the index), ``study_type``, ``patient`` and ``label`` if `studies` has
        them, ``n_views`` and the columns in `keep`. With scores also ``score``, ``threshold``,
        ``decision`` (Int8: 1 abnormal, 0 normal, ``<NA>`` for a score of NaN) and, if given,
        ``chosen_by``. ``note`` if the studies have one.

    Raises
    ------
    ValueError
        A column in `keep` is missing, or has a name that prediction tables reserve.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png", "b.png")]})
    >>> prediction_table(studies, [0.25])
       study study_type  n_views  score  threshold  decision
    0      0    XR_HAND        2   0.25        0.5         0
    """
    check_extra_columns(keep)
    if missing := [name for name in keep if name not in studies]:
        raise ValueError(
            f"expected columns {', '.join(missing)} in the study table, got "
            f"{', '.join(map(str, studies.columns))}; check the names"
        )
    table = studies[[name for name in COLUMNS if name in studies]].copy()
    if "study" not in table:
        table.insert(0, "study", studies.index)
    table["n_views"] = studies["views"].map(len)
    for name in keep:
        table[name] = studies[name]
    if y_score is not None:
        # In float64, as in predict and after reading the CSV file back.
        table["score"] = np.asarray(y_score, dtype=float)
        table["threshold"] = threshold
        decision = (table["score"] > threshold).astype("Int8")
        table["decision"] = decision.mask(table["score"].isna())
        if chosen_by is not None:
            table["chosen_by"] = chosen_by
    if "note" in studies:
        table["note"] = studies["note"]
    return table.reset_index(drop=True)


def view_prediction_table(
    studies: pd.DataFrame, view_scores: Sequence[Any], *, threshold: float = 0.5
) -> pd.DataFrame:
    """Return one row per view with its score.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table.
    view_scores : sequence of n_studies arrays of shape (n_views,)
        Probabilities of abnormality of each study's views, as ``predict_view_proba`` returns them.
    threshold : float, default=0.5
        Operating point of the studies.

    Returns
    -------
    DataFrame of n_views rows
        ``study``, ``study_type``, ``patient`` and ``label`` of the view's study; ``view``, the
        number in the study from 1; ``score``, ``threshold`` and, if there is one, ``note``.

    Raises
    ------
    ValueError
        The number of scores of a study differs from its number of views.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png", "b.png")]})
    >>> view_prediction_table(studies, [[0.25, 0.75]])
       study study_type  view  score  threshold
    0      0    XR_HAND     1   0.25        0.5
    1      0    XR_HAND     2   0.75        0.5
    """
    table = prediction_table(studies)
    n_views, n_scores = table.pop("n_views").tolist(), [len(scores) for scores in view_scores]
    if n_views != n_scores:
        raise ValueError(
            f"expected a score for each of {sum(n_views)} views of {len(n_views)} studies, got "
            f"{sum(n_scores)} of {len(n_scores)}; pass what predict_view_proba returns for them"
        )
    note = table.pop("note") if "note" in table else None
    numbers: Any = [range(1, n + 1) for n in n_views]
    table = table.assign(view=numbers, score=view_scores, threshold=threshold)
    if note is not None:
        table["note"] = note  # the last column
    table = table.explode(["view", "score"], ignore_index=True)
    return table.astype({"view": int, "score": float})


def write_competition(
    predictions: pd.DataFrame, file: str | os.PathLike[str], *, root: str = "MURA-v1.1"
) -> None:
    """Write decisions in the format of MURA's competition: a path and 0 or 1 per line, no header.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with ``study`` and ``decision``.
    file : path
        File to write, such as predictions.csv.
    root : str, default="MURA-v1.1"
        Folder name of the data set, which each path starts with.

    Raises
    ------
    ValueError
        A study has no decision.
    """
    if (undecided := predictions["decision"].isna()).any():
        raise ValueError(
            f"expected a decision on every study, got none on {undecided.sum():,}, such as "
            f"{predictions['study'][undecided].iloc[0]}; leave them out, or find out why "
            "their score is NaN"
        )
    paths = f"{root}/" + predictions["study"].astype(str) + "/"
    table = pd.DataFrame({"path": paths, "label": predictions["decision"]})
    table.to_csv(file, header=False, index=False)


def add_pooled_scores(tables: Any, pooled: pd.DataFrame | None = None) -> pd.DataFrame:
    """Join the predictions of several models, and add the scores of a pooled model.

    Parameters
    ----------
    tables : list of DataFrame
        Prediction tables, one per model of single study types; may be empty.
    pooled : DataFrame, optional
        Prediction table of one model of all types, on at least the same studies.

    Returns
    -------
    DataFrame
        ``score`` is from the model of the study's type, ``pooled_score`` from the pooled model;
        NaN if that model is missing. ``scored_by`` names the model of ``score`` by its study types,
        unless the tables have that column.
    """
    empty = pd.DataFrame(columns=[*COLUMNS, "n_views", *SCORED, "scored_by"])
    own = pd.concat(map(_with_model, tables), ignore_index=True) if tables else empty
    if pooled is None:
        return own
    scored = [name for name in SCORED if name in own]
    scores = own[["study", *scored, "scored_by"]].astype({"score": float})
    renamed = {name: f"pooled_{name}" for name in scored}
    return pooled.rename(columns=renamed).merge(scores, on="study", how="left")


def _with_model(table):
    """Add the column `scored_by`, if missing."""
    if "scored_by" in table:
        return table
    return table.assign(scored_by=", ".join(sorted(map(str, table["study_type"].unique()))))


def check_columns(predictions: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise a ValueError if a prediction table lacks any of the columns."""
    if missing := [name for name in names if name not in predictions]:
        raise ValueError(
            f"expected columns {', '.join(map(str, missing))} in the predictions, got "
            f"{', '.join(map(str, predictions.columns))}; check the names, or pass them as keep "
            "when the table is made"
        )


def scored_rows(predictions: pd.DataFrame, column: str = "score") -> pd.DataFrame:
    """Return the rows of a prediction table that have both a label and a score."""
    if "label" not in predictions:
        predictions = predictions.assign(label=None)
    return predictions[predictions["label"].notna() & predictions[column].notna()]
