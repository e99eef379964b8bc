"""Score estimators by Cohen's kappa in scikit-learn's searches and cross-validations.

scikit-learn has no public way to register a scorer by name, so pass the objects:
``scoring=kappa``, not ``scoring="kappa"``.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import make_scorer

from mura_skorch.metrics import kappa_score
from mura_skorch.studies.validation import check_labelled

__all__ = ["kappa", "kappa_by_study_type"]

# Made by make_scorer because TunedThresholdClassifierCV refuses plain functions.
kappa = make_scorer(kappa_score)


def kappa_by_study_type(
    estimator: Any,
    X: pd.DataFrame,
    y: ArrayLike | None = None,
    *,
    study_types: Iterable[str] | None = None,
) -> dict[str, float]:
    """Score a fitted classifier by Cohen's kappa, over all studies and for each study type.

    A scorer with several metrics, for ``scoring=``; a search also needs ``refit="kappa"``.

    Parameters
    ----------
    estimator : classifier
        Fitted. Its ``predict`` is called once, so decisions are those at its own threshold.
    X : DataFrame of n_studies rows
        A study table.
    y : array-like of shape (n_studies,), optional
        1 abnormal, 0 normal. None means ``X["label"]``.
    study_types : sequence of str, optional
        Types that get a score even if `X` has none of their studies, so that all folds of a
        cross-validation have the same scores. None means the types of training, if the estimator
        is or contains a classifier of this package.

    Returns
    -------
    dict of str to float
        ``kappa`` over all studies, then ``kappa/<study type>`` in sorted order. NaN if undefined:
        there are no studies of the type, or all labels and decisions are of one class.

    Examples
    --------
    >>> from functools import partial
    >>> from sklearn.model_selection import GroupKFold, cross_validate
    >>> cross_validate(  # doctest: +SKIP
    ...     clf, train, train.label, groups=train.patient, cv=GroupKFold(5),
    ...     scoring=kappa_by_study_type,
    ... )["test_kappa/XR_WRIST"]
    >>> wrist_alone = partial(kappa_by_study_type, study_types=["XR_WRIST"])
    """
    if isinstance(study_types, str):
        raise TypeError(f"expected study_types as a list of types, got the text {study_types!r}")
    X, y_true = check_labelled(X, y)
    y_pred = np.asarray(estimator.predict(X)).astype(int)
    study_type = X["study_type"].to_numpy()
    known = _types_seen(estimator) if study_types is None else study_types
    scores = {"kappa": kappa_score(y_true, y_pred)}
    for name in sorted({*known, *study_type}):
        own = study_type == name
        scores[f"kappa/{name.replace('/', '_')}"] = kappa_score(y_true[own], y_pred[own])
    return scores


def _types_seen(estimator):
    """Return the study types that the classifiers in an estimator were trained on, if known."""
    if hasattr(estimator, "study_types_"):
        return set(estimator.study_types_)
    single = ("best_estimator_", "estimator_", "estimator")
    inside = [getattr(estimator, name) for name in single if hasattr(estimator, name)]
    for several in ("estimators_", "calibrated_classifiers_"):
        inside += getattr(estimator, several, [])
    inside += [step for _, step in getattr(estimator, "steps", [])]
    return set().union(*map(_types_seen, inside))
