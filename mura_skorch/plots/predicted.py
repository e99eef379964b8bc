"""Predict the studies that a display is drawn from."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.studies.columns import join_notes

__all__ = ["Predicted", "predict_labelled"]


class Predicted(NamedTuple):
    """What a display needs of an estimator and labelled studies.

    Attributes
    ----------
    y_true : ndarray of shape (n_studies,), int
        Labels.
    y_score : ndarray of shape (n_studies,)
        Probabilities of abnormality.
    study_type, groups : ndarray of shape (n_studies,), object, or None
        Study types and patients.
    threshold : float
        The estimator's threshold.
    note : str or None
        Caveat of the studies and of those that the estimator was trained on.
    """

    y_true: np.ndarray
    y_score: np.ndarray
    study_type: np.ndarray | None
    groups: np.ndarray | None
    threshold: float
    note: str | None


def predict_labelled(estimator: Any, X: pd.DataFrame, y: ArrayLike | None = None) -> Predicted:
    """Predict labelled studies.

    Parameters
    ----------
    estimator : MuraClassifier, MuraEnsemble or another fitted classifier
        ``predict_proba`` takes the study table. Its threshold is ``threshold_``, or else 0.5.
    X : DataFrame of n_studies rows
        A study table. Rows without a label are left out.
    y : array-like of shape (n_studies,), optional
        1 abnormal, 0 normal. None means ``X["label"]``.

    Raises
    ------
    ValueError
        There are no labels.
    """
    if y is not None:
        X = X.assign(label=np.asarray(y))
    if "label" not in X or X["label"].isna().all():
        raise ValueError(
            f"expected labels to draw {len(X):,} studies by, got none; pass y, or a column label"
        )
    X = X[X["label"].notna()]
    return Predicted(
        X["label"].to_numpy(dtype=int),
        estimator.predict_proba(X)[:, 1],
        study_type=X["study_type"].to_numpy() if "study_type" in X else None,
        groups=X["patient"].to_numpy() if "patient" in X else None,
        threshold=getattr(estimator, "threshold_", 0.5),
        note=join_notes(getattr(estimator, "note_", None), X),
    )
