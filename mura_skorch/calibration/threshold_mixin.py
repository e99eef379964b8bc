"""Decide by a threshold: predictions, accuracy, recalibration."""

import warnings
from copy import deepcopy
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted

from mura_skorch.calibration.operating_point import (
    check_rule,
    choose_threshold,
    fit_platt,
    fit_temperature,
    is_rule,
)
from mura_skorch.calibration.triage import Triage
from mura_skorch.calibration.triage_mixin import TriageMixin
from mura_skorch.studies.columns import ON_SCORED
from mura_skorch.studies.validation import check_labelled
from mura_skorch.utils.provenance import type_digests

__all__ = ["ThresholdMixin", "probabilities"]

CALIBRATIONS = ("platt", "temperature", None)


class ThresholdMixin(TriageMixin):
    """What a classifier of studies makes of its probabilities: decisions, their score, their scale.

    The class it is mixed into has ``predict_proba``, ``logits_with_views``, the parameter
    ``threshold``, and calls `reset_operating_point` before it is fitted.

    Attributes
    ----------
    slope_, intercept_ : float
        The calibration of the logit: 1.0 and 0.0 unless `recalibrate` has fitted them.
    prior_correction_ : bool
        Whether the logarithm of the ratio of the loss's class weights is subtracted from the logit.
    chosen_thresholds_ : dict of str to float
        The number that was chosen for a rule.
    chosen_in_fit_ : bool
        Whether the studies that chose it were the validation part of the fit.
    chosen_on_ : dict of str to str
        Digests of the studies, by type, that chose the threshold or the calibration.
    """

    threshold: Any
    slope_: float = 1.0
    intercept_: float = 0.0
    prior_correction_: bool = False
    chosen_thresholds_: dict[str, float]
    chosen_on_: dict[str, str]
    predict_proba: Any
    logits_with_views: Any
    prior_shift: Any

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
        X, y = check_labelled(X, y)
        return accuracy_score(y, self.predict(X), sample_weight=sample_weight)

    def recalibrate(
        self,
        studies: pd.DataFrame | None = None,
        y: ArrayLike | None = None,
        *,
        threshold: float | str = "youden",
        calibration: Literal["platt", "temperature"] | None = "platt",
        prior_correction: bool = False,
        temperature: bool | None = None,
    ) -> Self:
        """Return a copy whose probabilities and threshold are fitted on other labelled studies.

        For a model that meets another hospital, scanner or case mix, and for probabilities that
        are to be read as such. No weight changes; the copy can be saved and loaded, and this model
        stays as it is.

        Parameters
        ----------
        studies : DataFrame of n_studies rows, optional
            A study table. It must hold neither what the model was trained on nor what is
            reported afterwards: figures on the studies that chose a threshold are too good. None
            where nothing is fitted: `threshold` is a number and `calibration` None.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``studies["label"]``.
        threshold : "youden", "sensitivity=0.95" or float, default="youden"
            As for `choose_threshold`, on the scale of the new probabilities. A rule holds on
            `studies`; on others, about half of all models are below the sensitivity it names.
        calibration : {"platt", "temperature"} or None, default="platt"
            "platt" fits a slope and an intercept on the logit, after which the mean probability
            is the share of abnormal studies, see `mura_skorch.calibration.fit_platt`.
            "temperature" fits the slope alone, which leaves probabilities that are too high on
            average too high. None leaves the logit as it is.
        prior_correction : bool, default=False
            Subtract what the class weights of the loss have added to the logit of each study type,
            see Notes.
        temperature : bool, optional
            Deprecated. True is ``calibration="temperature"``, False is ``calibration=None``.

        Returns
        -------
        Copy of this model

        Raises
        ------
        ValueError
            As `choose_threshold`, `fit_platt` and `fit_temperature` raise it; something is to be
            fitted and there are no studies; or the prior is to be corrected and the loss has no
            class weights.

        Notes
        -----
        A loss that weights the abnormal term by w1 and the normal one by w0 is least where the
        logit is log(w1 / w0) above that of the share of abnormal studies [1]_ [2]_. In MURA this is
        1.0 for hands, of which 26 % are abnormal, and 0.0 for shoulders. `prior_correction`
        subtracts it, from the logits of studies and of their views, before anything is fitted. It
        needs no studies, and gives probabilities for the shares of the training part. Types that
        training never saw have equal weights and are left as they are.

        It is off by default as it moves the types against each other. With it, 0.5 and any other
        threshold for all types is no longer near the best one of each, and figures over all types,
        such as the AUROC, change. Without it `recalibrate` is one rising line for all studies: no
        ranking changes. Turn it on where probabilities of several types are read, or without
        labelled studies to calibrate on.

        Probabilities of the copy are float64, made from the network's logits, so that confident
        studies do not become equal.

        References
        ----------
        .. [1] Elkan, "The foundations of cost-sensitive learning", IJCAI 2001.
        .. [2] Saerens, Latinne and Decaestecker, "Adjusting the outputs of a classifier to new a
           priori probabilities", Neural Computation 14, 2002.

        Examples
        --------
        >>> clf.recalibrate(local, threshold="sensitivity=0.95").save("local")  # doctest: +SKIP
        >>> clf.recalibrate(  # doctest: +SKIP
        ...     threshold=0.3, calibration=None, prior_correction=True
        ... )
        """
        if temperature is not None:
            warnings.warn(
                "temperature is deprecated: pass calibration='temperature', 'platt' or None",
                FutureWarning,
                stacklevel=2,
            )
            calibration = "temperature" if temperature else None
        check_rule(threshold)
        if calibration not in CALIBRATIONS:
            raise ValueError(f"expected calibration of {CALIBRATIONS}, got {calibration!r}")
        model = deepcopy(self)
        model.reset_operating_point()
        model.threshold, model.prior_correction_ = threshold, prior_correction
        if studies is None:
            if calibration or is_rule(threshold):
                raise ValueError(
                    "expected labelled studies to fit threshold and calibration on, got none; pass "
                    "them, or a number as threshold and calibration=None"
                )
            if prior_correction:
                model.prior_shift()
            return model
        studies, y = check_labelled(studies, y)
        if calibration or prior_correction:
            logit, _ = model.logits_with_views(studies)
            if calibration == "platt":
                model.slope_, model.intercept_ = fit_platt(y, expit(logit))
            elif calibration == "temperature":
                model.slope_ = 1 / fit_temperature(y, expit(logit))
            y_score = expit(model.calibrate_logit(logit))
        else:
            y_score = model.predict_proba(studies)[:, 1]
        model.apply_rule(y, y_score, studies)
        if calibration:
            model.chosen_on_ = type_digests(studies)
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
        """Forget calibration and chosen thresholds, which belong to weights that change."""
        self.slope_, self.intercept_ = 1.0, 0.0
        self.prior_correction_ = False
        self.chosen_thresholds_ = {}
        self.chosen_in_fit_ = False
        self.chosen_on_ = {}
        self.rule_failed_ = False
        self.triage_ = None

    def apply_rule(
        self, y: ArrayLike, y_score: ArrayLike, studies: pd.DataFrame, *, in_fit: bool = False
    ) -> None:
        """Choose the number of the rule on scored studies, where the threshold is a rule."""
        number = choose_threshold(y, y_score, self.threshold)
        if is_rule(self.threshold):
            self.chosen_thresholds_ = {self.threshold: number}
            self.chosen_in_fit_, self.chosen_on_ = in_fit, type_digests(studies)
            self.rule_failed_ = False

    @property
    def is_recalibrated_(self) -> bool:
        """Whether probabilities differ from those of the network's own logits."""
        return self.prior_correction_ or (self.slope_, self.intercept_) != (1, 0)

    def calibrate_logit(self, logit: np.ndarray) -> np.ndarray:
        """Return logits on the calibrated scale, in float64."""
        return self.slope_ * logit + self.intercept_

    def operating_point(self) -> dict[str, Any]:
        """Return what a saved model keeps."""
        is_temperature = self.intercept_ == 0 and not self.prior_correction_
        return {
            "threshold": float(self.threshold_),
            # All that versions before this one know; they refuse a model that needs the rest.
            "temperature": 1 / self.slope_ if is_temperature else None,
            "slope": self.slope_,
            "intercept": self.intercept_,
            "prior_correction": self.prior_correction_,
            "chosen_in_fit": self.chosen_in_fit_,
            "chosen_on": self.chosen_on_,
            "rule_failed": self.rule_failed_,
            "triage": None if self.triage_ is None else self.triage_.to_dict(),
        }

    def describe_operating_point(self) -> str:
        """Return how the model decides, in words."""
        text = f"abnormal above {self.threshold_:.4g}"
        if is_rule(self.threshold):
            text += f" ({self.describe_choice()})"
        if self.prior_correction_:
            text += "; corrected for the class weights of the loss"
        if (self.slope_, self.intercept_) != (1, 0):
            text += f"; slope {self.slope_:.3g} and intercept {self.intercept_:.3g} on the logit"
        if self.triage_ is not None:
            text += f"; triage at an error rate of {100 * self.triage_.error_rate:g} %"
        return text

    def describe_choice(self, studies: pd.DataFrame | None = None) -> str:
        """Return what chose the threshold, in words, and whether it was the given studies."""
        is_chosen = is_rule(self.threshold)
        if is_chosen and self.rule_failed_:
            return f"{self.threshold} could not be applied"
        if not is_chosen and (self.slope_, self.intercept_) == (1, 0):
            return "a fixed number"
        digests = type_digests(studies) if studies is not None and self.chosen_on_ else {}
        if digests.items() & self.chosen_on_.items():
            where = ON_SCORED
        elif self.chosen_in_fit_:
            where = "on the validation part of the fit"
        else:
            where = "on other labelled studies"
        if is_chosen:
            return f"{self.threshold}, chosen {where}"
        return f"a fixed number, on probabilities calibrated {where}"

    def set_operating_point(self, saved: dict[str, Any] | None, rule: float | str | None) -> None:
        """Take what `operating_point` returned of a model with that threshold or rule."""
        self.reset_operating_point()
        if not saved:  # of version 0.1.0
            return
        # Models saved before there was an intercept have a temperature.
        self.slope_ = saved["slope"] if "slope" in saved else 1 / saved["temperature"]
        self.intercept_ = saved.get("intercept", 0.0)
        self.prior_correction_ = saved.get("prior_correction", False)
        self.chosen_in_fit_ = saved.get("chosen_in_fit", False)
        self.chosen_on_ = saved.get("chosen_on", {})
        self.rule_failed_ = saved.get("rule_failed", False)
        if (triage := saved.get("triage")) is not None:
            self.triage_ = Triage.from_dict(triage)
        self.chosen_thresholds_ = {rule: saved["threshold"]} if isinstance(rule, str) else {}


def probabilities(
    logit: np.ndarray, view_logit: list[np.ndarray]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the probabilities (n_studies, 2) of normality and abnormality, and those of views."""
    return np.column_stack([expit(-logit), expit(logit)]), [expit(own) for own in view_logit]
