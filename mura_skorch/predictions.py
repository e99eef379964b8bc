"""Prediction table: studies and their scores go in, one row per study without paths comes out."""

import numpy as np
import pandas as pd

__all__ = ["beside_pooled", "join_notes", "prediction_table"]

COLUMNS = ["study", "study_type", "patient", "label"]
SCORED = ["score", "threshold", "decision"]


def prediction_table(studies, y_score=None, *, threshold=0.5, keep=()):
    """Return what is kept of studies beside their scores and the decisions on them.

    Parameters
    ----------
    studies : DataFrame
        A study table.
    y_score : array-like of shape (n_studies,), optional
        Probabilities of abnormality.
    threshold : float, default=0.5
        Operating point: a study is called abnormal if its score is strictly greater.
    keep : sequence of str, default=()
        Further columns of `studies` to keep, such as readers' labels, site or scanner.

    Returns
    -------
    DataFrame
        ``study``, ``study_type``, ``patient`` and ``label`` as far as `studies` has them,
        ``n_views``, the columns to keep, and, where scores are given, ``score``, ``threshold`` and
        ``decision`` (1 abnormal, 0 normal); ``note`` where the studies carry one. The table's
        index stands for ``study`` where there is no such column.

    Raises
    ------
    ValueError
        A column to keep is missing.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png", "b.png")]})
    >>> prediction_table(studies, [0.25])
       study study_type  n_views  score  threshold  decision
    0      0    XR_HAND        2   0.25        0.5         0
    """
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
        table["score"] = np.asarray(y_score)
        table["threshold"] = threshold
        table["decision"] = (table["score"] > threshold).astype(int)
    if "note" in studies:
        table["note"] = studies["note"]
    return table.reset_index(drop=True)


def beside_pooled(tables, pooled=None):
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
        that one's; NaN where a model is missing.
    """
    empty = pd.DataFrame(columns=[*COLUMNS, "n_views", *SCORED])
    own = pd.concat(tables, ignore_index=True) if tables else empty
    if pooled is None:
        return own
    scored = [name for name in SCORED if name in own]
    scores = own[["study", *scored]].astype({"score": float})
    renamed = {name: f"pooled_{name}" for name in scored}
    return pooled.rename(columns=renamed).merge(scores, on="study", how="left")


def join_notes(studies):
    """Return the notes that a table carries, such as "phantoms: no clinical meaning", or None."""
    if "note" not in studies:
        return None
    return "; ".join(map(str, studies["note"].dropna().unique())) or None
