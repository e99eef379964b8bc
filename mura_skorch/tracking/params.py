"""Collect the parameters of a fit as texts for MLflow.

A text is the same in every process: it holds no address in memory and, of a path, the last name
alone, since a folder may be called after a person.
"""

import functools
import hashlib
import inspect
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import pandas as pd
import torch
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mura_skorch.models.pretrained import MODEL_FILE
from mura_skorch.tracking.values import without_folder

__all__ = ["is_place", "settings_of"]

# Parameters that every run has under these names; all others have the estimator's own names.
SHORT = {
    "module__weights": "weights",
    "module__augment": "augment",
    "criterion__level": "level",
    "criterion__count": "count",
    "dataset__image_size": "image_size",
}
# Recorded even where they are the defaults.
ALWAYS = (
    *("lr", "batch_size", "max_epochs", "accumulate", "train_split", "threshold"),
    *("module", "criterion", "optimizer"),
)
# What a fit only reads; a digest tells two files of one name apart.
INPUTS = ("module__", "criterion__", "dataset__", "iterator_")
OUTPUTS = ("dataset__cache",)
# Names of parameters that are places, of which even those that are not there yet may name people.
OF_PATHS = re.compile("(cache|dir|dirname|file|folder|path|root)$")
# Of a callback: which run or trial it reports to, not what it does.
OF_THE_RUN = ("run_id", "parent_run_id", "trial")
# The names of their classes are unique, and their versions are on record as tags.
KNOWN = ("mura_skorch", "torch", "torchvision", "skorch", "sklearn", "numpy", "pandas", "builtins")
PLAIN = (bool, int, float, str, type(None))
LONGEST = 500  # characters
DEEPEST = 6  # levels of objects within objects


def is_place(name: str) -> bool:
    """Return whether a parameter is a file or folder, by its name."""
    return OF_PATHS.search(name) is not None


def settings_of(net: Any) -> dict[str, Any]:
    """Return what was set for a fit: two nets that differ in a setting differ here.

    Parameters
    ----------
    net : MuraClassifier
        Initialized.

    Returns
    -------
    dict of str to bool, int, float, str or None
        The parameters that readers look for first under short names, such as ``lr``, ``weights``
        and ``level``; the classes of module, criterion and optimizer; ``lr_policy``; ``patience``
        where the plateau is on; ``weights_loaded``, how many tensors were loaded and whether the
        last layer is a new one. Then every other parameter that differs from its default, each
        callback that was added, replaced or removed with its settings, and ``code``, digests of
        the functions and classes that belong to no known package.
    """
    texts = _Texts()
    given, default = _parameters(net), _parameters(_default_of(net))
    settings: dict[str, Any] = {}
    for name in sorted(given, key=lambda name: (name not in ALWAYS, name not in SHORT, name)):
        value = given[name]
        prefix, _, rest = name.partition("__")
        if name in SHORT:
            if rest in net.get_params_for(prefix):
                settings[SHORT[name]] = texts.setting(name, value)
        elif name not in ("precision", "random_state"):
            text = texts.setting(name, value)
            usual = name in default and text == _Texts().setting(name, default[name])
            if name in ALWAYS or not usual:
                settings[name] = text
    settings |= {
        "precision": net.precision_,
        "memory_format": net.arithmetic_.memory_format,
        "threads": net.record_.arithmetic.get("threads", net.threads_),
        "random_state": net.seed_,
    }
    if net.n_processes_ > 1:
        settings["n_processes"] = net.n_processes_
        settings["global_batch_size"] = net.n_processes_ * net.batch_size
    if loaded := getattr(net.module_, "loaded", None):
        settings["weights_loaded"] = loaded
    if given["precision"] != "auto":
        settings["precision_set"] = given["precision"]
    settings |= _callback_settings(net, texts)
    return settings | ({"code": ", ".join(texts.code)} if texts.code else {})


def _parameters(net: Any) -> dict[str, Any]:
    """Return the parameters of a net, without those of callbacks and of scikit-learn itself."""
    found: dict[str, Any] = {} if net is None else net.get_params(deep=False)
    return {k: value for k, value in found.items() if not k.startswith(("_", "callbacks"))}


def _default_of(net: Any) -> Any:
    """Return a net with the defaults of this class, or None if these do not suffice."""
    try:
        return type(net)()
    except Exception:  # a subclass may have arguments without defaults
        return None


