"""Losses, accuracy and kappa at the end of each epoch."""

import re
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix
from skorch.callbacks import (
    EarlyStopping,
    EpochScoring,
    PassthroughScoring,
)

from mura_skorch.callbacks.pruning import Pruning
from mura_skorch.data.dataset import studies_of
from mura_skorch.metrics import kappa_score
from mura_skorch.studies.columns import is_exploded

__all__ = ["EpochLoss", "LevelScoring", "StudyScores", "has_stopped_early", "was_pruned"]


def watched_loss(net: Any) -> float:
    """Return the loss the plateau watches: validation's, or training's where there is no other."""
    row = net.history[-1]
    return row["valid_loss"] if "valid_loss" in row else row["train_loss"]


def has_stopped_early(net: Any) -> bool:
    """Return whether `EarlyStopping` or `Pruning`, and no Ctrl-C, ended the training."""
    return was_pruned(net) or any(
        isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
        for _, callback in net.callbacks_
    )


def was_pruned(net: Any) -> bool:
    """Return whether a `Pruning` callback ended the training."""
    return any(isinstance(item, Pruning) and item.is_pruned_ for _, item in net.callbacks_)


class EpochLoss(PassthroughScoring):
    """Record the mean loss of the epoch, and whether it is the best of the whole history."""

    def on_train_begin(self, net: Any, is_comparable: bool = True, **kwargs: Any) -> None:
        """Take the best loss so far from the history, if the losses to come compare with it."""
        losses = [row[self.name] for row in net.history if np.isfinite(row.get(self.name, np.nan))]
        self.best_score_ = min(losses, default=np.inf) if is_comparable else np.inf

    def state_dict(self) -> dict[str, Any]:
        """Return the best loss, for a checkpoint."""
        return {"best_score": self.best_score_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best loss of a checkpoint."""
        self.best_score_ = state["best_score"]


class LevelScoring(EpochScoring):
    """Score an epoch as skorch does; scores of single views have names of their own.

    Where the rows are views, as `mura_skorch.studies.explode_views` makes them, ``train_acc`` is
    recorded as ``train_view_acc``, so that nobody takes it for the figure of whole studies.
    """

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Name the score after the level of what it is made of."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        dataset = dataset_train if self.on_train else dataset_valid
        self.is_exploded_ = dataset is not None and is_exploded(studies_of(dataset))
        self.name_ = self._at_level(self._get_name())

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, for a checkpoint."""
        return {"best_score": self.best_score_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best score of a checkpoint."""
        self.best_score_ = state["best_score"]

    def _at_level(self, name):
        return re.sub("^(train_|valid_)?", r"\g<0>view_", name) if self.is_exploded_ else name


class StudyScores(LevelScoring):
    """Score the validation part from one set of study probabilities.

    Records ``valid_kappa``, the confusion counts ``valid_confusion/tp`` and so on,
    and, where the validation part has several study types, ``valid_kappa/<type>`` for each. Where
    its rows are single views the names are ``valid_view_kappa`` and so on.

    Parameters
    ----------
    name : str, default="valid_kappa"
        Name of the kappa in the history; ``<name>_best`` flags the best epoch.
    lower_is_better : bool, default=False
        Which kappa is best.
    use_caching : bool, default=True
        Score what the epoch has predicted already.
    """

    def __init__(
        self, name: str = "valid_kappa", lower_is_better: bool = False, use_caching: bool = True
    ) -> None:
        super().__init__(
            scoring=None, name=name, lower_is_better=lower_is_better, use_caching=use_caching
        )

    def _get_param_names(self):
        return ["name", "lower_is_better", "use_caching"]

    def _scoring(self, net, X_test, y_test):
        """Return every score by its name; exactly one prediction is made."""
        y_pred = net.predict(X_test).astype(int)
        y_true = np.asarray(y_test, dtype=int)
        scores = {
            self.name_: kappa_score(y_true, y_pred),
        }
        counts = confusion_matrix(y_true, y_pred, labels=[0, 1]).ravel()
        for name, count in zip(("tn", "fp", "fn", "tp"), counts.tolist(), strict=True):
            scores[self._at_level(f"valid_confusion/{name}")] = count
        study_type = studies_of(X_test)["study_type"].to_numpy()
        present = np.unique(study_type)
        for name in present if len(present) > 1 else []:
            own = study_type == name
            scores[f"{self.name_}/{str(name).replace('/', '_')}"] = kappa_score(
                y_true[own], y_pred[own]
            )
        return scores

    def _record_score(self, history, current_score):
        """Record the named scores; the best is the best kappa."""
        kappa = current_score.pop(self.name_)
        for name, score in current_score.items():
            history.record(name, score)
        super()._record_score(history, kappa)
