"""Resuming: a training that was killed goes in, the same training to its end comes out."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from numpy.typing import ArrayLike
from skorch.callbacks import Callback, PrintLog

from mura_skorch.callbacks.scoring import has_stopped_early
from mura_skorch.callbacks.threshold import OperatingPoint
from mura_skorch.tracking.callback import MlflowTracker
from mura_skorch.training.checkpoint import (
    DAMAGED,
    StateFile,
    damaged_state,
    restore_state,
    state_of,
)
from mura_skorch.training.fingerprint import differences, fingerprint_of
from mura_skorch.training.persistence import PersistentNet
from mura_skorch.training.signals import Interruptions

__all__ = ["ResumableNet", "StateKeeper"]

_log = logging.getLogger(__name__)


class StateKeeper(Callback):
    """Write the whole state once an epoch is over, before MLflow hears of it."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write the state, where the net has a file for it."""
        net.keep_state()


class ResumableNet(PersistentNet):
    """A net whose training ends in order when it is interrupted, and can go on afterwards.

    Its subclass has the parameter ``state_file``, trains within `kept`, and calls `take_up` when
    the parts of the data are known.
    """

    state_: StateFile | None = None
    interruptions_: Interruptions

    @contextmanager
    def kept(self) -> Iterator[bool]:
        """Train within this block; it gives whether the state found is that of a finished fit.

        Only the first call after `initialize` is kept: later ones of ``partial_fit`` begin where
        the user's own program has brought the net.
        """
        self.interruptions_ = Interruptions()
        self.interrupted_ = False
        try:
            with self.interruptions_.raised():
                if self.state_file is None or self.history:
                    yield False
                else:
                    with StateFile(self.state_file) as self.state_:
                        is_finished = self._begin(self.state_.found)
                        yield is_finished
                        if not is_finished and not self.interrupted_:
                            self.keep_state(is_finished=True)
        except (KeyboardInterrupt, SystemExit):
            self.interrupted_ = True
            raise
        finally:
            if self.interrupted_:
                self._say_how_to_go_on()
            self.__dict__.pop("state_", None)
            self.__dict__.pop("interruptions_", None)  # neither goes into a pickle

    def _begin(self, found):
        """Take from a state what must be known before the parts of the data are."""
        if found is None:
            return False
        self.seed_, self.study_types_ = found["seed"], found["study_types"]
        for tracker in self._trackers():
            tracker.resume(found["run_id"])
        n_epochs = f"{found['n_epochs']} of {self.max_epochs} epochs"
        _log.info(
            "%s: %s after %s",
            self.state_file,
            "the fit was finished" if found["is_finished"] else "training goes on",
            n_epochs,
        )
        return found["is_finished"]

    def take_up(self, train: Any, valid: Any) -> None:
        """Go to where the state was written, if these are its parameters and data.

        Raises
        ------
        ValueError
            Something else than what the state was begun with is to be trained.
        """
        if self.state_ is None:
            return
        self.fingerprint_ = fingerprint_of(self, train, valid)
        found = self.state_.found
        if found is None:
            self.keep_state()  # for a crash in the first epoch: the seed, the run
            return
        if different := differences(found["fingerprint"], self.fingerprint_):
            raise ValueError(
                f"expected to go on with the fit that {self.state_file} is of, got another one: "
                f"{different}. Pass what it was begun with, or another state_file to train anew"
            )
        try:
            restore_state(self, found, self.state_.tensors())
        except DAMAGED as error:
            raise damaged_state(self.state_file, error) from error
        if found["is_finished"]:
            self.run_id_ = found["run_id"]
            return
        for _, callback in self.callbacks_:
            if isinstance(callback, MlflowTracker | OperatingPoint):
                callback.on_epoch_begin(self, dataset_train=train, dataset_valid=valid)
        for tracker in self._trackers():
            tracker.send_missing(self)

    def keep_state(self, *, is_finished: bool = False) -> None:
        """Write the state, where there is a file for it."""
        if self.state_ is None:
            return
        if not is_finished:  # within the net's own random state
            self.rng_state_ = torch.get_rng_state()
        info, tensors = state_of(self, self.fingerprint_, is_finished=is_finished)
        self.state_.write({**info, "has_stopped": has_stopped_early(self)}, tensors)

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Tell the callbacks; an epoch that is over is recorded whole before anything stops it."""
        if method_name != "on_epoch_end" or "interruptions_" not in self.__dict__:
            super().notify(method_name, **cb_kwargs)
            return
        stop = None
        with self.interruptions_.held_back():
            self.on_epoch_end(self, **cb_kwargs)
            # What records an epoch comes after all that may change it.
            for _, callback in sorted(self.callbacks_, key=_place):
                try:
                    callback.on_epoch_end(self, **cb_kwargs)
                except KeyboardInterrupt as error:  # as EarlyStopping says that it is enough
                    stop = error
        if stop is not None:
            raise stop

    def fit_loop(
        self, X: Any, y: ArrayLike | None = None, epochs: int | None = None, **fit_params: Any
    ) -> Self:
        """Train the epochs that are left, and remember whether Ctrl-C ended it."""
        epochs = self.max_epochs if epochs is None else epochs
        if self.state_ is not None and self.state_.found is not None:
            found = self.state_.found
            epochs = 0 if found["has_stopped"] else max(epochs - found["n_epochs"], 0)
        try:
            return super().fit_loop(X, y, epochs, **fit_params)
        except KeyboardInterrupt:
            self.interrupted_ = not has_stopped_early(self)
            raise

    def _trackers(self):
        return [callback for _, callback in self.callbacks_ if isinstance(callback, MlflowTracker)]

    def _say_how_to_go_on(self):
        n_epochs = sum("train_loss" in row for row in self.history)
        how = (
            "a fit with state_file=PATH can be gone on with"
            if self.state_file is None
            else f"the same fit with state_file={str(self.state_file)!r} goes on from there"
        )
        _log.warning("stopped after %d of %d epochs; %s", n_epochs, self.max_epochs, how)


def _place(pair):
    """Return where a named callback comes at the end of an epoch."""
    kinds = StateKeeper, MlflowTracker, PrintLog
    return next((n for n, kind in enumerate(kinds, 1) if isinstance(pair[1], kind)), 0)
