import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier
from skorch.callbacks import Callback

from mura_skorch import MuraClassifier
from tests.callbacks.test_callbacks import CtrlC, Spy, same_weights


class Steps(Callback):
    """Keep the weights after each step, before they are averaged."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after

    def initialize(self):
        self.weights_ = []
        return self

    def on_train_begin(self, net, **kwargs):
        self.first_ = self._copied(net)

    def on_batch_end(self, net, training=False, **kwargs):
        if training:
            self.weights_.append(self._copied(net))
            if len(self.weights_) == self.stop_after:
                raise KeyboardInterrupt

    def _copied(self, net):
        return {key: value.clone() for key, value in net.module_.state_dict().items()}


def averaged(decay, **params):
    settings = {"lr": 1e-2, "callbacks__plateau": None}
    return tiny_classifier(callbacks__ema__decay=decay, **settings | params)


def assert_is_average(net, steps, decay, n_steps=None):
    """Check the definition of the average, step by step."""
    weights = steps.weights_[:n_steps]
    for name, value in net.module_.state_dict().items():
        expected = steps.first_[name]
        if not value.is_floating_point():
            assert value == weights[-1][name]  # a counter
            continue
        for n, own in enumerate(weights, 1):
            kept = min(decay, (1 + n) / (10 + n))
            expected = kept * expected + (1 - kept) * own[name]
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("decay", [0.2, 0.999])
def test_fit_ends_with_the_moving_average_of_weights_and_batch_norm_statistics(train, decay):
    steps = Steps()
    net = averaged(decay, train_split=None, callbacks=[("steps", steps)]).fit(train)
    assert len(steps.weights_) == 8
    assert_is_average(net, steps, decay)
    assert not same_weights(net, steps.weights_[-1])


def test_training_takes_the_same_steps_with_and_without_an_average(train):
    with_average, without = averaged(0.9).fit(train), averaged(None).fit(train)
    losses = [net.history[:, "train_loss"] for net in (with_average, without)]
    assert losses[0] == losses[1]
    losses = [net.history[:, "valid_loss"] for net in (with_average, without)]
    assert losses[0] != losses[1]


def test_average_that_keeps_nothing_changes_no_bit(train, valid):
    fits = [averaged(decay).fit(train) for decay in (0, None)]
    assert fits[0].history[:, "valid_loss"] == fits[1].history[:, "valid_loss"]
    assert np.array_equal(*(net.predict_proba(valid) for net in fits))


def test_validation_best_weights_and_saved_model_are_of_the_average(train, valid, tmp_path):
    steps, spy = Steps(), Spy()
    net = averaged(0.5, callbacks=[("steps", steps), ("spy", spy)]).fit(train)
    best = net.history[:, "event_cp"]
    n_steps = len(steps.weights_) // 2 * (2 if best[1] else 1)
    assert same_weights(net, spy.weights_[1 if best[1] else 0])
    assert_is_average(net, steps, 0.5, n_steps)
    _, held_out = net.get_split_datasets(train)
    loss = np.mean([net.validation_step(b)["loss"].item() for b in net.get_iterator(held_out)])
    assert loss == pytest.approx(min(net.history[:, "valid_loss"]), rel=1e-5)
    net.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), net.predict_proba(valid))


def test_added_batches_are_one_step_of_the_average(train):
    params = {"module__augment": None, "train_split": None, "max_epochs": 1}
    steps = Steps()
    net = averaged(0.9, batch_size=2, accumulate=4, callbacks=[("steps", steps)], **params)
    net.fit(train)
    steps.weights_ = steps.weights_[3::4]
    # batch norm's statistics move with each batch; the average sees them after each step
    assert_is_average(net, steps, 0.9)


@pytest.mark.parametrize("split", [{}, {"train_split": None}], ids=["validated", "all"])
def test_interrupted_and_resumed_fit_ends_with_the_same_bits(train, valid, tmp_path, split):
    def fit(stop_at, **params):
        own = [("stop", CtrlC(stop_at))]
        return averaged(0.9, max_epochs=3, callbacks=own, **split, **params).fit(train)

    path = tmp_path / "fit.checkpoint"
    assert fit(2, checkpoint_path=path).interrupted_
    resumed, whole = fit(99, checkpoint_path=path), fit(99)
    assert len(resumed.history) == 3
    assert resumed.history[:, "train_loss"] == whole.history[:, "train_loss"]
    assert same_weights(resumed, whole.module_.state_dict())


def test_interruption_within_an_epoch_leaves_the_average(train):
    steps = Steps(stop_after=6)
    net = averaged(0.9, train_split=None, callbacks=[("steps", steps)]).fit(train)
    assert net.interrupted_
    assert_is_average(net, steps, 0.9)


def test_partial_fit_starts_from_the_average(train):
    net = averaged(0.9, train_split=None).fit(train)
    before = {name: value.clone() for name, value in net.module_.state_dict().items()}
    steps = Steps().initialize()
    net.callbacks_.insert(0, ("steps", steps))
    net.partial_fit(train)
    assert all(torch.equal(value, before[name]) for name, value in steps.first_.items())
    assert_is_average(net, steps, 0.9)


@pytest.mark.parametrize("decay", [1, -0.1, "0.9", True, float("nan")])
def test_wrong_decay_is_refused_before_training(train, decay):
    with pytest.raises(ValueError, match="expected callbacks__ema__decay from 0 to below 1"):
        averaged(decay).fit(train)
