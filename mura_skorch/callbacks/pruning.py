"""Report epochs to a trial of a sweep, and end the fit where the trial is not promising."""

import logging
from typing import Any, Self

from mura_skorch.callbacks.base import StatelessCallback

__all__ = ["Pruning"]

_log = logging.getLogger(__name__)


class Pruning(StatelessCallback):
    """Report each epoch to a trial of Optuna, and end the fit when its pruner asks for it.

    The fit ends as by `skorch.callbacks.EarlyStopping`: all callbacks record the epoch first,
    the best weights are restored, and `fit` returns. `MuraClassifier.pruned_` is True then. The
    MLflow run is FINISHED, with the tag ``pruned`` and without a model.

    Parameters
    ----------
    trial : optuna.trial.Trial
        Or anything else that has ``report(value, step)`` and ``should_prune()``.
    monitor : str, default="valid_loss"
        What is reported of the history.

    Notes
    -----
    A storage that does not answer does not end the fit. The next epoch reports what is missing.

    Examples
    --------
    >>> trial = study.ask()  # doctest: +SKIP
    >>> clf = MuraClassifier(callbacks=[("pruning", Pruning(trial))]).fit(train)  # doctest: +SKIP
    >>> clf.pruned_  # doctest: +SKIP
    False
    """

    def __init__(self, trial: Any, monitor: str = "valid_loss") -> None:
        self.trial = trial
        self.monitor = monitor

    def initialize(self) -> Self:
        """Forget the last fit."""
        self.n_reported_ = 0
        self.is_pruned_ = False
        return self

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Report from the first epoch on, also those of a checkpoint."""
        self.initialize()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Report the epoch, and end the fit if the trial should be pruned."""
        if self.monitor not in net.history[-1]:
            raise ValueError(
                f"expected {self.monitor!r} in the history, which Pruning reports, got "
                f"{', '.join(name for name in net.history[-1] if name != 'batches')}; pass "
                "another monitor, or a train_split with a validation part"
            )
        self._report(net, may_prune=True)
        if self.is_pruned_:
            raise KeyboardInterrupt  # as EarlyStopping does, see `StudyNet.notify`

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Report what is missing: a checkpoint may have left no epoch to train."""
        self._report(net, may_prune=False)

    def _report(self, net, *, may_prune):
        try:
            for row in net.history[self.n_reported_ :]:
                if self.monitor in row:  # an interrupted epoch has none
                    self.trial.report(float(row[self.monitor]), row["epoch"])
                self.n_reported_ += 1
            if may_prune:
                self.is_pruned_ = bool(self.trial.should_prune())
        except Exception as error:  # a storage that is away is no reason to end a fit
            _log.warning("the trial could not be reported, training continues: %s", error)

    def state_dict(self) -> dict[str, Any]:
        """Return whether the fit was ended, for a checkpoint."""
        return {"is_pruned": self.is_pruned_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what a checkpoint says."""
        self.is_pruned_ = state["is_pruned"]
