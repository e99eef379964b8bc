"""Choose thresholds and fit calibrations on labelled studies.

A threshold turns probabilities into decisions. A calibration is a line on the logit, after which
probabilities agree with observed frequencies. Fit both on studies that are neither trained on nor
reported.
"""

import re
import warnings
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

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

# A temperature above this, or below its inverse, says that the scores separate the studies without
# an error or not at all.
EXTREME = 20
# The smallest slope: the line still rises, so that no two scores become equal.
FLATTEST = 1e-4
# Bounds of the logarithm of the inverse temperature, and what keeps the logarithms of probabilities
# finite while it is fitted: as in scikit-learn 1.9, whose temperatures these are.
LOG_BOUNDS = (-10.0, 10.0)
LOG_OFFSET = 1e-12
EPS = float(np.finfo(np.float64).eps)
# Platt's line is solved to the precision of float64.
SOLVER = {"gtol": 1e-10, "ftol": 1e-16}


def choose_threshold(y_true: ArrayLike, y_score: ArrayLike, rule: float | str) -> float:
    """Return the threshold that a rule chooses on labelled studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    rule : "youden", "sensitivity=0.95" or float
        "youden": the highest sensitivity + specificity - 1 [1]_. "sensitivity=S", for any S above
        0 and up to 1: the highest specificity among the thresholds that reach at least that
        sensitivity. If several thresholds are equally good, the lowest. A number is returned
        unchanged.

    Returns
    -------
    float
        In (0, 1), midway between two neighbouring scores. Studies with a probability strictly
        above it are abnormal.

    Raises
    ------
    ValueError
        The rule is unknown; there are no normal or no abnormal studies; all scores are equal; or
        the sensitivity cannot be reached because an abnormal study has a probability of 0.

    Notes
    -----
    Thresholds are compared by integer counts, so that rounding breaks no tie. With TP true
    positives among P abnormal and TN true negatives among N normal studies, "youden" maximises
    TP * N + TN * P.

    A rule describes the studies that chose the threshold and guarantees nothing on others. After
    "sensitivity=0.95", about half of all models have a true sensitivity below 0.95. With a hundred
    studies to choose on, one in twenty is below about 0.88.

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
    thresholds = _midpoints(scores, precision)
    abnormal, normal = (np.sort(scores[labels == label]) for label in (1, 0))
    n_true_positive = len(abnormal) - np.searchsorted(abnormal, thresholds, side="right")
    n_true_negative = np.searchsorted(normal, thresholds, side="right")
    if wanted is None:
        merit = n_true_positive * len(normal) + n_true_negative * len(abnormal)
    else:
        merit = np.where(n_true_positive / len(abnormal) >= wanted, n_true_negative, -1)
    if merit.max() < 0:
        raise ValueError(
            f"expected probabilities that can reach {rule}, got abnormal studies of "
            "probability 0; pass a lower sensitivity"
        )
    return float(thresholds[merit.argmax()])  # the first of the best, and so the lowest


def fit_platt(y_true: ArrayLike, y_score: ArrayLike) -> tuple[float, float]:
    """Return the slope and intercept on the logit that fit the labels best.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].

    Returns
    -------
    slope : float
        Above 0; below 1 if the probabilities are too extreme.
    intercept : float
        Below 0 if the probabilities are too high, as after a loss that gives the rarer abnormal
        studies the larger weight. `apply_platt` takes both.

    Raises
    ------
    ValueError
        There are no normal or no abnormal studies, or all scores are equal.

    Warns
    -----
    UserWarning
        Abnormal studies have the lower scores. The slope is then set to 1e-4: all probabilities
        become about the share of abnormal studies and keep their order.

    Notes
    -----
    Platt's method [1]_: maximum likelihood with the targets (P + 1) / (P + 2) and 1 / (N + 2) in
    place of 1 and 0, for P abnormal and N normal studies. The slope is therefore finite even if the
    scores make no error. The mean probability becomes the share of abnormal studies, within
    1 / n_studies.

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
    n, n_abnormal = len(labels), labels.sum()
    target = np.where(labels == 1, (n_abnormal + 1) / (n_abnormal + 2), 1 / (n - n_abnormal + 2))
    # A centred logit of unit spread: the two parameters barely interact.
    logit = _logit(scores)
    centre, spread = logit.mean(), logit.std()
    scaled = (logit - centre) / spread

    def loss(line):
        """Return the mean cross-entropy and its gradient."""
        z = line[0] * scaled + line[1]
        error = (expit(z) - target) / n
        return np.mean(np.logaddexp(0, z) - target * z), np.array([error @ scaled, error.sum()])

    line = minimize(loss, np.zeros(2), jac=True, method="L-BFGS-B", options=SOLVER).x
    slope = float(line[0] / spread)
    intercept = float(line[1] - slope * centre)
    if slope < FLATTEST:
        share = target.mean()
        warnings.warn(
            f"expected abnormal studies to have the higher scores, got a fitted slope of "
            f"{slope:.3g} on {n} studies: the scores rank them the wrong way round, or not at all. "
            f"The slope was set to {FLATTEST:g}, so that every probability is about the share of "
            f"abnormal studies, {share:.2g}. Check that labels are 1 for abnormal, fit on more "
            "studies, or pass calibration=None to leave the probabilities unchanged",
            stacklevel=2,
        )
        slope, intercept = FLATTEST, float(np.log(share / (1 - share)))
    return slope, intercept


