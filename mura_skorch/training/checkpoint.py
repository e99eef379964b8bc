"""Write a checkpoint after each epoch, and resume a fit from it with equal bits."""

import logging
import random
from typing import Any, Self

import numpy as np
import torch
from skorch.callbacks import Callback
from skorch.history import History

from mura_skorch.callbacks.scoring import has_stopped_early
from mura_skorch.training.arithmetic import Arithmetic
from mura_skorch.training.callback_state import load_callback, state_of_callback
from mura_skorch.training.checkpoint_file import (
    DAMAGED,
    CheckpointFile,
    damaged_checkpoint,
    read_header,
)
from mura_skorch.training.fingerprint import differences, fingerprint_of
from mura_skorch.training.fit_record import FitRecord
from mura_skorch.training.packing import pack, unpack
from mura_skorch.utils.dask_worker import dask_worker, print_line

__all__ = ["TrainingCheckpoint", "epochs_left", "load_finished"]

_log = logging.getLogger(__name__)

PARTS = ("module", "criterion")


class TrainingCheckpoint(Callback):
    """Make a fit resumable: load the net's checkpoint when training begins, write it every epoch.

    Inactive if the net's ``checkpoint_path`` is None, and in later calls of `partial_fit`, which
    begin where the user's own program has brought the net. It comes after all callbacks that have a
    state of their own: their `on_train_begin` would reset what is loaded here.
    """

    def initialize(self) -> Self:
        """Forget the last fit."""
        self.file_: Any = None
        return self

    def on_train_begin(self, net: Any, data: Any = None, **kwargs: Any) -> None:
        """Lock the file, and load the checkpoint if there is one.

        Raises
        ------
        BlockingIOError
            Another process trains with the file.
        ValueError
            The file is damaged, or of a fit with other data or parameters.
        """
        if not _is_active(net):
            return
        self.file_ = CheckpointFile(net.checkpoint_path).__enter__()
        self.fingerprint_ = fingerprint_of(net, data)
        found = self.file_.read()
        # A first epoch that is repeated begins with these states, before any on_epoch_begin.
        self.first_states_ = _callback_states(net) if found is None else None
        if found is not None:
            info, tensors = found
            _check_fingerprint(net, info, self.fingerprint_)
            _restore(net, info, tensors)
            done = f"{info['n_epochs']} of {net.max_epochs} epochs"
            text = f"{net.checkpoint_path}: training continues after {done}"
            if dask_worker() is None:
                _log.info(text)
            else:  # whose client has seen nothing of a worker that was killed
                print_line(text)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Write a first checkpoint: a crash in the first epoch must not lose seed and run."""
        if self.file_ is not None and self.first_states_ is not None:
            states, self.first_states_ = self.first_states_, None
            self._write(net, states, n_epochs=0)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Write the checkpoint."""
        if self.file_ is not None:
            self._write(net, _callback_states(net), n_epochs=len(net.history))

    def on_fit_end(self, net: Any, error: BaseException | None = None, **kwargs: Any) -> None:
        """Mark a fit that came to its end as finished, and unlock the file."""
        if self.file_ is None:
            return
        try:
            if error is None and not net.interrupted_:
                # Callbacks begin anew in a later call.
                self._write(net, {}, n_epochs=len(net.history), is_finished=True)
        finally:
            self.file_.__exit__()
            self.file_ = None

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: this callback has no state of its own."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take nothing."""

    def _write(self, net, callback_states, *, n_epochs, is_finished=False):
        tensors: dict[str, torch.Tensor] = {}
        rows = net.history[:n_epochs]
        info = {
            "n_epochs": n_epochs,
            "is_finished": is_finished,
            "fingerprint": self.fingerprint_,
            "record": net.record_.to_dict(),
            "operating_point": net.operating_point(),
            "history": [{k: v for k, v in row.items() if k != "batches"} for row in rows],
            "optimizer": pack(net.optimizer_.state_dict(), tensors, "optimizer"),
            "random": pack(_random_states(net), tensors, "random"),
            "callbacks": {
                name: pack(state, tensors, f"callbacks.{name}")
                for name, state in callback_states.items()
            },
        }
        for part in PARTS:
            info[part] = pack(getattr(net, f"{part}_").state_dict(), tensors, part)
        self.file_.write(info, _without_shared_memory(tensors))


