"""Callbacks in a checkpoint."""

import numpy as np
import pytest
from nets import tiny_classifier
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    Freezer,
    LRScheduler,
    PassthroughScoring,
)

from mura_skorch import MuraClassifier
from mura_skorch.callbacks import StatelessCallback, training_callbacks
from mura_skorch.training.callback_state import (
    check_storable,
    load_callback,
    state_of_callback,
)


class Counter(StatelessCallback):
    """Count epochs over a resumed fit."""

    n_ = 0

    def on_epoch_begin(self, net, **kwargs):
        self.n_ += 1

    def state_dict(self):
        return {"n": self.n_}

    def load_state_dict(self, state):
        self.n_ = state["n"]


class Unknown(Callback):
    """A callback without a state_dict."""


class Patient(EarlyStopping):
    """A subclass of a known callback, which may have more to store."""


@pytest.mark.parametrize("callback", [Unknown(), Unknown, Patient(), Freezer("network.*")])
def test_callback_whose_state_is_unknown_is_refused_by_name(train, tmp_path, callback):
    clf = MuraClassifier(checkpoint_path=tmp_path / "fit", callbacks=[("mine", callback)])
    with pytest.raises(TypeError, match=r"a checkpoint can store, got .* mine \(\w+\); give them"):
        clf.fit(train)
    assert not (tmp_path / "fit").exists()


def test_own_callbacks_and_those_of_skorch_are_stored():
    known = [EarlyStopping(), LRScheduler(), EpochScoring("roc_auc"), PassthroughScoring("loss")]
    check_storable({str(i): callback for i, callback in enumerate(known)})
    check_storable(dict(training_callbacks()))
    check_storable({"removed": None, "counter": Counter, "class": EarlyStopping})


def test_attributes_of_skorchs_callbacks_come_back():
    first, second = EarlyStopping().initialize(), EarlyStopping().initialize()
    for callback in (first, second):
        callback.on_train_begin(None)
    first.misses_, first.dynamic_threshold_, first.best_epoch_ = 2, 0.5, 3
    load_callback(second, state_of_callback(first))
    assert (second.misses_, second.dynamic_threshold_, second.best_epoch_) == (2, 0.5, 3)


def test_stateless_callback_stores_nothing():
    assert state_of_callback(StatelessCallback()) == {}


def test_state_of_a_users_callback_is_resumed(train, tmp_path):
    from tests.callbacks.test_callbacks import CtrlC

    def fit(stop_at):
        counter = Counter()
        callbacks = [("stop", CtrlC(stop_at)), ("counter", counter)]
        path = tmp_path / "fit"
        tiny_classifier(max_epochs=3, checkpoint_path=path, callbacks=callbacks).fit(train)
        return counter.n_

    assert fit(2) == 2
    assert fit(99) == 1 + 2  # of the checkpoint after the first epoch, and those that were left


def test_best_scores_are_plain_numbers():
    scores = dict(training_callbacks())
    for name in ("train_loss", "valid_loss", "valid_acc", "scores"):
        callback = scores[name].initialize()
        callback.best_score_ = np.float64(0.5)
        other = type(callback).__name__
        assert state_of_callback(callback) == {"best_score": 0.5}, other
