"""Load weights into a network from a library, a file, or the folder of a saved model."""

import logging
import os
import re
import socket
import zipfile
from collections.abc import Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torchvision.models import get_model_weights

from mura_skorch.models.backbones import AUXILIARY, TIMM, make_timm_network
from mura_skorch.utils.text import printable, short_reason, some_names

__all__ = ["check_fit", "load_weights"]

_log = logging.getLogger(__name__)

# Layer names in the published DenseNet files; torchvision renames them on load in the same way.
PUBLISHED_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
MODEL_FILE = "model.safetensors"
SAVED_PREFIX = "module."
# What wrappers of networks put before all names.
PREFIXES = ("module.", "model.", "backbone.", "network.", "encoder.")
COUNTER = "num_batches_tracked"
AUXILIARY_HEADS = ("AuxLogits.", "aux1.", "aux2.")
SECONDS_TO_ANSWER = 10
LONGEST_NAME = 100  # characters of a tensor's name in a message


def load_weights(module: Any, weights: str | os.PathLike[str] | None) -> str | None:
    """Load weights into a study network; a partial match is an error.

    Parameters
    ----------
    module : StudyNetwork
        Changed in place.
    weights : str, path or None
        A name of the backbone's published weights: "IMAGENET1K_V1" and others of torchvision, a
        tag of timm. The path of a state dict (.pth or .safetensors) with the backbone's key names,
        which may all begin with one of ``module.``, ``model.``, ``backbone.``, ``network.`` or
        ``encoder.``. The folder of a saved model. Or None to keep the random initial weights. A
        last layer with another number of outputs, such as ImageNet's 1000, is replaced by a random
        one; so is a missing one. Everything else must match.

    Returns
    -------
    str or None
        What was loaded, with counts, for the log. None without weights.

    Raises
    ------
    FileNotFoundError
        `weights` is neither a name nor an existing path.
    ConnectionError
        The named weights are not on this machine and cannot be downloaded.
    ValueError
        The file is not a state dict, or does not fit the network.
    """
    if weights is None:
        return None
    state = _read(module, weights)
    own = module.state_dict()
    head = {key: value for key, value in state.items() if key.startswith("head.")}
    said = ""
    if not head or head["head.weight"].shape[0] != 1:
        found = f"of {len(head['head.weight']):,} outputs" if head else "missing"
        said = f"; its last layer, {found}, is replaced by a random one of one output"
        state = {key: value for key, value in state.items() if key not in head}
        state |= {key: own[key] for key in own if key.startswith("head.")}
    # Mean and std belong to the kind of weights, unless saved; attention starts as the mean.
    has_attention = any(key.startswith("attention.") for key in state)
    for key in own:
        if key in ("mean", "std") or (key.startswith("attention.") and not has_attention):
            state.setdefault(key, own[key])
    # Files older than torch 0.4.1 lack the counters; torch fills them in.
    needed = {key for key in own.keys() - {"mean", "std"} if not key.endswith(COUNTER)}
    name = module.backbone if isinstance(module.backbone, str) else type(module.network).__name__

    def in_file(key: str) -> str:
        if key.startswith("head."):
            return key.replace("head", module.head_name, 1)
        return key.removeprefix("network.")

    check_fit(
        {in_file(key): value for key, value in own.items()},
        {in_file(key): value for key, value in state.items()},
        needed={in_file(key) for key in needed},
        what=name,
        source=weights,
        remedy="pass weights of this architecture, or None",
    )
    module.load_state_dict(state)
    n_loaded = len(needed) - (2 if said else 0)
    summary = f"loaded {n_loaded} of {n_loaded} tensors of {name} from {printable(weights)}{said}"
    _log.info(summary)
    return summary


def _read(module, weights):
    """Return a state dict with the key names of a study network."""
    names = _published_names(module.backbone)
    if str(weights) in names:
        return _renamed(module, _published(module, str(weights)))
    path = Path(weights).expanduser()
    path = path / MODEL_FILE if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(
            f"expected weights to be a name ({', '.join(names) or 'none is known'}), an existing "
            "file, a folder written by MuraClassifier.save, or None, got "
            f"{str(weights)!r}: {path} does not exist"
        )
    state = _read_file(path)
    if any(key.startswith(SAVED_PREFIX) for key in state):
        return {
            key.removeprefix(SAVED_PREFIX): value
            for key, value in state.items()
            if key.startswith(SAVED_PREFIX)
        }
    return _renamed(module, _without_prefix(state))


def _published_names(backbone):
    """Return the names of a backbone's published weights."""
    if not isinstance(backbone, str):
        return []
    if backbone.startswith(TIMM):
        import timm

        name = backbone.removeprefix(TIMM).partition(".")[0]
        known = timm.list_pretrained(f"{name}.*")
        return [tag.partition(".")[2] for tag in known]
    return list(get_model_weights(backbone).__members__)


def _without_prefix(state):
    """Remove what wrappers put before all names, however often."""
    for _ in range(len(PREFIXES)):
        for prefix in PREFIXES:
            if state and all(key.startswith(prefix) for key in state):
                state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _renamed(module, state):
    """Return the tensors of a whole network under the names that a study network has for them."""
    renamed = {}
    for key, value in state.items():
        if key.startswith(AUXILIARY_HEADS) and str(module.backbone) in AUXILIARY:
            continue
        current = PUBLISHED_NAME.sub(r"\1\2", key)
        layer, _, tensor = current.rpartition(".")
        renamed[f"head.{tensor}" if layer == module.head_name else f"network.{current}"] = value
    return renamed


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


def _published(module, weights):
    """Return published weights, from the cache of their library or downloaded."""
    if module.backbone.startswith(TIMM):
        return _published_by_timm(module, weights)
    entry = get_model_weights(module.backbone)[weights]
    cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    if cache.is_file():
        return _read_file(cache)
    try:
        with _socket_timeout(SECONDS_TO_ANSWER):
            return entry.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError, timeouts
        raise _not_downloaded(entry.url, cache, error) from error


def _published_by_timm(module, tag):
    """Return weights as timm fits them to a network of the same options."""
    backbone = f"{module.backbone.partition('.')[0]}.{tag}"
    try:
        whole = make_timm_network(backbone, module.image_size, module.global_pool, pretrained=True)
    except Exception as error:  # its hub has many kinds of errors
        where = "a place of your choice"
        raise _not_downloaded(f"the hub of timm ({backbone})", where, error) from error
    return whole.state_dict()


def _not_downloaded(source, cache, error):
    return ConnectionError(
        f"expected to download the weights from {source}, got {short_reason(error)}; download the "
        f"file elsewhere and put it at {cache}, or pass its path as weights "
        "(MuraClassifier(module__weights=PATH), --weights PATH), or pass None (--weights none) for "
        "random initial weights"
    )


@contextmanager
def _socket_timeout(seconds):
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
