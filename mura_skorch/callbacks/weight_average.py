"""Average the weights of a fit over its steps."""

from numbers import Real
from typing import Any, Self

import torch
from skorch.callbacks import Callback
from torch.optim.swa_utils import get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage(Callback):
    """Keep an exponential moving average of the network's weights, and validate and save that.

    Training goes on with its own weights; from the validation of an epoch to the beginning of the
    next, the network holds the average. Scores, plateau, best weights, checkpoint and the saved
    model are therefore those of the average. It is off unless `decay` is set:
    ``MuraClassifier(callbacks__ema__decay=0.999)``.

    Parameters
    ----------
    decay : float or None, default=None
        Share of the average that a step keeps, from 0 to below 1: 0.999 averages over about 1,000
        steps. None averages nothing.

    Notes
    -----
    After step n = 1, 2, ... the average is ``d * average + (1 - d) * weights``, with
    ``d = min(decay, (1 + n) / (10 + n))`` as in TensorFlow [1]_. The second term lets the average
    leave the initial weights within a few steps, so that a short fit is not judged by them. With
    ``accumulate=4`` a step is four minibatches.

    The running means and variances of batch norm are averaged like the weights: they belong to the
    weights that they were measured with. Counters and other whole numbers are taken from training.

    The average starts anew in each call of `partial_fit`, as the plateau does. It takes the memory
    of two further sets of weights.

    References
    ----------
    .. [1] TensorFlow, ``tf.train.ExponentialMovingAverage``, argument ``num_updates``.
    """

    def __init__(self, decay: float | None = None) -> None:
        self.decay = decay

    def initialize(self) -> Self:
        """Forget the last fit.

        Raises
        ------
        ValueError
            `decay` is out of range.
        """
        is_number = isinstance(self.decay, Real) and not isinstance(self.decay, bool)
        if self.decay is not None and not (is_number and 0 <= self.decay < 1):
            raise ValueError(
                "expected callbacks__ema__decay from 0 to below 1, such as 0.999, or None for no "
                f"average, got {self.decay!r}"
            )
        self._reset()
        return self

    def _reset(self):
        self.n_steps_ = 0
        self.average_: dict[str, torch.Tensor] | None = None
        # The weights that training goes on with, while the network holds the average.
        self.trained_: dict[str, torch.Tensor] | None = None

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start from the weights as they are."""
        self._reset()

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Give the network back the weights to train."""
        if self.decay is None:
            return
        if self.average_ is None:  # it is what the network holds: initial weights, or a checkpoint
            self.average_ = _copied(net)
        if self.trained_ is not None:
            _assign(net, self.trained_)
            self.trained_ = None

    def on_batch_begin(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Validate with the average."""
        if not training:
            self._use_average(net)

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Take a step into the average; a minibatch whose gradients wait for others is none."""
        if self.decay is None or self.average_ is None or not training or net.n_studies_added_:
            return
        self.n_steps_ += 1
        decay = min(self.decay, (1 + self.n_steps_) / (10 + self.n_steps_))
        now = _weights(net)
        average = [self.average_[name] for name in now]
        get_ema_multi_avg_fn(decay)(average, list(now.values()), None)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Let the network hold the average where there was no validation."""
        self._use_average(net)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Leave the average in the network, also where an epoch was interrupted."""
        self._use_average(net, again=True)
        self._reset()

    def _use_average(self, net, again=False):
        if self.average_ is None or (self.trained_ is not None and not again):
            return
        if self.trained_ is None:
            self.trained_ = _copied(net)
        _assign(net, self.average_)

    def state_dict(self) -> dict[str, Any]:
        """Return the weights to train; the checkpoint's network is the average."""
        return {"n_steps": self.n_steps_, "trained": self.trained_}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the state of a checkpoint, whose network is the average."""
        self.n_steps_, self.trained_ = state["n_steps"], state["trained"]
        self.average_ = None


def _weights(net):
    """Return the weights and buffers that can be averaged, by name; they share their memory."""
    state = net.module_.state_dict()
    return {name: value for name, value in state.items() if value.is_floating_point()}


def _copied(net):
    return {name: value.clone() for name, value in _weights(net).items()}


def _assign(net, weights):
    for name, value in _weights(net).items():
        value.copy_(weights[name])
