"""Training state: a net between two epochs goes in, one file that training goes on from comes out.

The file is safetensors: weights, best weights and the optimizer's as tensors, all else as JSON in
its header. Nothing in it can be executed.
"""

import json
import os
import random
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from skorch.callbacks import PrintLog
from skorch.history import History

from mura_skorch._version import __version__
from mura_skorch.training.packing import pack, unpack
from mura_skorch.utils.atomic import write_whole
from mura_skorch.utils.text import printable, shorten

__all__ = [
    *("DAMAGED", "StateFile", "damaged_state"),
    *("restore_state", "run_id_of", "state_of"),
]

# Raised when a state written by this version cannot be taken up by the one before.
FORMAT = 1
LONGEST_REASON = 300  # characters: readers quote what they cannot read
HEADER = "mura_skorch_training_state"
# What the callbacks of skorch keep of single batches, until the epoch's end.
OF_BATCHES = ("y_trues_", "y_preds_")
PARTS = ("module", "criterion")
KEYS = (
    *("n_epochs", "is_finished", "has_stopped", "fingerprint", "run_id", "seed", "study_types"),
    *("operating_point", "history", "optimizer", "random", "callbacks", *PARTS),
)
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError)


class StateFile:
    """The file of one fit's state, locked against other processes while it is entered.

    Parameters
    ----------
    path : path
        Its folder is made where it is missing.

    Attributes
    ----------
    found : dict or None
        What the file held when it was entered: ``n_epochs``, ``is_finished``, ``run_id`` and all
        that `state_of` returns; None where there was no file.

    Raises
    ------
    BlockingIOError
        Another process trains with this file.
    ValueError
        The file is damaged, foreign, or of another version's format.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.found: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise BlockingIOError(
                f"expected to be alone with {self.path}, got another process that trains with it; "
                "wait for it, end it, or pass another state_file"
            ) from error
        try:
            for unfinished in self.path.parent.glob(f".{self.path.name}.[0-9]*"):
                unfinished.unlink()  # of a process that was killed as it wrote
            if self.path.exists():
                self.found, self._tensors = self._read()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return the tensors that were found; they are given once, to free the memory."""
        return self.__dict__.pop("_tensors")

    def write(self, info: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Replace the state; at every moment there is a whole one on disk."""
        about = {"format": FORMAT, "mura_skorch": __version__, **info}
        header = {HEADER: json.dumps(about, default=_plain)}
        n_bytes = sum(tensor.nbytes for tensor in tensors.values()) + len(header[HEADER])
        write_whole(
            self.path, lambda path: save_file(tensors, path, header), n_bytes=n_bytes, flush=True
        )

    def _read(self):
        try:
            with safe_open(self.path, "pt") as file:
                about = json.loads((file.metadata() or {})[HEADER])
                version = about["format"], about["mura_skorch"]
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if version[0] == FORMAT and (lacking := [key for key in KEYS if key not in about]):
                raise ValueError(f"it lacks {', '.join(lacking)}")
        except (SafetensorError, RecursionError, *DAMAGED) as error:
            raise damaged_state(self.path, error) from error
        if version[0] != FORMAT:
            raise ValueError(
                f"expected a state of format {FORMAT}, got format {version[0]} in {self.path}, "
                f"written by mura_skorch {version[1]}; this is {__version__}: go on with that "
                "version, or move the file elsewhere to train from the start"
            )
        return about, tensors


def run_id_of(path: str | os.PathLike[str]) -> str | None:
    """Return the MLflow run of a fit by its state file, None where there is no readable one."""
    try:
        with safe_open(path, "pt") as file:
            return json.loads((file.metadata() or {})[HEADER])["run_id"]
    except (OSError, SafetensorError, ValueError, KeyError):
        return None  # the fit itself says what is wrong with the file


def state_of(
    net: Any, fingerprint: dict[str, str], *, is_finished: bool = False
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Return the whole state of a net between two epochs.

    Parameters
    ----------
    net : MuraClassifier
        Within its own random state.
    fingerprint : dict of str to str
        What may not change before training goes on.
    is_finished : bool, default=False
        Whether nothing is left to train.

    Returns
    -------
    info : dict
        What JSON can hold.
    tensors : dict of str to Tensor
        What `restore_state` needs beside it.
    """
    tensors: dict[str, torch.Tensor] = {}
    info = {
        "n_epochs": len(net.history),
        "is_finished": is_finished,
        "fingerprint": fingerprint,
        "run_id": net.run_id_,
        "seed": net.seed_,
        "study_types": net.study_types_,
        "note": net.note_,
        "operating_point": net.operating_point(),
        "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
        "optimizer": pack(net.optimizer_.state_dict(), tensors, "optimizer"),
        "random": pack(_random_states(net), tensors, "random"),
        "callbacks": {
            name: pack(_callback_state(callback), tensors, f"callbacks.{name}")
            for name, callback in net.callbacks_
        },
    }
    for part in PARTS:
        info[part] = pack(getattr(net, f"{part}_").state_dict(), tensors, part)
    return info, _apart(tensors)


def restore_state(net: Any, info: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
    """Bring a net whose training begins to where `state_of` found it.

    Parameters
    ----------
    net : MuraClassifier
        Initialized, its callbacks told that training begins.
    info, tensors
        As `StateFile` found them.
    """
    callbacks = {} if info["is_finished"] else dict(net.callbacks_)  # they begin anew
    for name, packed in info["callbacks"].items():
        if name in callbacks:
            _restore_callback(callbacks[name], unpack(packed, tensors))
    for part in PARTS:
        getattr(net, f"{part}_").load_state_dict(unpack(info[part], tensors))
    net.optimizer_.load_state_dict(unpack(info["optimizer"], tensors))
    for parameter, state in net.optimizer_.state.items():
        for name, value in state.items():
            if torch.is_tensor(value) and value.shape == parameter.shape:
                # in the parameter's memory format, which the fused kernels take for granted
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
    net.history = History({**row, "batches": []} for row in info["history"])
    net.set_operating_point(info["operating_point"], net.threshold)
    _restore_random_states(net, unpack(info["random"], tensors))


def damaged_state(path, error):
    """Return the error to raise of a state that is not what was written."""
    return ValueError(
        f"expected the state of a fit, got a damaged or foreign file in {printable(path)} "
        f"({shorten(printable(repr(error)), LONGEST_REASON)}); move it elsewhere to train from the "
        "start"
    )


def _apart(tensors):
    """Return tensors of which no two share memory, as tied weights do; safetensors refuses them."""
    places: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in places else tensor
        places.add(place)
    return apart


def _random_states(net):
    """Return the states of all streams that an epoch may draw from."""
    states = {
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002, what datasets of users may draw from
        "torch": torch.get_rng_state(),
        "loader": [generator.get_state() for generator in _generators(net)],
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_random_states(net, states):
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    net.rng_state_ = states["torch"]
    for generator, state in zip(_generators(net), states["loader"], strict=True):
        generator.set_state(state)
    if "cuda" in states and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])


def _generators(net):
    """Return the generators that the user has given to the training loader or its sampler."""
    given = net.get_params_for("iterator_train")
    owners = [given.get("generator"), getattr(given.get("sampler"), "generator", None)]
    return [owner for owner in owners if isinstance(owner, torch.Generator)]


def _callback_state(callback):
    """Return what a callback says of itself, or those of its fitted attributes that can be kept."""
    if hasattr(callback, "state_dict"):
        return {"state_dict": callback.state_dict()}
    if isinstance(callback, PrintLog):
        return {}  # its header is printed anew
    states = {}
    for name, value in vars(callback).items():
        is_fitted = name.endswith("_") and not name.startswith("_")
        if not is_fitted or name in OF_BATCHES or isinstance(value, type):
            continue
        if hasattr(value, "state_dict") and hasattr(value, "load_state_dict"):
            states[name] = {"state_dict": value.state_dict()}
        elif _can_be_packed(value):
            states[name] = {"value": value}
    return states


def _restore_callback(callback, states):
    if "state_dict" in states and hasattr(callback, "load_state_dict"):
        callback.load_state_dict(states["state_dict"])
        return
    for name, state in states.items():
        if not name.endswith("_") or name.startswith("_"):
            raise ValueError(f"{name!r:.100} is nothing that is kept of a callback")
        if "value" in state:
            setattr(callback, name, state["value"])
        else:
            getattr(callback, name).load_state_dict(state["state_dict"])


def _can_be_packed(value):
    try:
        pack(value, {}, "")
    except TypeError:
        return False
    return True


def _plain(value):
    """Return what JSON can hold of a value that a user's callback put into the history."""
    return value.item() if hasattr(value, "item") else str(value)