def fit_temperature(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the temperature with the lowest log loss on labelled studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].

    Returns
    -------
    float
        Above 1 if the probabilities are too extreme, below 1 if they are not extreme enough [1]_.
        `apply_temperature` takes it.

    Raises
    ------
    ValueError
        There are no normal or no abnormal studies, or all scores are equal.

    Warns
    -----
    UserWarning
        The temperature is outside 1/20 to 20: the scores separate the studies without an error,
        or not at all.

    Notes
    -----
    Equals scikit-learn's ``CalibratedClassifierCV(method="temperature")`` fitted on all studies at
    once. A temperature divides the logit and cannot shift it: probabilities that are too high on
    average stay too high. `fit_platt` corrects both.

    References
    ----------
    .. [1] Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.

    Examples
    --------
    >>> round(fit_temperature([0, 1, 1, 1], [0.99, 0.99, 0.99, 0.99999]), 1)
    4.6
    """
    labels, scores = _check(y_true, y_score)
    margin = np.where(labels == 1, -1, 1) * _logit(scores, LOG_OFFSET)  # above 0: wrong side
    found = minimize_scalar(
        lambda log_inverse: np.logaddexp(0, np.exp(log_inverse) * margin).mean(),
        bounds=LOG_BOUNDS,
        options={"xatol": 1e-8},
    )
    temperature = float(np.exp(-found.x))
    if not 1 / EXTREME <= temperature <= EXTREME:
        how = "without an error" if temperature < 1 else "not at all"
        warnings.warn(
            f"expected a temperature between {1 / EXTREME} and {EXTREME}, got {temperature:.3g}: "
            f"the scores separate the {len(labels)} studies {how}; fit on more studies, or pass "
            "calibration=None to leave the probabilities unchanged",
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
    """Return whether a threshold is a rule, which labelled studies turn into a number."""
    return isinstance(threshold, str)


def check_rule(rule: Any) -> float | None:
    """Return the sensitivity that a rule names, or None; raise ValueError for an unknown rule."""
    if is_rule(rule):
        if rule == "youden":
            return None
        match = re.fullmatch(r"sensitivity=(0*\.\d+|0*1\.?0*)", rule)
        if match and float(match[1]) > 0:
            return float(match[1])
    elif isinstance(rule, Real) and not isinstance(rule, bool) and 0 <= float(rule) <= 1:
        return None
    raise ValueError(
        "expected a threshold from 0 to 1, 'youden', or 'sensitivity=S' with S above 0 and up "
        f"to 1, such as 'sensitivity=0.95', got {rule!r}"
    )


def _logit(p, eps=EPS):
    """Return log(p / (1 - p)), which eps keeps finite at 0 and 1."""
    return np.log(p + eps) - np.log(1 - p + eps)


def _midpoints(y_score, precision):
    """Return the midpoints between neighbouring scores, ascending, that separate them."""
    ends = np.unique(np.concatenate([[0], y_score, [1]]))
    single = ends.astype(np.float32)
    # float32 midpoints give float32 and float64 scores the same threshold.
    middles = ((single[1:] + single[:-1]) / 2).astype(np.float64)
    separates = (middles > ends[:-1]) & (middles < ends[1:])
    if precision != np.float32:
        middles = np.where(separates, middles, (ends[1:] + ends[:-1]) / 2)
        separates = (middles > ends[:-1]) & (middles < ends[1:])
    return middles[separates]


def _check(y_true, y_score):
    """Return labels and scores; raise ValueError unless both have two different values."""
    y_true, y_score = check_binary(y_true, "y_true"), check_scores(y_score)
    check_lengths(y_true=y_true, y_score=y_score)
    if len(np.unique(y_true)) < 2:
        raise ValueError(
            f"expected normal and abnormal studies, got {len(y_true)} studies of one label; fit "
            "thresholds and calibrations on a table that holds both"
        )
    if len(np.unique(y_score)) < 2:
        raise ValueError(
            f"expected different scores, got the same score for all {len(y_true)} studies; fit "
            "thresholds and calibrations on studies that the model tells apart"
        )
    return y_true, y_score
