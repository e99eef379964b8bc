"""Check the names and values of an estimator's parameters.

Everything is checked before a weight is fetched, a file read or a run logged.
"""

import math
import os
import warnings
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from difflib import SequenceMatcher
from functools import partial
from inspect import Parameter, isclass, signature
from numbers import Integral, Real
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
from skorch.callbacks import LRScheduler

from mura_skorch.calibration.operating_point import check_rule
from mura_skorch.data.dataset import StudyDataset
from mura_skorch.data.splits import as_split
from mura_skorch.models.study_network import StudyNetwork
from mura_skorch.training.arithmetic import check_precision
from mura_skorch.training.callback_state import check_storable
from mura_skorch.training.device import check_device
from mura_skorch.training.net import check_loader_keeps_order
from mura_skorch.utils.arguments import (
    check_whole,
    declared,
    find_optimizer,
    is_default,
    names_taken,
    short_repr,
)

__all__ = ["check_names", "check_parameters", "warn_of_maximum"]

# Parts of the net, and how many arguments the net passes to each by position.
PARTS = {
    **{"module": 0, "criterion": 0, "optimizer": 1, "dataset": 2},
    **{"iterator_train": 1, "iterator_valid": 1},
}
# What the net itself says to its dataset, see `MuraClassifier.get_dataset`.
SAID = {"dataset": ("study_types", "on_bad_view")}
# What other libraries call a parameter, where no letters are alike.
SYNONYMS = {
    **{"learning_rate": "lr", "seed": "random_state", "loss": "criterion", "model": "module"},
    **{"epochs": "max_epochs", "n_epochs": "max_epochs"},
}
# How alike a name must be to be suggested: difflib's own bound.
ALIKE = 0.6


def check_parameters(net: Any) -> None:
    """Raise where a parameter is unknown, of a wrong type or out of range.

    Parameters
    ----------
    net : MuraClassifier
        Need not be initialized; it stays as it is.

    Raises
    ------
    TypeError
        A value is of a type that the parameter does not take.
    ValueError
        A name is unknown, and the one most like it is suggested, or a value is out of range.
    """
    values = net.get_params(deep=False)
    check_names(net, values)
    _check_numbers(values)
    _check_choices(net, values)
    _check_parts(net, values)
    _check_callbacks(net, values)
    check_rule(net.threshold)
    check_device(net.device)
    check_precision(net.precision)
    as_split(net.train_split)
    check_loader_keeps_order(net.get_params_for("iterator_valid"))


def check_names(net: Any, params: Mapping[str, Any], known: Container[str] = ()) -> None:
    """Raise ValueError where a parameter's name is unknown; suggest one that is known.

    Parameters
    ----------
    net : MuraClassifier
        The classes that it is made of say which names there are.
    params : dict of str to object
        Parameters by name. Classes among them take the place of the net's own.
    known : container of str, default=()
        Names that are not looked at.
    """
    values = {**net.get_params(deep=False), **params}
    names = [name for name in params if name not in known]
    wrong = [text for name in names if (text := _name_fault(net, name, values))]
    if wrong:
        raise ValueError(f"expected parameters of {type(net).__name__}, got " + "; ".join(wrong))


# --- names -----------------------------------------------------------------------------------


def _name_fault(net, name, values):
    """Return what is wrong with a name, or ""."""
    part, _, rest = name.partition("__")
    own = declared(net)
    if name.startswith("_") or name.endswith("_") or (not rest and name in own):
        return ""
    if is_default(net, name, values[name]):
        return ""  # of the net's signature, not of its user: `taken` leaves it out
    if rest and part == "callbacks":
        return _callback_fault(net, name, values)
    if rest and part in PARTS:
        known = _taken_by(part, values)
        if known is None or rest in known or rest.startswith("param_groups__"):
            return ""
        near = _nearest(rest, known)
        if near is not None:
            return f"{name}: did you mean {part}__{near}?"
        if rest in own:
            return f"{name}: did you mean {rest}?"
        return f"{name}: {_called(values[part])} takes {', '.join(known) or 'nothing'}"
    if rest and part in own:
        return ""  # of a part that a subclass has added
    near = SYNONYMS.get(name) or _nearest(name, _all_names(net, values))
    return f"{name}: did you mean {near}?" if near else f"{name}, which is none"


