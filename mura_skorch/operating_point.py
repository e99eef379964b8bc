"""Operating point: labels and probabilities go in, a threshold and a temperature come out.

A threshold turns probabilities into decisions; a temperature makes them agree with how often they
come true. Both are chosen by scikit-learn's own classes on labelled studies that are neither
trained on nor reported.
"""

import re
import warnings
from copy import deepcopy
from numbers import Real
from typing import Any

import numpy as np
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import TunedThresholdClassifierCV

from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores
from mura_skorch.studies import check_studies

__all__ = [
    "OperatingPointMixin",
    "apply_temperature",
    "check_rule",
    "choose_threshold",
    "fit_temperature",
    "is_rule",
]

# Of a temperature that no table of studies with errors in both directions asks for.
EXTREME = 20


def choose_threshold(y_true, y_score, rule):
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
    if not is_rule(rule):
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


def fit_temperature(y_true, y_score):
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


def apply_temperature(p, temperature):
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


def is_rule(threshold):
    """Return whether a threshold is a rule that has to be applied to labelled studies."""
    return isinstance(threshold, str)


def check_rule(rule):
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


class OperatingPointMixin:
    """What a classifier of studies makes of its probabilities: decisions, their score, their scale.

    The class it is mixed into has ``predict_proba``, the parameter ``threshold``, and calls
    `reset_operating_point` before it is fitted.

    Attributes
    ----------
    temperature_ : float
        Divides the logit of the study probability; 1.0 unless `recalibrate` has fitted it.
    chosen_thresholds_ : dict of str to float
        The number that was chosen for a rule.
    """

    threshold: Any
    temperature_: float
    chosen_thresholds_: dict[str, float]
    predict_proba: Any

    @property
    def threshold_(self):
        """The number in use: studies with a probability strictly above are abnormal."""
        if not is_rule(self.threshold):
            return self.threshold
        if self.threshold not in self.chosen_thresholds_:
            raise ValueError(
                f"expected a threshold chosen by {self.threshold!r}, got none for that rule yet: "
                "call fit or recalibrate, or pass a number"
            )
        return self.chosen_thresholds_[self.threshold]

    def predict(self, X):
        """Return 1 for studies with a probability strictly above `threshold_`, and 0 for others.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies,), uint8
        """
        return (self.predict_proba(X)[:, 1] > self.threshold_).astype(np.uint8)

    def score(self, X, y=None):
        """Return the accuracy on labelled studies; `y` None means ``X["label"]``."""
        X, y = _labelled(X, y)
        return accuracy_score(y, self.predict(X))

    def recalibrate(self, studies, y=None, *, threshold="youden", temperature=True):
        """Return a copy whose threshold and temperature are fitted on other labelled studies.

        For a model that meets another hospital, scanner or case mix. No weight changes; the copy
        can be saved and loaded, and this model stays as it is.

        Parameters
        ----------
        studies : DataFrame of n_studies rows
            A study table. It must hold neither what the model was trained on nor what is
            reported afterwards: figures on the studies that chose a threshold are too good.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``studies["label"]``.
        threshold : "youden", "sensitivity=0.95" or float, default="youden"
            As for `choose_threshold`, on the scale of the new temperature.
        temperature : bool, default=True
            Fit the temperature, too. False means 1.0.

        Returns
        -------
        Copy of this model

        Raises
        ------
        ValueError
            As `choose_threshold` and `fit_temperature` raise it.

        Examples
        --------
        >>> clf.recalibrate(local, threshold="sensitivity=0.95").save("local")  # doctest: +SKIP
        """
        check_rule(threshold)
        studies, y = _labelled(studies, y)
        model = deepcopy(self)
        model.reset_operating_point()
        y_score = model.predict_proba(studies)[:, 1]
        if temperature:
            model.temperature_ = fit_temperature(y, y_score)
        model.threshold = threshold
        model.apply_rule(y, model.scale(y_score))
        return model

    def reset_operating_point(self):
        """Forget temperature and chosen thresholds, which belong to weights that change."""
        self.temperature_ = 1.0
        self.chosen_thresholds_ = {}

    def apply_rule(self, y, y_score):
        """Choose the number of the rule on labelled scores, where the threshold is a rule."""
        number = choose_threshold(y, y_score, self.threshold)
        if is_rule(self.threshold):
            self.chosen_thresholds_ = {self.threshold: number}

    def scale(self, p):
        """Return study probabilities on the scale of `temperature_`, in their own precision."""
        return apply_temperature(p, self.temperature_).astype(np.asarray(p).dtype)

    def operating_point(self):
        """Return what a saved model keeps."""
        return {"threshold": self.threshold_, "temperature": self.temperature_}

    def set_operating_point(self, saved, rule):
        """Take what `operating_point` returned of a model with that threshold or rule."""
        self.reset_operating_point()
        if saved:  # models of 0.1.0 had neither
            self.temperature_ = saved["temperature"]
            self.chosen_thresholds_ = {rule: saved["threshold"]} if is_rule(rule) else {}


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


def _labelled(X, y):
    """Return a checked table and its labels, given or its own."""
    if y is None and "label" not in X:
        raise ValueError("expected y or a column label to score against, got neither")
    return check_studies(X, X["label"] if y is None else y)
