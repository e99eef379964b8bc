"""Score the validation studies after the fit, and choose the decision threshold on them."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.calibration.operating_point import is_rule
from mura_skorch.callbacks.base import StatelessCallback
from mura_skorch.callbacks.best_weights import BestWeights
from mura_skorch.data.dataset import studies_of
from mura_skorch.evaluation.predictions import prediction_table
from mura_skorch.studies.columns import is_exploded

__all__ = ["OperatingPoint"]


class OperatingPoint(StatelessCallback):
    """Predict the validation part once the best weights are back; choose the threshold by its rule.

    The predictions become ``valid_predictions_`` of the net, their scores ``scores_``. Where the
    threshold is a rule, the scores of the epochs use 0.5. If the rule cannot be applied after the
    fit, the threshold stays 0.5, with a warning.
    """

    def on_train_begin(self, net: Any, data: Any = None, **kwargs: Any) -> None:
        """Forget what was chosen for other weights."""
        self.dataset_valid_ = data.valid
        net.reset_operating_point()
        if is_rule(net.threshold):
            net.chosen_thresholds_ = {net.threshold: 0.5}

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Predict, choose the threshold, score."""
        dataset, self.dataset_valid_ = self.dataset_valid_, None
        if dataset is None or not any("valid_loss" in row for row in net.history):
            return
        studies, y_score = studies_of(dataset), _predict(net, dataset)
        if is_rule(net.threshold):
            _choose(net, studies, y_score)
        net.take_valid_predictions(validation_table(studies, y_score, threshold=net.threshold_))


def _predict(net, dataset):
    """Return the scores in the arithmetic of the fit, since integers come after it."""
    given = net.engine, net.precision
    net.engine, net.precision = "torch", net.precision_
    try:
        return net.predict_proba(dataset)[:, 1]
    finally:
        net.engine, net.precision = given


def validation_table(
    studies: pd.DataFrame, y_score: np.ndarray, *, threshold: float
) -> pd.DataFrame:
    """Return the prediction table of a validation part, which names its level if rows are views."""
    table = prediction_table(studies, y_score, threshold=threshold)
    if is_exploded(studies):
        table = table.assign(level="view", view=studies["view"].to_numpy())
    return table


def _choose(net, studies, y_score):
    """Choose the threshold by its rule, and save it with the best weights."""
    try:
        net.apply_rule(studies["label"], y_score, studies, in_fit=True)
    except ValueError as error:  # the trained weights must not be lost
        net.rule_failed_ = True
        warnings.warn(
            f"expected a validation part to choose the threshold by {net.threshold!r} on, got: "
            f"{error}. The threshold is 0.5; choose another with recalibrate",
            stacklevel=2,
        )
    for _, callback in net.callbacks_:
        if isinstance(callback, BestWeights) and callback.has_saved_:
            callback.save_model(net)