def load_finished(net: Any, data: Any) -> bool:
    """Load the checkpoint of a net if it is that of a finished fit; return whether it is.

    Parameters
    ----------
    net : MuraClassifier
        Initialized.
    data : FitData
        What `fit` was given.

    Raises
    ------
    BlockingIOError
        Another process trains with the file.
    ValueError
        The file is damaged, or of a fit with other data or parameters.
    """
    if not _is_active(net):
        return False
    info = read_header(net.checkpoint_path)
    if info is None or not info["is_finished"]:
        return False
    with CheckpointFile(net.checkpoint_path) as file:
        found = file.read()
    if found is None:
        return False
    info, tensors = found
    _check_fingerprint(net, info, fingerprint_of(net, data))
    _restore(net, info, tensors)
    _log.info("%s: the fit was finished", net.checkpoint_path)
    return True


def epochs_left(net: Any, n_before: int) -> int:
    """Return how many epochs a call of `fit` still has to train.

    Parameters
    ----------
    net : MuraClassifier
        Its callbacks' `on_train_begin` was called.
    n_before : int
        Length of its history before; a checkpoint may have brought epochs.
    """
    n_resumed = len(net.history) - n_before
    if n_resumed and has_stopped_early(net):
        return 0
    return max(net.max_epochs - n_resumed, 0)


def _callback_states(net):
    return {name: state_of_callback(callback) for name, callback in net.callbacks_}


def _is_active(net):
    is_there = any(isinstance(callback, TrainingCheckpoint) for _, callback in net.callbacks_)
    return is_there and net.checkpoint_path is not None and not net.history


def _check_fingerprint(net, info, fingerprint):
    if different := differences(info["fingerprint"], fingerprint):
        raise ValueError(
            f"expected the fit that wrote the checkpoint {net.checkpoint_path}, got another one: "
            f"{different}. Pass the same data and parameters, or another checkpoint_path to train "
            "anew"
        )


def _restore(net, info, tensors):
    """Bring a net whose training begins to where a checkpoint was written."""
    try:
        saved = FitRecord.from_dict(info["record"])
        _restore_arithmetic(net, saved.arithmetic)
        callbacks = dict(net.callbacks_)
        for name, packed in info["callbacks"].items():
            if name in callbacks:
                load_callback(callbacks[name], unpack(packed, tensors))
        for part in PARTS:
            getattr(net, f"{part}_").load_state_dict(unpack(info[part], tensors))
        net.optimizer_.load_state_dict(unpack(info["optimizer"], tensors))
        for parameter, state in net.optimizer_.state.items():
            for name, value in state.items():
                if torch.is_tensor(value) and value.shape == parameter.shape:
                    # in the parameter's memory format, which the fused kernels assume
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
        net.history = History({**row, "batches": []} for row in info["history"])
        net.set_operating_point(info["operating_point"], net.threshold)
        net.update_record(
            seed=saved.seed,
            run_id=saved.run_id,
            pruned=saved.pruned,
            valid_scores=saved.valid_scores,
        )
        _restore_random_states(net, unpack(info["random"], tensors))
    except DAMAGED as error:
        raise damaged_checkpoint(net.checkpoint_path, error) from error


def _restore_arithmetic(net, saved):
    """Compute as the first half of a fit did, whatever is fastest here: its bits depend on it."""
    arithmetic = Arithmetic.from_dict(saved)
    if arithmetic.device != net.arithmetic_.device:
        return  # no bits can be kept
    net.compute_with(arithmetic)
    net.update_record(arithmetic=saved)
    if net.threads_ < arithmetic.threads:
        _log.warning(
            "%s: training continues on %d of %d threads, and its results may differ in their last "
            "bits; set OMP_NUM_THREADS=%d to keep them",
            net.checkpoint_path,
            net.threads_,
            arithmetic.threads,
            arithmetic.threads,
        )


def _random_states(net):
    """Return the states of all random numbers that an epoch may draw."""
    return {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002, what datasets of users may draw from
        "fit": net.random_.state_dict(),
        "loader": [generator.get_state() for generator in _users_generators(net)],
    }


def _restore_random_states(net, states):
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    net.random_.load_state_dict(states["fit"])
    for generator, state in zip(_users_generators(net), states["loader"], strict=True):
        generator.set_state(state)


def _users_generators(net):
    """Return the generators that the user gave to the training loader or its sampler."""
    given = net.get_params_for("iterator_train")
    owners = [given.get("generator"), getattr(given.get("sampler"), "generator", None)]
    return [owner for owner in owners if isinstance(owner, torch.Generator)]


def _without_shared_memory(tensors):
    """Return tensors of which no two share memory, as tied weights do; safetensors refuses them."""
    places: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return apart