def _callback_settings(net, texts):
    """Return the learning-rate policy, and how the callbacks differ from the default ones."""
    settings: dict[str, Any] = {}
    default = dict(net.get_default_callbacks())
    there = dict(net.callbacks_)
    schedules = [item for item in there.values() if isinstance(item, LRScheduler)]
    settings["lr_policy"] = "; ".join(map(texts.policy, schedules)) or "constant"
    plateau: Any = there.get("plateau")
    has_plateau = isinstance(plateau, LRScheduler) and plateau.policy is ReduceLROnPlateau
    if has_plateau:
        settings["patience"] = texts.setting("", plateau.get_params().get("patience", 10))
    if own := [name for name in there if name not in default]:
        settings["callbacks"] = ", ".join(own)
    for name in default:
        if name not in there:
            is_off = hasattr(net, f"callbacks__{name}")
            settings[f"callbacks__{name}"] = None if is_off else "replaced"
    for key, value in net.get_params(deep=False).items():
        if key.startswith("callbacks__") and value is not None and key.split("__")[1] not in there:
            settings[key] = texts.setting(key, value)
    for name, item in there.items():
        key, usual = f"callbacks__{name}", default.get(name)
        is_usual = type(item) is type(usual)
        if not is_usual:
            settings[key] = texts.of(type(item))
        before = _attributes(usual) if is_usual else _defaults_of(type(item))
        now = {part: value for part, value in _attributes(item).items() if part not in OF_THE_RUN}
        for part in sorted(now):
            whole = f"{key}__{part}"
            value = texts.setting(whole, now[part])
            is_new = part not in before or value != _Texts().setting(whole, before[part])
            if is_new and not (has_plateau and whole == "callbacks__plateau__patience"):
                settings[whole] = value
    return settings