def _callback_fault(net, name, values):
    """Return what is wrong with the name of a callback or of its parameter, or ""."""
    callbacks = _callbacks(net, values)
    called, _, rest = name.removeprefix("callbacks__").partition("__")
    if called not in callbacks:
        near = _nearest(called, callbacks)
        if near:
            return f"{name}: did you mean callbacks__{near}?"
        return f"{name}: no callback is called {called}; there are {', '.join(callbacks)}"
    if not rest:
        return ""
    callback = callbacks[called]
    if callback is None:
        return ""  # taken out, as skorch says itself where it matters
    known = names_taken(callback) if isclass(callback) else _settings(callback)
    if known is None or rest in known:
        return ""
    near = _nearest(rest, known)
    hint = f"did you mean callbacks__{called}__{near}?" if near else f"it takes {', '.join(known)}"
    if isinstance(callback, LRScheduler) and not near:
        hint += f"; pass another schedule whole, callbacks__{called}=LRScheduler(policy, ...)"
    return f"{name}: {hint}"


def _settings(callback):
    return list(callback.get_params(deep=False)) if hasattr(callback, "get_params") else None


def _taken_by(part, values):
    """Return the names that a part takes, or None where it takes any."""
    takes = values[part]
    if part == "optimizer":
        with suppress(TypeError, ValueError):
            takes = find_optimizer(takes)
    if not callable(takes):
        return None  # which is an error of its own
    names = names_taken(takes, PARTS[part])
    if names is None:
        return None
    groups = ["param_groups"] if part == "optimizer" else []  # skorch's, see its documentation
    return [name for name in names if name not in SAID.get(part, ())] + groups


def _callbacks(net, values):
    """Return the callbacks that the net would have, by the names that skorch gives them."""
    given = values["callbacks"]
    listed = given if isinstance(given, list | tuple) else []
    grouped: dict[str, list[Any]] = {}
    for item in [*net.get_default_callbacks(), *listed]:
        if isinstance(item, tuple | list):
            name, callback = item
        else:
            name, callback = (item if isclass(item) else type(item)).__name__, item
        grouped.setdefault(name, []).append(callback)
    found = {
        name if len(alike) == 1 else f"{name}_{i}": callback
        for name, alike in grouped.items()
        for i, callback in enumerate(alike, 1)
    }
    return {name: values.get(f"callbacks__{name}", callback) for name, callback in found.items()}


def _all_names(net, values):
    """Return every name that the net takes, those of its own signature first."""
    names = list(declared(net))
    for part in PARTS:
        names += [f"{part}__{name}" for name in _taken_by(part, values) or ()]
    for called, callback in _callbacks(net, values).items():
        names.append(f"callbacks__{called}")
        if callback is not None and not isclass(callback):
            names += [f"callbacks__{called}__{name}" for name in _settings(callback) or ()]
    return names


