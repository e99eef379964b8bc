"""Operating point: labels and probabilities go in, a threshold and a calibration come out.

A threshold turns probabilities into decisions. A calibration, a line on the logit, makes
probabilities agree with how often they come true. Both are fitted on labelled studies that are
neither trained on nor reported.
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
from sklearn.linear_model import LogisticRegression

from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores

__all__ = [
    "apply_platt",
    "apply_temperature",
    "check_rule",
    "choose_threshold",
    "fit_platt",
    "fit_temperature",
    "is_rule",
]

# Of a temperature that no table of studies with errors in both directions asks for.
EXTREME = 20
# Slope of a line that still rises, so that no two scores become equal.
FLATTEST = 1e-4


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
        In (0, 1), between two neighbouring scores. Studies with a probability strictly above it
        are abnormal.

    Raises
    ------
    ValueError
        The rule is unknown; there are no normal or no abnormal studies; all scores are equal; or
        the sensitivity cannot be reached, as an abnormal study has a probability of 0.

    Notes
    -----
    Thresholds are compared by counts of studies, so that rounding breaks no tie: of TP true
    positives among P abnormal and TN true negatives among N normal studies, "youden" takes the
    highest TP * N + TN * P.

    A rule describes the studies that chose the threshold, and promises nothing of others. After
    "sensitivity=0.95", about half of all models have a true sensitivity below 0.95; with a hundred
    studies to choose on, one in twenty has one below about 0.88.

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
    precision = np.asarray(y_score).dtype
    labels, scores = _check(y_true, y_score)
    thresholds = _candidates(scores, precision)
    abnormal, normal = (np.sort(scores[labels == label]) for label in (1, 0))
    n_true_positive = len(abnormal) - np.searchsorted(abnormal, thresholds, side="right")
    n_true_negative = np.searchsorted(normal, thresholds, side="right")
    if wanted is None:
        merit = n_true_positive * len(normal) + n_true_negative * len(abnormal)
    else:
        merit = np.where(n_true_positive / len(abnormal) >= wanted, n_true_negative, -1)
    if merit.max() < 0:
        raise ValueError(
            f"expected probabilities with which {rule} can be reached, got abnormal studies of "
            "probability 0; pass a lower sensitivity"
        )
    return float(thresholds[merit.argmax()])  # the first, so the lowest, of the best


def fit_platt(y_true: ArrayLike, y_score: ArrayLike) -> tuple[float, float]:
    """Return the slope and the intercept on the logit that fit the labels best.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].

    Returns
    -------
    slope : float
        Above 0; below 1 where the probabilities are too extreme.
    intercept : float
        Below 0 where they are too high, as those of a loss that gives the rarer abnormal studies
        the larger weight. `apply_platt` takes both.

    Raises
    ------
    ValueError
        There are no normal or no abnormal studies, or all scores are equal.

    Warns
    -----
    UserWarning
        Abnormal studies have the lower scores. Then all probabilities are about the share of
        abnormal studies, in their old order.

    Notes
    -----
    Platt's method [1]_, by scikit-learn's ``LogisticRegression``: the maximum likelihood where the
    labels are not 1 and 0 but (P + 1) / (P + 2) and 1 / (N + 2), of P abnormal and N normal
    studies. So a small table without an error gives a finite slope too. The mean probability
    becomes the share of abnormal studies, but for less than 1 / n_studies.

    References
    ----------
    .. [1] Platt, "Probabilistic outputs for support vector machines", Advances in Large Margin
       Classifiers, 1999.

    Examples
    --------
    >>> y_true, y_score = [0] * 30 + [1] * 10, [0.2, 0.6, 0.6] * 10 + [0.6, 0.9] * 5
    >>> slope, intercept = fit_platt(y_true, y_score)
    >>> round(slope, 2), round(intercept, 2)
    (1.79, -1.97)
    >>> print(apply_platt(y_score, slope, intercept).mean().round(2))  # 10 of 40 are abnormal
    0.25
    """
    labels, scores = _check(y_true, y_score)
    n_abnormal, n = labels.sum(), len(labels)
    share = np.where(labels == 1, (n_abnormal + 1) / (n_abnormal + 2), 1 / (n - n_abnormal + 2))
    # Each study counts as abnormal by its share, and as normal by the rest.
    line = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10).fit(
        np.tile(_logit(scores), 2)[:, None], [1] * n + [0] * n, np.append(share, 1 - share)
    )
    slope, intercept = float(line.coef_[0, 0]), float(line.intercept_[0])
    if slope < FLATTEST:
        warnings.warn(
            f"expected higher scores of abnormal studies, got a slope of {slope:.3g}: the scores "
            f"rank the {n} studies the wrong way round, or not at all, and tell no more than the "
            "share of abnormal ones; check that labels are 1 for abnormal, fit on more studies, or "
            "leave the probabilities as they are with calibration=None",
            stacklevel=2,
        )
        slope, intercept = FLATTEST, float(np.log(share.sum() / (1 - share).sum()))
    return slope, intercept


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
        Above 1 where the probabilities are too extreme, below 1 where they are not extreme enough;
        `apply_temperature` takes it. It has the lowest log loss of all temperatures [1]_.

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
    scikit-learn's ``CalibratedClassifierCV(method="temperature")`` on all studies at once. A
    temperature divides the logit and cannot shift it: probabilities that are too high on average
    stay so. `fit_platt` corrects both.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    >>> round(fit_temperature([0, 1, 1, 1], [0.99, 0.99, 0.99, 0.99999]), 1)
    4.6
    """
    labels, scores = _check(y_true, y_score)
    column, every = scores[:, None], np.arange(len(scores))
    calibrated = CalibratedClassifierCV(
        FrozenEstimator(_ScoreColumn()), method="temperature", cv=[(every, every)], ensemble=False
    ).fit(column, labels)
    (calibrator,) = calibrated.calibrated_classifiers_[0].calibrators
    temperature = float(1 / calibrator.beta_)
    if not 1 / EXTREME <= temperature <= EXTREME:
        how = "without an error" if temperature < 1 else "not at all"
        warnings.warn(
            f"expected a temperature between {1 / EXTREME} and {EXTREME}, got {temperature:.3g}: "
            f"the scores separate the {len(labels)} studies {how}; fit on more studies, or leave "
            "the probabilities as they are with calibration=None",
            stacklevel=2,
        )
    return temperature