class _Texts:
    """Texts of values; `code` gathers the digests of what they call and no package holds."""

    def __init__(self) -> None:
        self.code: list[str] = []
        self._within: list[int] = []

    def setting(self, name: str, value: Any) -> Any:
        """Return a plain value as it is, and the text of any other."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, os.PathLike | str):
            if name.startswith(INPUTS) and name not in OUTPUTS:
                return _path_text(value)
            return os.path.basename(value) if is_place(name) else self.of(value)
        return value if isinstance(value, PLAIN) else self.of(value)

    def policy(self, scheduler: LRScheduler) -> str:
        """Return the text of a schedule of the learning rate."""
        usual = _defaults_of(LRScheduler)
        kwargs = {
            name: value
            for name, value in scheduler.get_params(deep=False).items()
            if name not in ("policy", "event_name") and not (name in usual and value == usual[name])
        }
        return _shortened(f"{self.of(scheduler.policy)}({self._named(kwargs)})")

    def of(self, value: Any) -> str:
        """Return the text of a value."""
        if id(value) in self._within or len(self._within) > DEEPEST:
            return type(value).__name__
        self._within.append(id(value))
        try:
            return _shortened(self._of(value))
        except Exception as error:  # a text is no reason to end a fit
            return f"{type(value).__name__} ({type(error).__name__})"
        finally:
            self._within.pop()

    def _of(self, value):
        if isinstance(value, Enum):
            return str(value)
        if isinstance(value, np.generic):
            return str(value.item())
        if isinstance(value, os.PathLike | str):
            return str(without_folder(os.fspath(value)))
        if isinstance(value, PLAIN):
            return str(value)
        if isinstance(value, type | FunctionType | BuiltinFunctionType | functools.partial):
            return self._callable(value)
        if isinstance(value, MethodType):
            return f"{self.of(value.__self__)}.{value.__name__}"
        if isinstance(value, Mapping):
            return f"{{{self._pairs(value.items())}}}"
        if isinstance(value, set | frozenset):
            return f"{{{', '.join(sorted(map(self.of, value)))}}}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(self.of, value))}]"
        return self._data(value) or self._object(value)

    def _pairs(self, items):
        return ", ".join(f"{self.of(name)}: {self.of(value)}" for name, value in items)

    def _named(self, values):
        return ", ".join(f"{name}={self.of(value)}" for name, value in sorted(values.items()))

    def _callable(self, value):
        if isinstance(value, functools.partial):
            parts = [self.of(item) for item in value.args]
            parts += [self._named(value.keywords)] if value.keywords else []
            return f"{self.of(value.func)}({', '.join(parts)})"
        name = getattr(value, "__qualname__", repr(value))
        if not _is_known(value) and not isinstance(value, BuiltinFunctionType):
            text = f"{name} {_digest('; '.join(self._source(value)))}"
            if text not in self.code:
                self.code.append(text)
        return name

    def _source(self, value) -> Iterator[str]:
        """Give what makes a function or a class that no known package holds do what it does."""
        inner = _Texts()
        inner._within = self._within
        if isinstance(value, FunctionType):
            yield from _code_texts(value.__code__)
            yield inner.of([value.__defaults__, value.__kwdefaults__])
            for cell in value.__closure__ or ():
                with suppress(ValueError):  # it is not filled yet
                    yield inner.of(cell.cell_contents)
        else:
            for cls in (cls for cls in value.__mro__ if not _is_known(cls)):
                yield cls.__qualname__
                for name, item in sorted(vars(cls).items()):
                    if not name.startswith("__") or callable(item):
                        yield f"{name}: {inner.of(_unwrapped(item))}"
        yield from inner.code

    def _data(self, value):
        """Return the text of an array or a table: its shape and a digest."""
        if isinstance(value, torch.Generator):
            return f"Generator(seed={value.initial_seed()})"
        if isinstance(value, torch.nn.Module):
            parts = {name: item for name, item in vars(value).items() if not name.startswith("_")}
            parts |= {**dict(value.named_children()), **dict(value.named_parameters(recurse=False))}
            parts |= dict(value.named_buffers(recurse=False))
            parts.pop("training")
            return f"{self.of(type(value))}({self._named(parts)})"
        if isinstance(value, torch.Tensor):
            value = value.detach().cpu().float().numpy()
        if isinstance(value, np.ndarray):
            if value.size <= 10:
                return str(value.tolist())
            shape = " x ".join(map(str, value.shape))
            whole = str(value.tolist()) if value.dtype == object else value.tobytes()
            return f"{shape} values with digest {_digest(whole)}"
        if isinstance(value, pd.Series | pd.DataFrame | pd.Index):
            table = value.to_frame() if isinstance(value, pd.Series | pd.Index) else value
            cells = {str(name): list(map(_cell, table[name])) for name in table}
            return f"{len(table):,} rows with digest {_digest(repr(cells))}"
        return None

    def _object(self, value):
        if hasattr(value, "__wrapped__"):
            return f"{type(value).__name__}({self.of(value.__wrapped__)})"
        attributes = _attributes(value)
        own = re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))
        has_repr = type(value).__repr__ is not object.__repr__
        name = self.of(type(value))
        if not attributes and (has_repr or not hasattr(value, "__dict__")):
            return own
        is_plain = all(isinstance(item, PLAIN) for item in attributes.values())
        if is_plain and not own.startswith("<") and _is_known(type(value)):
            return own
        return f"{name}({self._named(attributes)})"


def _attributes(value):
    """Return what an object was given, without what it has fitted."""
    if callable(getattr(value, "get_params", None)):
        params = value.get_params(deep=False)
        return {name: item for name, item in params.items() if not name.startswith("_")}
    slots = [name for cls in type(value).__mro__ for name in getattr(cls, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    found |= getattr(value, "__dict__", {})
    return {name: item for name, item in found.items() if not name.endswith("_")}


def _defaults_of(cls):
    """Return the defaults of a class's arguments."""
    with suppress(TypeError, ValueError):  # classes in C may have no signature
        arguments = inspect.signature(cls).parameters.values()
        return {item.name: item.default for item in arguments if item.default is not item.empty}
    return {}


def _is_known(value):
    return str(getattr(value, "__module__", None)).partition(".")[0] in KNOWN


def _unwrapped(item):
    """Return the function in a property, a static method or a class method."""
    if isinstance(item, property):
        return [item.fget, item.fset]
    return getattr(item, "__func__", item)


def _code_texts(code) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for item in code.co_consts:
        if isinstance(item, CodeType):
            yield from _code_texts(item)
        else:
            yield repr(sorted(map(repr, item)) if isinstance(item, frozenset) else item)


def _path_text(value):
    """Return the last name of a path, with a digest of the file or the saved model there."""
    name = without_folder(os.fspath(value))
    file = Path(value)
    with suppress(OSError, ValueError):
        for place in (file / MODEL_FILE, file):
            if place.is_file():
                with place.open("rb") as opened:
                    found = hashlib.file_digest(opened, "sha256").hexdigest()[:8]
                return f"{name} with digest {found}"
    return str(name)


def _cell(value):
    """Return a cell of a table; of paths the last names, which are the same on other machines."""
    if isinstance(value, list | tuple):
        return [os.path.basename(str(item)) for item in value]
    return str(value)


def _digest(value):
    return hashlib.sha256(value if isinstance(value, bytes) else value.encode()).hexdigest()[:8]


def _shortened(text):
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 20]}... {_digest(text)}"
