"""Prediction table: studies and their scores go in, one row per study without paths comes out."""

import numpy as np

__all__ = ["join_notes", "prediction_table"]

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


def join_notes(studies):
    """Return the notes that a table carries, such as "phantoms: no clinical meaning", or None."""
    if "note" not in studies:
        return None
    return "; ".join(map(str, studies["note"].dropna().unique())) or None
