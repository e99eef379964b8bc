"""Load weights into a network from torchvision, a file, or the folder of a saved model."""

import os
import re
import socket
import zipfile
from collections.abc import Mapping, Set
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import load_file
from torchvision.models import DenseNet169_Weights

from mura_skorch.utils.text import printable, short_reason, some_names

__all__ = ["check_fit", "load_weights"]

# Layer names in the published DenseNet files; torchvision renames them on load in the same way.
PUBLISHED_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
MODEL_FILE = "model.safetensors"
SAVED_PREFIX = "module.network."
SECONDS_TO_ANSWER = 10
LONGEST_NAME = 100  # characters of a tensor's name in a message


def load_weights(network: torch.nn.Module, weights: str | os.PathLike[str] | None) -> None:
    """Load weights into a DenseNet-169 with one output; a partial match is an error.

    Parameters
    ----------
    network : torchvision.models.DenseNet
        With one output; changed in place.
    weights : str, path or None
        A torchvision name ("IMAGENET1K_V1"); the path of a state dict (.pth or .safetensors) with
        torchvision's key names, old or new; the folder of a saved model; or None to keep the
        random initial weights. A head with another number of outputs, such as ImageNet's 1000, is
        ignored, and the network keeps its random head. Everything else must match.

    Raises
    ------
    FileNotFoundError
        `weights` is neither a torchvision name nor an existing path.
    ConnectionError
        The named weights are not on this machine and cannot be downloaded.
    ValueError
        The file is not a state dict, or does not fit the network.
    """
    if weights is None:
        return
    state = _read(weights)
    head = state.get("classifier.weight")
    if head is not None and head.shape[0] != 1:
        state = {key: value for key, value in state.items() if not key.startswith("classifier.")}
        own = network.state_dict()
        state |= {key: own[key] for key in ("classifier.weight", "classifier.bias")}
    # Files older than torch 0.4.1 lack the counters; torch fills them in.
    own = network.state_dict()
    needed = {key for key in own if not key.endswith("num_batches_tracked")}
    remedy = "pass weights of this architecture, or None"
    check_fit(own, state, needed=needed, what="a DenseNet-169", source=weights, remedy=remedy)
    network.load_state_dict(state)


def _read(weights):
    """Return a state dict with torchvision's current key names."""
    if str(weights) in DenseNet169_Weights.__members__:
        return _with_current_names(_published(DenseNet169_Weights[str(weights)]))
    path = Path(weights).expanduser()
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        names = ", ".join(DenseNet169_Weights.__members__)
        raise FileNotFoundError(
            f"expected weights to be a torchvision name ({names}), an existing file, a folder "
            f"written by MuraClassifier.save, or None, got {str(weights)!r}: {path} does not exist"
        )
    state = _read_file(path)
    if any(key.startswith(SAVED_PREFIX) for key in state):
        return {
            key.removeprefix(SAVED_PREFIX): value
            for key, value in state.items()
            if key.startswith(SAVED_PREFIX)
        }
    return _with_current_names(state)


def _with_current_names(state):
    return {PUBLISHED_NAME.sub(r"\1\2", key): value for key, value in state.items()}


def _read_file(path):
    """Return the tensors in a file without executing anything in it."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        _check_size(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a malformed file can raise nearly anything
        raise _not_a_state_dict(path, error) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and torch.is_tensor(value) and value.layout == torch.strided
        for key, value in state.items()
    ):
        raise _not_a_state_dict(path, f"it holds a {type(state).__name__}, not tensors by name")
    return state


def _check_size(path):
    """Raise ValueError for a zip bomb; torch itself does not compress."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            n_bytes = sum(entry.file_size for entry in file.infolist())
        if n_bytes > path.stat().st_size:
            raise ValueError(f"its entries decompress to {n_bytes:,} bytes")


def _not_a_state_dict(path, reason):
    first_line = short_reason(str(reason).split("\n", 1)[0])
    return ValueError(
        f"expected a state dict of tensors (.pth saved by torch.save, or .safetensors), got "
        f"{printable(path)}: {first_line}; pass another file, or None for random initial weights"
    )


def check_fit(
    expected: Mapping[str, torch.Tensor],
    state: Mapping[str, torch.Tensor],
    *,
    what: str,
    source: str | os.PathLike[str],
    remedy: str,
    needed: Set[str] | None = None,
) -> None:
    """Raise ValueError, with names, unless tensors match a network exactly.

    Parameters
    ----------
    expected, state : dict of str to Tensor
        The tensors of the network, and those to load.
    what : str
        Name of the network for the message.
    source : str or path
        Where `state` comes from, for the message.
    remedy : str
        What the user can do, for the message.
    needed : set of str, optional
        Names that must not be missing. None means all of `expected`.
    """
    needed = set(expected) if needed is None else needed
    missing = sorted(needed - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misshapen = sorted(
        key for key in expected.keys() & state.keys() if state[key].shape != expected[key].shape
    )
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    details = [
        f"{len(keys)} {kind} ({some_names(keys, 3, LONGEST_NAME)})"
        for kind, keys in found.items()
        if keys
    ]
    if details:
        raise ValueError(
            f"expected all {len(needed)} tensors of {what}, got {printable(source)}: "
            f"{'; '.join(details)}; a partial match is refused: {remedy}"
        )


def _published(entry):
    """Return torchvision's weights, from its cache or downloaded."""
    cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    if cache.is_file():
        return _read_file(cache)
    try:
        with _socket_timeout(SECONDS_TO_ANSWER):
            return entry.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError, timeouts
        raise ConnectionError(
            f"expected to download the ImageNet weights from {entry.url}, got {error}; download "
            f"the file elsewhere and put it at {cache}, or pass its path as weights "
            "(MuraClassifier(module__weights=PATH), --weights PATH), or pass None (--weights "
            "none) for random initial weights"
        ) from error


@contextmanager
def _socket_timeout(seconds):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
