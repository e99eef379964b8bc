"""Prediction table: studies and their scores go in, one row per study without paths comes out."""

import numpy as np
import pandas as pd

__all__ = ["beside_pooled", "join_notes", "prediction_table"]

COLUMNS = ["study", "study_type", "patient", "label"]


def prediction_table(studies, y_score=None):
    """Return what is kept of studies beside their scores.

    Parameters
    ----------
    studies : DataFrame
        A study table.
    y_score : array-like of shape (n_studies,), optional
        Probabilities of abnormality.

    Returns
    -------
    DataFrame
        ``study``, ``study_type``, ``patient`` and ``label`` as far as `studies` has them,
        ``n_views``, ``score`` where given, and ``note`` where the studies carry one. The table's
        index stands for ``study`` where there is no such column.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png", "b.png")]})
    >>> prediction_table(studies, [0.25])
       study study_type  n_views  score
    0      0    XR_HAND        2   0.25
    """
    table = studies[[name for name in COLUMNS if name in studies]].copy()
    if "study" not in table:
        table.insert(0, "study", studies.index)
    table["n_views"] = studies["views"].map(len)
    if y_score is not None:
        table["score"] = np.asarray(y_score)
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
    empty = pd.DataFrame(columns=[*COLUMNS, "n_views", "score"])
    own = pd.concat(tables, ignore_index=True) if tables else empty
    if pooled is None:
        return own
    scores = own[["study", "score"]].astype({"score": float})
    return pooled.rename(columns={"score": "pooled_score"}).merge(scores, on="study", how="left")


def join_notes(studies):
    """Return the notes that a table carries, such as "phantoms: no clinical meaning", or None."""
    if "note" not in studies:
        return None
    return "; ".join(map(str, studies["note"].dropna().unique())) or None
