"""Network weights: a torchvision name, a file or a saved model goes in; a full network is left."""

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

from mura_skorch.utils.text import printable, shorten

__all__ = ["check_fit", "load_weights"]

# How the published DenseNet files name their layers; torchvision renames them on load, as here.
PUBLISHED_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
MODEL_FILE = "model.safetensors"
SAVED_PREFIX = "module.network."
SECONDS_TO_ANSWER = 10
LONGEST_REASON = 300  # characters: readers quote what they cannot read
LONGEST_NAME = 100  # characters of a tensor's name in a message


def load_weights(network: torch.nn.Module, weights: str | os.PathLike[str] | None) -> None:
    """Fill a DenseNet-169 with one output, all of it or not at all.

    Parameters
    ----------
    network : torchvision.models.DenseNet
        With one output; changed in place.
    weights : str, path or None
        A torchvision name ("IMAGENET1K_V1"), the path of a state dict (.pth or .safetensors)
        with torchvision's key names, old or new, the folder of a saved model, or None: keep the
        random start. A head with another number of outputs, such as ImageNet's 1000, is left out
        and ours starts at random; everything else must match.

    Raises
    ------
    FileNotFoundError
        Neither a torchvision name nor an existing path.
    ConnectionError
        The named weights are not on this machine and cannot be downloaded.
    ValueError
        The file is no state dict, or does not fit the network.
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
    """Return the state dict with today's key names."""
    if str(weights) in DenseNet169_Weights.__members__:
        return _with_todays_names(_published(DenseNet169_Weights[str(weights)]))
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
    return _with_todays_names(state)


def _with_todays_names(state):
    return {PUBLISHED_NAME.sub(r"\1\2", key): value for key, value in state.items()}


def _read_file(path):
    """Return the tensors of a file; no file can execute anything."""
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
    """Refuse a file that unfolds to more than its size: torch itself compresses nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            n_bytes = sum(entry.file_size for entry in file.infolist())
        if n_bytes > path.stat().st_size:
            raise ValueError(f"its parts unfold to {n_bytes:,} bytes")


def _not_a_state_dict(path, reason):
    first_line = shorten(printable(str(reason).split("\n", 1)[0]), LONGEST_REASON)
    return ValueError(
        f"expected a state dict of tensors (.pth saved by torch.save, or .safetensors), got "
        f"{printable(path)}: {first_line}; pass another file, or None for a random start"
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
    """Raise ValueError, with names, where tensors are not exactly those of a network.

    Parameters
    ----------
    expected, state : dict of str to Tensor
        The network's own, and those found.
    what : str
        What the network is called.
    source : str or path
        Where the tensors were found.
    remedy : str
        What to do about it.
    needed : set of str, optional
        Names that may not be missing; all of `expected`, if None.
    """
    needed = set(expected) if needed is None else needed
    missing = sorted(needed - state.keys())
    unexpected = sorted(state.keys() - expected.keys())
    misshapen = sorted(
        key for key in expected.keys() & state.keys() if state[key].shape != expected[key].shape
    )
    found = {"missing": missing, "unexpected": unexpected, "of another shape": misshapen}
    if any(found.values()):
        detail = "; ".join(
            f"{len(keys)} {kind} ({', '.join(_names(keys[:3]))}{', ...' if len(keys) > 3 else ''})"
            for kind, keys in found.items()
            if keys
        )
        raise ValueError(
            f"expected all {len(needed)} tensors of {what}, got {printable(source)}: {detail}; "
            f"a partial match is refused: {remedy}"
        )


def _names(keys):
    return [shorten(printable(key), LONGEST_NAME) for key in keys]


def _published(entry):
    """Return torchvision's weights from its cache or the network, or fail within seconds."""
    cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    if cache.is_file():
        return _read_file(cache)
    try:
        with _socket_timeout(SECONDS_TO_ANSWER):
            return entry.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError, timeouts
        raise ConnectionError(
            f"expected to download the ImageNet weights from {entry.url}, got {error}; download "
            f"that file elsewhere and put it at {cache} or pass its path as weights "
            "(MuraClassifier(module__weights=PATH), --weights PATH), or pass None (--weights "
            "none) for a random start"
        ) from error


@contextmanager
def _socket_timeout(seconds):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
