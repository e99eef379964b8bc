"""Operating point: labels and probabilities go in, a threshold and a temperature come out.

A threshold turns probabilities into decisions; a temperature makes them agree with how often they
come true. Both are chosen by scikit-learn's own classes on labelled studies that are neither
trained on nor reported.
"""

import re
import warnings
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV

from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores

__all__ = [
    "apply_temperature",
    "check_rule",
    "choose_threshold",
    "fit_temperature",
    "is_rule",
]

# Of a temperature that no table of studies with errors in both directions asks for.
EXTREME = 20


def choose_threshold(y_true: ArrayLike, y_score: ArrayLike, rule: float | str) -> float:
    """Return the threshold that a rule asks for on labelled studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    rule : "youden", "sensitivity=0.95" or float
        "youden": the highest sensitivity + specificity - 1 [1]_. "sensitivity=S", for any S above
        0 and up to 1: the highest specificity among the thresholds that reach at least that
        sensitivity. A number is returned as it is. Of several best thresholds, the lowest.

    Returns
    -------
    float
        In (0, 1). Studies with a probability strictly above it are abnormal.

    Raises
    ------
    ValueError
        The rule is unknown; there are no normal or no abnormal studies; all scores are equal; or
        the sensitivity cannot be reached, as an abnormal study has a probability of 0.

    Notes
    -----
    scikit-learn's ``TunedThresholdClassifierCV`` chooses among the midpoints between neighbouring
    scores, one threshold below all and one above all of them. No score equals a midpoint, so
    that "strictly above" here and "at least" there decide alike. J = 2 * balanced accuracy - 1.

    References
    ----------
    .. [1] Youden, "Index for rating diagnostic tests", Cancer 3, 1950.

    Examples
    --------
    >>> choose_threshold([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.8], "sensitivity=1")
    0.20000000298023224
    >>> choose_threshold([0, 0, 1, 1], [0.1, 0.4, 0.3, 0.8], 0.25)
    0.25
    """
    wanted = check_rule(rule)
    if not isinstance(rule, str):
        return rule
    y_true, column = _check(y_true, y_score)
    tuned = TunedThresholdClassifierCV(
        _ScoreColumn(),
        scoring=make_scorer(_merit, wanted=wanted),
        thresholds=_candidates(column.ravel()),
        cv="prefit",
        refit=False,
    ).fit(column, y_true)
    if tuned.best_score_ < 0:
        raise ValueError(
            f"expected probabilities with which {rule} can be reached, got abnormal studies of "
            "probability 0; pass a lower sensitivity"
        )
    return float(tuned.best_threshold_)


def fit_temperature(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the temperature that makes probabilities agree best with the labels.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].

    Returns
    -------
    float
        Above 1 where the probabilities are too sure, below 1 where they are not sure enough;
        `apply_temperature` takes it. It has the lowest log loss [1]_.

    Raises
    ------
    ValueError
        There are no normal or no abnormal studies, or all scores are equal.

    Warns
    -----
    UserWarning
        Outside 1/20 to 20: the scores separate the studies without an error, or not at all.

    Notes
    -----
    scikit-learn's ``CalibratedClassifierCV(method="temperature")`` on all studies at once.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    >>> round(fit_temperature([0, 1, 1, 1], [0.99, 0.99, 0.99, 0.99999]), 1)
    4.6
    """
    y_true, column = _check(y_true, y_score)
    every = np.arange(len(column))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(_ScoreColumn()), method="temperature", cv=[(every, every)], ensemble=False
    ).fit(column, y_true)
    (calibrator,) = calibrated.calibrated_classifiers_[0].calibrators
    temperature = float(1 / calibrator.beta_)
    if not 1 / EXTREME <= temperature <= EXTREME:
        how = "without an error" if temperature < 1 else "not at all"
        warnings.warn(
            f"expected a temperature between {1 / EXTREME} and {EXTREME}, got {temperature:.3g}: "
            f"the scores separate the {len(column)} studies {how}; fit on more studies, or leave "
            "the temperature as it is with temperature=False",
            stacklevel=2,
        )
    return temperature


def apply_temperature(p: ArrayLike, temperature: float) -> np.ndarray:
    """Return sigmoid(logit(p) / temperature), finite where p is 0 or 1.

    Parameters
    ----------
    p : array-like, float
        Probabilities.
    temperature : float
        Above 0; 1 changes nothing.

    Returns
    -------
    ndarray of the shape of `p`, float64

    Examples
    --------
    >>> apply_temperature([0.0, 0.5, 0.8], 2).round(3).tolist()
    [0.0, 0.5, 0.667]
    """
    p = np.asarray(p, dtype=np.float64)
    if temperature == 1:
        return p
    eps = np.finfo(np.float64).eps  # as scikit-learn does it
    return expit((np.log(p + eps) - np.log(1 - p + eps)) / temperature)


def is_rule(threshold: object) -> bool:
    """Return whether a threshold is a rule that has to be applied to labelled studies."""
    return isinstance(threshold, str)


def check_rule(rule: Any) -> float | None:
    """Return the sensitivity that a rule wants, None for any other, or raise ValueError."""
    wanted = None
    if is_rule(rule):
        match = re.fullmatch(r"sensitivity=(0*\.\d+|0*1\.?0*)", rule)
        if rule == "youden":
            return None
        wanted = float(match[1]) if match else 0
        is_valid = wanted > 0
    else:
        is_valid = isinstance(rule, Real) and not isinstance(rule, bool) and 0 <= float(rule) <= 1
    if not is_valid:
        raise ValueError(
            "expected a threshold from 0 to 1, 'youden', or 'sensitivity=S' with S above 0 and up "
            f"to 1, such as 'sensitivity=0.95', got {rule!r}"
        )
    return wanted


class _ScoreColumn(ClassifierMixin, BaseEstimator):
    """Classifier whose one feature is the probability of abnormality."""

    classes_ = np.array([0, 1])

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y):
        return self

    def predict_proba(self, X):
        return np.column_stack([1 - X[:, 0], X[:, 0]])

    def predict(self, X):
        return (X[:, 0] > 0.5).astype(int)


def _merit(y_true, y_pred, wanted):
    """Return the balanced accuracy, or the specificity where the wanted sensitivity is reached."""
    sensitivity, specificity = y_pred[y_true == 1].mean(), 1 - y_pred[y_true == 0].mean()
    if wanted is None:
        return (sensitivity + specificity) / 2
    return specificity if sensitivity >= wanted else -1.0


def _candidates(y_score):
    """Return the thresholds between scores that single precision can tell apart."""
    scores = np.unique(y_score.astype(np.float32))
    ends = np.concatenate([[0], scores, [1]]).astype(np.float32)
    middles = (ends[1:] + ends[:-1]) / 2
    return middles[(middles > ends[:-1]) & (middles < ends[1:])].astype(np.float64)


def _check(y_true, y_score):
    """Return the labels and a column of scores, both classes and two scores at least."""
    y_true, y_score = check_binary(y_true, "y_true"), check_scores(y_score)
    check_lengths(y_true=y_true, y_score=y_score)
    for name, values in (("normal and abnormal studies", y_true), ("different scores", y_score)):
        if len(np.unique(values)) < 2:
            raise ValueError(
                f"expected {name} to choose an operating point on, got {len(values)} studies "
                f"alike; choose it on a table that holds both"
            )
    return y_true, y_score[:, None]
