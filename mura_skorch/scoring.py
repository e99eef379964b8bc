"""Scorers for scikit-learn: a fitted estimator and labelled studies go in, kappas come out.

scikit-learn's register of scorers has no public entrance, so that they are passed as objects:
``scoring=kappa``, not ``scoring="kappa"``.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import make_scorer

from mura_skorch.metrics import kappa_score
from mura_skorch.studies.bagging import as_table
from mura_skorch.studies.validation import check_studies

__all__ = ["kappa", "kappa_by_study_type"]

# A scorer that scikit-learn has made, since TunedThresholdClassifierCV takes no plain function.
kappa = make_scorer(kappa_score)


def kappa_by_study_type(
    estimator: Any,
    X: pd.DataFrame,
    y: ArrayLike | None = None,
    *,
    study_types: Iterable[str] | None = None,
) -> dict[str, float]:
    """Score a fitted classifier by Cohen's kappa, over all studies and for each study type.

    A scorer of several figures, for ``scoring=``; a search needs ``refit="kappa"`` beside it.

    Parameters
    ----------
    estimator : classifier
        Fitted; its ``predict`` is called once, so that the decisions are those at its own
        threshold.
    X : DataFrame of n_studies rows
        A study table.
    y : array-like of shape (n_studies,), optional
        1 abnormal, 0 normal. None means ``X["label"]``.
    study_types : sequence of str, optional
        Types that have a figure whether `X` holds them or not, so that each fold of a
        cross-validation has the same ones. None means those of training, as far as a classifier
        of this package is found in the estimator.

    Returns
    -------
    dict of str to float
        ``kappa`` over all studies, then ``kappa/<study type>`` in sorted order. NaN where it is
        undefined: without studies of the type, and where labels and decisions are all of one
        class.

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
    X = as_table(X)
    if y is None and "label" not in X:
        raise ValueError("expected y or a column label to score against, got neither")
    y_true: Any  # never None, as labels are given
    X, y_true = check_studies(X, X["label"] if y is None else y)
    y_pred = np.asarray(estimator.predict(X)).astype(int)
    study_type = X["study_type"].to_numpy()
    known = _types_seen(estimator) if study_types is None else study_types
    scores = {"kappa": kappa_score(y_true, y_pred)}
    for name in sorted({*known, *study_type}):
        own = study_type == name
        scores[f"kappa/{name.replace('/', '_')}"] = kappa_score(y_true[own], y_pred[own])
    return scores


def _types_seen(estimator):
    """Return the study types that the classifiers inside saw in training, as far as it is known."""
    if hasattr(estimator, "study_types_"):
        return set(estimator.study_types_)
    single = ("best_estimator_", "estimator_", "estimator")
    inside = [getattr(estimator, name) for name in single if hasattr(estimator, name)]
    for several in ("estimators_", "calibrated_classifiers_"):
        inside += getattr(estimator, several, [])
    inside += [step for _, step in getattr(estimator, "steps", [])[-1:]]
    return set().union(*map(_types_seen, inside))