def _nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like one, whole or in what follows its last "__"."""

    def likeness(other):
        return max(
            SequenceMatcher(None, name, text).ratio() for text in (other, other.rpartition("__")[2])
        )

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best) >= ALIKE else None


def _called(item):
    return getattr(item, "__name__", type(item).__name__)


def warn_of_maximum(net: Any) -> None:
    """Warn before a fit that pools views by their maximum."""
    if net.get_params_for("module").get("pooling") == "max":
        warnings.warn(
            "the maximum over views grows with their number, which then decides the study's "
            "class in part; compare with module__pooling='mean'",
            stacklevel=2,
        )


# --- values ----------------------------------------------------------------------------------


def _check_numbers(values):
    """Check whole numbers, rates, shares and seeds."""
    check_whole("max_epochs", values["max_epochs"], 1, "epochs")
    check_whole("accumulate", values["accumulate"], 1, "batches")
    check_whole("fine_tune_after", values["fine_tune_after"], 0, "epochs")
    if not isinstance(values["flip_average"], bool | np.bool_):
        raise TypeError(
            f"expected flip_average to be True or False, got {short_repr(values['flip_average'])}"
        )
    for loader in ("iterator_train", "iterator_valid"):
        check_whole(f"{loader}__num_workers", values.get(f"{loader}__num_workers", 0), 0, "workers")
    for name in ("batch_size", "iterator_train__batch_size", "iterator_valid__batch_size"):
        if name in values and values[name] != -1:  # skorch's: all studies
            check_whole(name, values[name], 1, "studies")
    for name in ("lr", "optimizer__lr"):
        rate = values.get(name, 0.0)
        if isinstance(rate, torch.Tensor):
            continue
        if not isinstance(rate, Real) or isinstance(rate, bool):
            raise TypeError(f"expected {name} to be a number such as 1e-4, got {short_repr(rate)}")
        if not 0 <= float(rate) < math.inf:
            raise ValueError(
                f"expected {name} to be a finite number, 0 or more, got {short_repr(rate)}"
            )
    share = values["max_bad_share"]
    if not isinstance(share, Real) or isinstance(share, bool) or not 0 <= float(share) <= 1:
        raise ValueError(f"expected max_bad_share from 0 to 1, got {short_repr(share)}")
    seed = values["random_state"]
    if seed is not None and not isinstance(seed, np.random.RandomState):
        if not isinstance(seed, Integral) or isinstance(seed, bool):
            raise TypeError(
                f"expected random_state to be a whole number, a RandomState or None, got "
                f"{short_repr(seed)}"
            )
        if not 0 <= int(seed) < 2**63:
            raise ValueError(f"expected random_state from 0 to 2**63 - 1, got {short_repr(seed)}")
    for name in ("checkpoint_path", "dataset__cache"):
        path = values.get(name)
        if path is not None and (not isinstance(path, str | os.PathLike) or path == ""):
            raise TypeError(f"expected {name} to be a path or None, got {short_repr(path)}")


def _check_choices(net, values):
    """Check what a signature declares to be one of several texts."""
    found = {name: p for name, p in declared(net).items() if "__" not in name}
    for part in ("module", "criterion", "dataset"):
        takes = type(values[part]) if isinstance(values[part], torch.nn.Module) else values[part]
        if names_taken(takes) is not None:
            parameters = signature(takes).parameters
            found |= {f"{part}__{name}": parameter for name, parameter in parameters.items()}
    for name, parameter in found.items():
        if get_origin(parameter.annotation) is not Literal or name not in values:
            continue
        choices = get_args(parameter.annotation)
        if not any(isinstance(values[name], type(c)) and values[name] == c for c in choices):
            raise ValueError(
                f"expected {name} to be {' or '.join(map(repr, choices))}, got "
                f"{short_repr(values[name])}"
            )


def _check_parts(net, values):
    """Check the classes that the net is made of, and how they fit."""
    if values["compile"] or any(name.startswith("compile__") for name in values):
        raise ValueError(
            "expected compile=False and no settings of it, got others, which would rename all "
            "tensors of the model; pass module__compile=True"
        )
    for name in ("module", "criterion", "dataset", "iterator_train", "iterator_valid"):
        if not callable(values[name]):
            raise TypeError(f"expected {name} to be a class, got {short_repr(values[name])}")
    for name in ("module__augment", "iterator_train__collate_fn", "iterator_valid__collate_fn"):
        if values.get(name) is not None and not callable(values[name]):
            raise TypeError(f"expected {name} to be callable, got {short_repr(values[name])}")
    nonlinearity = values["predict_nonlinearity"]
    if nonlinearity != "auto" and not callable(nonlinearity):
        raise TypeError(
            "expected predict_nonlinearity to be 'auto', or a callable that makes probabilities of "
            f"shape (n_studies, 2) of the studies' logits, got {short_repr(nonlinearity)}"
        )
    weights = values.get("module__weights")
    is_ours = isclass(values["module"]) and issubclass(values["module"], StudyNetwork)
    if is_ours and not isinstance(weights, str | os.PathLike | None):
        raise TypeError(
            f"expected module__weights to be a name, a path or None, got {short_repr(weights)}"
        )
    if is_ours and values.get("module__max_views") is not None:
        check_whole("module__max_views", values["module__max_views"], 1, "views, or None")
    if isclass(values["dataset"]) and issubclass(values["dataset"], StudyDataset):
        size = values.get("dataset__image_size", 224)
        remedy = "; views are squeezed to a square, of which it is one side"
        check_whole("dataset__image_size", size, 1, "pixels", remedy)
        if is_ours and "backbone" in signature(values["module"]).parameters:
            backbone, global_pool = (
                values.get(f"module__{n}") for n in ("backbone", "global_pool")
            )
            values["module"].check_image_size(int(size), backbone, global_pool)
    if values["fine_tune_after"] and not hasattr(values["module"], "freeze"):
        raise TypeError(
            "expected a network that can be frozen with fine_tune_after, got "
            f"{_called(values['module'])}; give it a method freeze(freeze), or leave it out"
        )
    _check_criterion(values)
    _check_pooling(values)
    _check_optimizer(net, values)


def _check_criterion(values):
    """Check that probabilities can be made of the logits that a criterion is for."""
    criterion = values["criterion"]
    while isinstance(criterion, partial):
        criterion = criterion.func
    kind = criterion if isclass(criterion) else type(criterion)
    if not issubclass(kind, torch.nn.Module) or values["predict_nonlinearity"] != "auto":
        return  # a function that makes one, or somebody who says how
    if not issubclass(kind, torch.nn.BCEWithLogitsLoss):
        raise TypeError(
            "expected criterion to be a subclass of torch.nn.BCEWithLogitsLoss, such as "
            f"StudyTypeBCE, which says that outputs are logits, got {kind.__name__}; subclass one "
            "of them and write forward anew, or pass predict_nonlinearity as well"
        )


def _check_pooling(values):
    """Check that the loss trains how views are pooled."""
    pooling = values.get("module__pooling", "mean")
    if str(pooling).startswith("attention") and values.get("criterion__level") == "view":
        raise ValueError(
            "expected criterion__level='study' with attention over views, got 'view', whose loss "
            "does not reach the attention; change one of them"
        )


def _check_optimizer(net, values):
    """Make the optimizer on trial, which checks its arguments."""
    optimizer = find_optimizer(values["optimizer"])
    arguments = {"lr": values["lr"], **net.get_params_for("optimizer")}
    groups = arguments.pop("param_groups", [])
    arguments = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in arguments.items()
        if not name.startswith("param_groups__")
    }
    try:
        made = optimizer([{"params": [torch.zeros(2, 2, requires_grad=True)]}], **arguments)
    except (TypeError, ValueError) as error:
        given = ", ".join(f"optimizer__{k}={short_repr(v)}" for k, v in arguments.items())
        raise ValueError(
            f"expected arguments that {_called(optimizer)} takes, got {given}: {error}"
        ) from error
    _check_groups(groups, made)


def _check_groups(groups, optimizer):
    """Check groups of parameters, of which torch would store any setting."""

    def is_pair(group):
        is_two = isinstance(group, list | tuple) and len(group) == 2
        return is_two and isinstance(group[0], str) and isinstance(group[1], Mapping)

    if not isinstance(groups, list | tuple) or not all(map(is_pair, groups)):
        raise TypeError(
            "expected optimizer__param_groups to be a list of pairs of a pattern and settings, "
            f'such as [("network.*", {{"lr": 1e-5}})], got {short_repr(groups)}'
        )
    known = [name for name in optimizer.defaults if name != "params"]
    for pattern, settings in groups:
        if unknown := [name for name in settings if name not in known]:
            raise ValueError(
                f"expected settings of {_called(optimizer)} for {pattern!r} in "
                f"optimizer__param_groups ({', '.join(known)}), got {', '.join(unknown)}"
            )


def _check_callbacks(net, values):
    """Check that callbacks are callbacks, and schedules get what their policies take."""
    given = values["callbacks"]
    if given is not None and given != "disable" and not isinstance(given, list):
        raise TypeError(
            "expected callbacks to be a list of callbacks, or of pairs of name and callback, got "
            f"{short_repr(given)}"
        )
    callbacks = _callbacks(net, values)
    for name, callback in callbacks.items():
        if callback is None:
            continue
        if not hasattr(callback, "on_train_begin"):
            raise TypeError(
                f"expected callbacks__{name} to be a callback, or None for none, got "
                f"{short_repr(callback)}"
            )
        if isinstance(callback, LRScheduler):
            _check_schedule(name, callback, net.get_params_for(f"callbacks__{name}"))
    if values["checkpoint_path"] is not None:
        check_storable(callbacks)


def _check_schedule(name: str, callback: LRScheduler, settings: dict[str, Any]) -> None:
    """Check the arguments of a learning-rate policy."""
    policy: Callable[..., Any] | str | None = settings.get("policy", callback.policy)
    if isinstance(policy, str):
        policy = getattr(torch.optim.lr_scheduler, policy, None)
    if policy is None:
        return  # one of skorch's own
    own = [
        parameter.name
        for parameter in signature(LRScheduler.__init__).parameters.values()
        if parameter.kind is not Parameter.VAR_KEYWORD
    ]
    arguments = callback.kwargs | {k: v for k, v in settings.items() if k not in own}
    try:
        signature(policy).bind(None, **arguments)
    except TypeError as error:
        raise ValueError(
            f"expected what {_called(policy)} takes in the schedule {name}, got "
            f"{', '.join(arguments) or 'nothing'}: {error}; pass "
            f"LRScheduler({_called(policy)}, ...) with its arguments, whole"
        ) from error
