"""Load weights into a network from a library, a file, or the folder of a saved model."""

import logging
import os
import pickle
import re
import socket
import zipfile
from collections.abc import Mapping, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from mura_skorch.models.backbones import (
    AUXILIARY,
    DEFAULT_TAG,
    TIMM,
    fixed_size,
    make_timm_network,
    timm_tags,
    torchvision_models,
)
from mura_skorch.utils.text import printable, short_reason, some_names

__all__ = ["check_fit", "load_weights"]

_log = logging.getLogger(__name__)

# Layer names in the published DenseNet files; torchvision renames them on load in the same way.
PUBLISHED_NAME = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")
MODEL_FILE = "model.safetensors"
SAVED_PREFIX = "module."
# Names of a saved model that no wrapper gives to a network: its head, and the mean of its images.
SAVED_NAMES = {"module.head.weight", "module.mean"}
# What wrappers of networks put before all names, torch.compile among them.
PREFIXES = ("module.", "model.", "backbone.", "network.", "encoder.", "_orig_mod.")
# Where training programs put a state dict among other things.
PLACES = ("state_dict", "model_state_dict", "model")
USUAL = "IMAGENET1K_V1"  # the first weights of each of torchvision's networks, and the default
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
        tag of timm, "DEFAULT" of both. The path of a state dict (.pth or .safetensors) with the
        backbone's key names. All keys may begin with ``module.``, ``model.``, ``backbone.``,
        ``network.``, ``encoder.`` or ``_orig_mod.``, or with several of them. The folder of a
        saved model. None keeps the random initial weights. A last layer with another number of
        outputs, such as ImageNet's 1000, is replaced by a random one, and so is a missing one.
        Everything else must match.

    Returns
    -------
    str or None
        How many tensors were loaded, and whether the last layer is a new one. None without
        weights.

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
    weights, note = _own_default(module, weights)
    state = _read(module, weights)
    own = module.state_dict()
    state, said = _with_own_head(state, own)
    # Mean and std belong to the kind of weights, unless saved; attention starts as the mean.
    has_attention = any(key.startswith("attention.") for key in state)
    fresh = {key for key in own if key.startswith("head.")} if said else set()
    fresh |= {key for key in own if key.startswith("attention.") and not has_attention}
    # Files older than torch 0.4.1 lack the counters.
    counters = {key for key in own if key.endswith(COUNTER)}
    needed = own.keys() - {"mean", "std"} - counters
    state = {key: own[key] for key in {"mean", "std", *fresh, *counters}} | state
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
        remedy=_remedy(module),
    )
    module.load_state_dict(state)
    loaded = f"{len(needed - fresh)} of {len(needed)} tensors of {name}{said}{note}"
    _log.info("loaded %s from %s", loaded, printable(weights))
    return loaded


def _own_default(module, weights):
    """Return weights, where those of torchvision mean timm's usual ones, and what is said of it."""
    is_timm = isinstance(module.backbone, str) and module.backbone.startswith(TIMM)
    if is_timm and str(weights) == USUAL and _published_names(module.backbone):
        return DEFAULT_TAG, f"; timm's {DEFAULT_TAG} weights, since {USUAL} is torchvision's name"
    return weights, ""


def _with_own_head(state, own):
    """Return a state dict without a last layer of another size, and what is said of it."""
    head = {key: value for key, value in state.items() if key.startswith("head.")}
    weight = head.get("head.weight")
    if not head:
        found = "missing"
    elif weight is not None and weight.ndim == 2 and len(weight) != len(own["head.weight"]):
        found = f"of {len(weight):,} outputs"
    else:
        return state, ""
    rest = {key: value for key, value in state.items() if key not in head}
    return rest, f"; the last layer, {found}, is replaced by a random one of one output"


def _remedy(module):
    """Return what a user can do whose weights do not fit."""
    size = fixed_size(module.backbone)
    if size is None or module.image_size in (None, size):
        return "pass weights of this architecture, or None"
    return (
        "pass weights of this architecture, or None; published ones are for "
        f"dataset__image_size={size}, this network is for {module.image_size}"
    )


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
    if state.keys() >= SAVED_NAMES:
        return {
            key.removeprefix(SAVED_PREFIX): value
            for key, value in state.items()
            if key.startswith(SAVED_PREFIX)
        }
    return _renamed(module, _without_prefix(state, module))


def _published_names(backbone):
    """Return the names of a backbone's published weights."""
    if not isinstance(backbone, str):
        return []
    if backbone.startswith(TIMM):
        tags = timm_tags(backbone)
        return [DEFAULT_TAG, *tags] if tags else []
    return list(torchvision_models().get_model_weights(backbone).__members__)


def _without_prefix(state, module):
    """Remove what wrappers put before all names, unless the network's own begin with it, too."""
    own = [*module.network.state_dict(), module.head_name]
    while True:
        found = [
            prefix
            for prefix in PREFIXES
            if all(key.startswith(prefix) for key in state)
            and not all(key.startswith(prefix) for key in own)
        ]
        if not state or not found:
            return state
        state = {key.removeprefix(found[0]): value for key, value in state.items()}


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
    except pickle.UnpicklingError as error:
        reason = "it is damaged, or holds more than tensors; save model.state_dict(), not the model"
        raise _not_a_state_dict(path, reason) from error
    except (ValueError, RuntimeError, OSError, SafetensorError) as error:
        raise _not_a_state_dict(path, error) from error
    except Exception as error:  # a malformed file can raise nearly anything
        raise _not_a_state_dict(path, f"it is damaged ({type(error).__name__})") from error
    if isinstance(state, dict):
        state = next((state[name] for name in PLACES if isinstance(state.get(name), dict)), state)
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
    entry = torchvision_models().get_model_weights(module.backbone)[weights]
    cache = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    if cache.is_file():
        return _read_file(cache)
    try:
        with _socket_timeout(SECONDS_TO_ANSWER):
            return entry.get_state_dict(progress=True, check_hash=True)
    except OSError as error:  # URLError, timeouts
        raise _not_downloaded(entry.url, error, cache) from None


def _published_by_timm(module, tag):
    """Return weights as timm fits them to a network of the same options."""
    backbone = module.backbone
    if tag != DEFAULT_TAG:
        backbone = f"{backbone.partition('.')[0]}.{tag}"
    try:
        whole = make_timm_network(backbone, module.image_size, module.global_pool, pretrained=True)
    except Exception as error:  # its hub has many kinds of errors
        raise _not_downloaded(f"the hub of timm ({backbone})", error) from None
    return whole.state_dict()


def _not_downloaded(source, error, cache=None):
    there = f"put it at {cache}, or " if cache else ""
    return ConnectionError(
        f"expected to download the weights from {source}, got {short_reason(error)}; download the "
        f"file elsewhere and {there}pass its path as weights "
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