def apply_platt(p: ArrayLike, slope: float, intercept: float) -> np.ndarray:
    """Return sigmoid(slope * logit(p) + intercept), finite where p is 0 or 1.

    Parameters
    ----------
    p : array-like, float
        Probabilities.
    slope : float
        Above 0.
    intercept : float
        A slope of 1 and an intercept of 0 change nothing.

    Returns
    -------
    ndarray of the shape of `p`, float64

    Examples
    --------
    >>> apply_platt([0.0, 0.5, 0.8], 1.0, -1.0).round(3).tolist()
    [0.0, 0.269, 0.595]
    """
    p = np.asarray(p, dtype=np.float64)
    if (slope, intercept) == (1, 0):
        return p
    return expit(slope * _logit(p) + intercept)


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
    return apply_platt(p, 1 / temperature, 0)


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


def _logit(p):
    eps = np.finfo(np.float64).eps  # as scikit-learn does it
    return np.log(p + eps) - np.log(1 - p + eps)


def _candidates(y_score, precision):
    """Return the thresholds, ascending, that divide the scores in their own precision."""
    ends = np.unique(np.concatenate([[0], y_score, [1]]))
    single = ends.astype(np.float32)
    # The same number for scores of either precision, where single precision can tell them apart.
    middles = ((single[1:] + single[:-1]) / 2).astype(np.float64)
    divides = (middles > ends[:-1]) & (middles < ends[1:])
    if precision != np.float32:
        middles = np.where(divides, middles, (ends[1:] + ends[:-1]) / 2)
        divides = (middles > ends[:-1]) & (middles < ends[1:])
    return middles[divides]


def _check(y_true, y_score):
    """Return labels and scores, of both classes and two scores at least."""
    y_true, y_score = check_binary(y_true, "y_true"), check_scores(y_score)
    check_lengths(y_true=y_true, y_score=y_score)
    for name, values in (("normal and abnormal studies", y_true), ("different scores", y_score)):
        if len(np.unique(values)) < 2:
            raise ValueError(
                f"expected {name} to choose an operating point on, got {len(values)} studies "
                f"alike; choose it on a table that holds both"
            )
    return y_true, y_score
