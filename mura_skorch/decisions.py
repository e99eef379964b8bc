"""Decisions: a model's probabilities go in; calls, their score and a refitted copy come out."""

from copy import deepcopy
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from mura_skorch.arrays import as_table
from mura_skorch.operating_point import (
    apply_temperature,
    check_rule,
    choose_threshold,
    fit_temperature,
    is_rule,
)
from mura_skorch.studies import check_studies

__all__ = ["OperatingPointMixin"]


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
    def threshold_(self) -> float:
        """The number in use: studies with a probability strictly above are abnormal."""
        if not is_rule(self.threshold):
            return self.threshold
        check_is_fitted(self)
        if self.threshold not in self.chosen_thresholds_:
            raise ValueError(
                f"expected a threshold chosen by {self.threshold!r}, got none for that rule yet: "
                "call fit or recalibrate, or pass a number"
            )
        return self.chosen_thresholds_[self.threshold]

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return 1 for studies with a probability strictly above `threshold_`, and 0 for others.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies,), uint8
        """
        y_score = self.predict_proba(X)[:, 1].astype(float)
        return (y_score > self.threshold_).astype(np.uint8)

    def predict_log_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the logarithms of what ``predict_proba`` returns; -inf where that is 0.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, 2), float32
        """
        with np.errstate(divide="ignore"):
            return np.log(self.predict_proba(X))

    def score(
        self, X: pd.DataFrame, y: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> float:
        """Return the accuracy on labelled studies; `y` None means ``X["label"]``."""
        X, y = _labelled(X, y)
        return accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    def recalibrate(
        self,
        studies: pd.DataFrame,
        y: ArrayLike | None = None,
        *,
        threshold: float | str = "youden",
        temperature: bool = True,
    ) -> Self:
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
        proba = model.predict_proba(studies)
        if temperature:
            model.temperature_ = fit_temperature(y, proba[:, 1])
        model.threshold = threshold
        model.apply_rule(y, model.rescale(proba)[:, 1])
        return model

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.required = False  # None means X["label"]
        tags.classifier_tags.multi_class = False
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.non_deterministic = True  # on a GPU, where sums are in no fixed order
        return tags

    def reset_operating_point(self) -> None:
        """Forget temperature and chosen thresholds, which belong to weights that change."""
        self.temperature_ = 1.0
        self.chosen_thresholds_ = {}
        self.rule_failed_ = False

    def apply_rule(self, y: ArrayLike, y_score: ArrayLike) -> None:
        """Choose the number of the rule on labelled scores, where the threshold is a rule."""
        number = choose_threshold(y, y_score, self.threshold)
        if is_rule(self.threshold):
            self.chosen_thresholds_ = {self.threshold: number}
            self.rule_failed_ = False

    def rescale(self, proba: np.ndarray) -> np.ndarray:
        """Return study probabilities (n_studies, 2) on the scale of `temperature_`."""
        if self.temperature_ == 1:
            return proba
        abnormal = self.scale(proba[:, 1])
        return np.column_stack([1 - abnormal, abnormal])

    def scale(self, p: np.ndarray) -> np.ndarray:
        """Return probabilities on the scale of `temperature_`, in their own precision."""
        if self.temperature_ == 1:
            return p
        return apply_temperature(p, self.temperature_).astype(p.dtype)

    def operating_point(self) -> dict[str, Any]:
        """Return what a saved model keeps."""
        return {
            "threshold": float(self.threshold_),
            "temperature": self.temperature_,
            "rule_failed": self.rule_failed_,
        }

    def describe_operating_point(self) -> str:
        """Return how the model decides, in words."""
        text = f"abnormal above {self.threshold_:.4g}"
        if is_rule(self.threshold):
            text += f" ({self.threshold}{' could not be applied' if self.rule_failed_ else ''})"
        scale = "" if self.temperature_ == 1 else f"; temperature {self.temperature_:.3g}"
        return text + scale

    def set_operating_point(self, saved: dict[str, Any] | None, rule: float | str | None) -> None:
        """Take what `operating_point` returned of a model with that threshold or rule."""
        self.reset_operating_point()
        if saved:  # models of 0.1.0 had neither
            self.temperature_ = saved["temperature"]
            self.rule_failed_ = saved.get("rule_failed", False)
            self.chosen_thresholds_ = {rule: saved["threshold"]} if isinstance(rule, str) else {}


def _labelled(X, y):
    """Return a checked table and its labels, given or its own."""
    X = as_table(X)
    if y is None and "label" not in X:
        raise ValueError("expected y or a column label to score against, got neither")
    return check_studies(X, X["label"] if y is None else y)
