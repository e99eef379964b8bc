"""Check parameters, and select the arguments that a class accepts."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from functools import lru_cache
from inspect import Parameter, signature
from numbers import Integral, Number
from typing import Any

import numpy as np
import torch

from mura_skorch.utils.text import shorten

__all__ = [
    "check_whole",
    "declared",
    "find_optimizer",
    "is_default",
    "names_taken",
    "short_repr",
    "taken",
]

NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
PLAIN = (str, bytes, Number, np.generic, os.PathLike, type)
LONGEST_VALUE = 80  # characters of a value in a message


def short_repr(value: Any) -> str:
    """Return a value for a message: its repr, or only the type of tables and other objects."""
    parts = value if isinstance(value, tuple | list) else [value]
    if all(part is None or isinstance(part, PLAIN) for part in parts):
        return shorten(repr(value), LONGEST_VALUE)
    return type(value).__name__


def check_whole(name: str, value: Any, least: int, unit: str, remedy: str = "") -> None:
    """Raise ValueError unless a parameter is an integer, of Python or NumPy, of at least `least`.

    Parameters
    ----------
    name : str
        The parameter's name.
    value : object
        Its value.
    least : int
        The smallest allowed value.
    unit : str
        What is counted, for the message.
    remedy : str
        Appended to the message.

    Raises
    ------
    ValueError
        `value` is not such an integer.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or int(value) < least:
        raise ValueError(
            f"expected {name} to be {least}, {least + 1}, ... {unit}, got "
            f"{short_repr(value)}{remedy}"
        )


def declared(net: Any) -> dict[str, Parameter]:
    """Return the named parameters of the constructors of an estimator's class and its bases.

    Parameters
    ----------
    net : estimator
        Only its class is used.

    Returns
    -------
    dict of str to inspect.Parameter
        If several classes declare a name, the declaration of the most derived one.
    """
    kind: Any = type(net)
    return _declared(kind)


@lru_cache(maxsize=64)
def _declared(kind):
    found: dict[str, Parameter] = {}
    for base in kind.__mro__:
        if "__init__" in vars(base) and base is not object:
            for parameter in list(signature(base.__init__).parameters.values())[1:]:
                if parameter.kind in NAMED:
                    found.setdefault(parameter.name, parameter)
    return found


def is_default(net: Any, name: str, value: Any) -> bool:
    """Return whether a value is the default in an estimator's signature.

    Parameters
    ----------
    net : estimator
        Only its class is used.
    name : str
        The parameter's name.
    value : object
        Its value.
    """
    declaration = declared(net).get(name)
    if declaration is None or type(value) is not type(declaration.default):
        return False
    # Clones hold copies of defaults: equal, but not identical.
    return repr(value) == repr(declaration.default)


def names_taken(takes: Any, n_given: int = 0) -> list[str] | None:
    """Return the names of the arguments that a class or function accepts.

    Parameters
    ----------
    takes : callable or Module
        A class, a function, or an instance of a module, which means its class.
    n_given : int, default=0
        Number of leading arguments to leave out because the caller passes them by position.

    Returns
    -------
    list of str or None
        None if any name is accepted, or if the signature is unknown.
    """
    try:
        parameters = list(
            signature(
                type(takes) if isinstance(takes, torch.nn.Module) else takes
            ).parameters.values()
        )
    except (TypeError, ValueError):  # the class is not written in Python
        return None
    if any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters):
        return None
    return [parameter.name for parameter in parameters[n_given:] if parameter.kind in NAMED]


def taken(net: Any, part: str, params: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments to construct a part of a net with.

    Parameters
    ----------
    net : NeuralNet
        Has the class of the part as an attribute.
    part : str
        Name of that attribute, such as "criterion".
    params : dict
        Arguments by name, from the net's signature and its user.

    Returns
    -------
    dict
        `params` with NumPy numbers converted to Python's, and without defaults of the net that the
        class does not accept. If the part is an instance, all defaults of the net are removed.
    """
    takes = getattr(net, part, None)
    names = None if takes is None else names_taken(takes)
    is_made = isinstance(takes, torch.nn.Module)
    kept = {}
    for name, value in params.items():
        is_foreign = is_made or (names is not None and name not in names)
        if not (is_foreign and is_default(net, f"{part}__{name}", value)):
            kept[name] = value.item() if isinstance(value, np.generic) else value
    return kept


def find_optimizer(optimizer: Any) -> Callable[..., torch.optim.Optimizer]:
    """Return an optimizer's class, given the class or its name in `torch.optim`.

    Parameters
    ----------
    optimizer : str or callable
        "AdamW" and "adamw" both mean `torch.optim.AdamW`.

    Raises
    ------
    TypeError
        It is neither a name nor a class.
    ValueError
        There is no optimizer of that name, or it evaluates each batch several times.
    """
    if isinstance(optimizer, str):
        known = {
            name.lower(): item
            for name, item in vars(torch.optim).items()
            if isinstance(item, type) and issubclass(item, torch.optim.Optimizer)
        }
        known.pop("optimizer", None)  # the base class
        if optimizer.lower() not in known:
            near = get_close_matches(optimizer.lower(), known, n=1)
            hint = f"did you mean {known[near[0]].__name__}?" if near else "pass its class"
            raise ValueError(
                "expected optimizer to be a name in torch.optim, got "
                f"{short_repr(optimizer)}; {hint}"
            )
        optimizer = known[optimizer.lower()]
    if not callable(optimizer):
        raise TypeError(
            "expected optimizer to be a class such as torch.optim.AdamW, or its name, got "
            f"{short_repr(optimizer)}"
        )
    step = getattr(optimizer, "step", None)
    closure = None if step is None else signature(step).parameters.get("closure")
    if closure is not None and closure.default is Parameter.empty:
        raise ValueError(
            f"expected an optimizer that steps on the gradients of a batch, got "
            f"{optimizer.__name__}, which evaluates each batch several times: augmentation would "
            "give it another loss each time, and batch norm would count it several times; use "
            "torch.optim.AdamW or SGD"
        )
    return optimizer
