"""Prediction table: studies and their scores go in, one row per study without paths comes out."""

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.studies.columns import COLUMNS, SCORED, check_kept

__all__ = [
    "beside_pooled",
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
    """Return what is kept of studies beside their scores and the decisions on them.

    Parameters
    ----------
    studies : DataFrame
        A study table.
    y_score : array-like of shape (n_studies,), optional
        Probabilities of abnormality.
    threshold : float, default=0.5
        Operating point: a study is called abnormal if its score is strictly greater.
    chosen_by : str, optional
        What chose the threshold, on which studies, in words for the report.
    keep : sequence of str, default=()
        Further columns of `studies` to keep, such as readers' labels, site or scanner.

    Returns
    -------
    DataFrame
        ``study``, ``study_type``, ``patient`` and ``label`` as far as `studies` has them,
        ``n_views``, the columns to keep, and, where scores are given, ``score``, ``threshold`` and
        ``decision`` (Int8, 1 abnormal, 0 normal, ``<NA>`` where the score is NaN); ``chosen_by``
        where it is given; ``note`` where the studies carry one. The table's index stands for
        ``study`` where there is no such column.

    Raises
    ------
    ValueError
        A column to keep is missing, or has a name that tables of predictions use themselves.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png", "b.png")]})
    >>> prediction_table(studies, [0.25])
       study study_type  n_views  score  threshold  decision
    0      0    XR_HAND        2   0.25        0.5         0
    """
    check_kept(keep)
    if missing := [name for name in keep if name not in studies]:
        raise ValueError(
            f"expected columns {', '.join(missing)} in the table of studies, got "
            f"{', '.join(map(str, studies.columns))}; check the names"
        )
    table = studies[[name for name in COLUMNS if name in studies]].copy()
    if "study" not in table:
        table.insert(0, "study", studies.index)
    table["n_views"] = studies["views"].map(len)
    table = table.assign(**{name: studies[name] for name in keep})
    if y_score is not None:
        # In float64, as models decide and as files are read back.
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
    """Return one row for each view beside its score.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table.
    view_scores : sequence of n_studies arrays of shape (n_views,)
        Probabilities of abnormality of each study's views, as ``predict_view_proba`` gives them.
    threshold : float, default=0.5
        Operating point of the studies.

    Returns
    -------
    DataFrame of n_views rows
        ``study``, ``study_type``, ``patient`` and ``label`` of the view's study, ``view``, its
        number in the study from 1, ``score``, ``threshold``, and ``note`` where there is one.

    Raises
    ------
    ValueError
        A study has another number of scores than of views.

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
    notes = {name: table.pop(name) for name in ["note"] if name in table}
    numbers: Any = [range(1, n + 1) for n in n_views]
    table = table.assign(view=numbers, score=view_scores, threshold=threshold, **notes).explode(
        ["view", "score"], ignore_index=True
    )
    return table.astype({"view": int, "score": float})


def write_competition(
    predictions: pd.DataFrame, file: str | os.PathLike[str], *, root: str = "MURA-v1.1"
) -> None:
    """Write decisions as MURA's competition takes them: no header, a path and 0 or 1 a line.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with ``study`` and ``decision``.
    file : path
        To be written, such as predictions.csv.
    root : str, default="MURA-v1.1"
        Name of the data set's folder, with which each path begins.

    Raises
    ------
    ValueError
        A study has no decision.
    """
    if (undecided := predictions["decision"].isna()).any():
        raise ValueError(
            f"expected a decision on every study, got none on {undecided.sum():,}, such as "
            f"{predictions['study'][undecided].iloc[0]}; leave them out, or look for what made "
            "their score NaN"
        )
    paths = f"{root}/" + predictions["study"].astype(str) + "/"
    table = pd.DataFrame({"path": paths, "label": predictions["decision"]})
    table.to_csv(file, header=False, index=False)


def beside_pooled(tables: Any, pooled: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return one table of the predictions of several models and, beside them, of a pooled one.

    Parameters
    ----------
    tables : list of DataFrame
        Prediction tables of models of single study types; may be empty.
    pooled : DataFrame, optional
        Prediction table of one model of all types, over at least the same studies.

    Returns
    -------
    DataFrame
        ``score`` is each type's own model's and ``pooled_score``, where there is a pooled model,
        that one's; NaN where a model is missing. ``scored_by`` names the model of ``score`` by its
        study types, unless the tables have that column.
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
    """Return the predictions of one model with a name for it."""
    if "scored_by" in table:
        return table
    return table.assign(scored_by=", ".join(sorted(map(str, table["study_type"].unique()))))


def check_columns(predictions: pd.DataFrame, names: Iterable[str]) -> None:
    """Raise a ValueError that says what to do where a prediction table lacks any of the columns."""
    if missing := [name for name in names if name not in predictions]:
        raise ValueError(
            f"expected columns {', '.join(map(str, missing))} in the predictions, got "
            f"{', '.join(map(str, predictions.columns))}; check the names, or name them in keep "
            "when the table is made"
        )


def scored_rows(predictions: pd.DataFrame, column: str = "score") -> pd.DataFrame:
    """Return the rows of a prediction table that have a label and a score; none without labels."""
    if "label" not in predictions:
        predictions = predictions.assign(label=None)
    return predictions[predictions["label"].notna() & predictions[column].notna()]
