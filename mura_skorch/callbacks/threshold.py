"""Choose the decision threshold on the validation studies after the fit."""

import warnings
from typing import Any

from mura_skorch.calibration.operating_point import is_rule
from mura_skorch.callbacks.base import StatelessCallback
from mura_skorch.callbacks.best_weights import BestWeights
from mura_skorch.data.dataset import studies_of

__all__ = ["OperatingPoint"]


class OperatingPoint(StatelessCallback):
    """Choose the threshold by its rule on the validation part, once the best weights are back.

    Does nothing if the threshold is a number. With a rule, the scores of the epochs use 0.5. If
    the rule cannot be applied after the fit, the threshold stays 0.5, with a warning.
    """

    def on_train_begin(self, net: Any, data: Any = None, **kwargs: Any) -> None:
        """Forget what was chosen for other weights."""
        self.dataset_valid_ = data.valid
        net.reset_operating_point()
        if is_rule(net.threshold):
            net.chosen_thresholds_ = {net.threshold: 0.5}

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Choose the threshold."""
        dataset, self.dataset_valid_ = self.dataset_valid_, None
        has_validated = any("valid_loss" in row for row in net.history)
        if not is_rule(net.threshold) or dataset is None or not has_validated:
            return
        try:
            studies, y_score = studies_of(dataset), net.predict_proba(dataset)[:, 1]
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
