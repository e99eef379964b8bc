"""Read the parameters of an estimator from the command line or a file, and check them."""

import ast
import re
import runpy
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from skorch.callbacks import LRScheduler

from mura_skorch.classifier import MuraClassifier
from mura_skorch.commands.cluster import LOCAL
from mura_skorch.commands.data import weights_or_none
from mura_skorch.data import Augment, PatientSplit
from mura_skorch.presets import beyond_paper
from mura_skorch.training.parameters import check_parameters
from mura_skorch.utils.text import printable

__all__ = [
    "DEFAULTS",
    "absolute_network",
    "check_fit",
    "load_network",
    "read_settings",
    "shared_parameters",
]

DEFAULTS = "defaults"
PRESETS = {"beyond_paper": beyond_paper}
# What a setting may be made of, beside numbers, texts, tuples, True, False and None.
CLASSES = {"Augment": Augment, "LRScheduler": LRScheduler, "PatientSplit": PatientSplit}
# A value such as timm:resnet10t or weights/a.pth, which Python would need quotes for.
WORD = r"=\s*([A-Za-z_~./][\w.:/~-]*[.:/~-][\w.:/~-]*)\s*(?=,|$)"
EXAMPLE = "lr=1e-3,optimizer=AdamW,module__augment=Augment(scale=(0.8,1.25))"


def read_settings(text: str, **common: Any) -> dict[str, Any]:
    """Return the parameters that a text stands for.

    Parameters
    ----------
    text : str
        ``defaults``, for none; the name of a preset; the path of a file with one ``key=value`` a
        line, where # begins a comment; or ``key=value,key=value``. Values are written as in Python;
        names such as AdamW and timm:resnet10t are texts. ``Augment(...)``, ``PatientSplit(...)`` and
        ``LRScheduler(CosineAnnealingLR, T_max=10)`` make objects. Nothing else is called.
    **common
        Arguments of a preset.

    Returns
    -------
    dict of str to object

    Raises
    ------
    ValueError
        The text cannot be read.

    Examples
    --------
    >>> read_settings("lr=1e-3,optimizer=AdamW,module__augment=Augment(scale=(0.8, 1.25))")
    {'lr': 0.001, 'optimizer': 'AdamW', 'module__augment': Augment(degrees=10, flip=0.5, scale=(0.8, 1.25))}
    >>> read_settings("module__backbone=timm:resnet10t,lr=1e-3")
    {'module__backbone': 'timm:resnet10t', 'lr': 0.001}
    """  # noqa: E501, the output of a doctest
    if text == DEFAULTS:
        return {}
    if text in PRESETS:
        return PRESETS[text](**common)
    source = text if "=" in text else _pairs_of_file(text)
    source = re.sub(WORD, r"='\1'", source)
    try:
        call = ast.parse(f"dict({source})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("a value without a key")
        names = [pair.arg for pair in call.keywords]
        if len(set(names)) < len(names):
            raise ValueError("a key is repeated")
        return {_name(pair): _value(pair.value) for pair in call.keywords}
    except (SyntaxError, TypeError, ValueError) as error:
        # Python words its syntax errors anew in each version.
        is_syntax = isinstance(error, SyntaxError)
        reason = "a value is missing, or not written as in Python" if is_syntax else error
        raise ValueError(
            f"expected settings such as {EXAMPLE}, the path of a file of such lines, {DEFAULTS} or "
            f"{', '.join(PRESETS)}, got {printable(text)}: {printable(reason)}"
        ) from error


def shared_parameters(args: Namespace) -> dict[str, Any]:
    """Return the parameters of a classifier that the options common to fits give.

    Parameters
    ----------
    args : Namespace
        With ``weights``, ``image_size``, ``cache``, ``max_epochs``, ``batch_size`` and ``lr``; and
        ``module``, if the command has it.
    """
    if getattr(args, "module", None) is None:
        network = {"module__weights": weights_or_none(args.weights)}
    else:
        network = {"module": load_network(args.module)}
    return network | {
        "dataset__image_size": args.image_size,
        "dataset__cache": args.cache,
        "max_epochs": args.max_epochs,
        "batch_size": args.batch_size,
        "lr": args.lr,
    }


def check_fit(make_classifier: Callable[[Namespace], MuraClassifier], args: Namespace) -> None:
    """Raise before a run is opened what every fit of a command would raise after it.

    Parameters
    ----------
    make_classifier : callable
        Returns the classifier of the arguments.
    args : Namespace
        Complete. The device is not checked with ``--dask`` and an address: workers may have others
        than this machine.

    Raises
    ------
    TypeError, ValueError
        A parameter is of a wrong type or out of range, or the views are too small for the network.
    """
    clf = make_classifier(args)
    if getattr(args, "dask", None) not in (None, LOCAL):
        clf.set_params(device="cpu")
    check_parameters(clf)


def absolute_network(text: str) -> str:
    """Return a text such as ``nets.py:Small`` with the absolute path of its file.

    Parameters
    ----------
    text : str
        ``FILE:CLASS``.
    """
    file, _, name = text.rpartition(":")
    return f"{Path(file).absolute()}:{name}"


def load_network(text: str) -> Any:
    """Return the class that a text such as ``nets.py:Small`` names.

    Parameters
    ----------
    text : str
        ``FILE:CLASS``. The file is run.

    Raises
    ------
    ValueError
        There is no such file, or no such class in it.
    """
    file, _, name = text.rpartition(":")
    try:
        return runpy.run_path(file)[name]
    except (OSError, KeyError) as error:
        raise ValueError(
            f"expected --module FILE:CLASS with a file that holds the class, got {text}: {error!r}"
        ) from error


def _pairs_of_file(path):
    """Return the lines of a file, joined by commas."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ValueError(
            f"expected settings such as {EXAMPLE}, a file of such lines, {DEFAULTS} or "
            f"{', '.join(PRESETS)}, got {printable(path)}, which is none; check the name"
        ) from error
    kept = (line.partition("#")[0].strip().rstrip(",") for line in lines)
    return ",".join(line for line in kept if line)


def _name(pair):
    if pair.arg is None:
        raise ValueError("** where a key was expected")
    return pair.arg


def _value(node):
    """Return the value of an expression of literals, names and known classes."""
    if isinstance(node, ast.Name):
        schedules = vars(torch.optim.lr_scheduler)
        return schedules.get(node.id, node.id) if node.id[:1].isupper() else node.id
    if isinstance(node, ast.Call):
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called not in CLASSES:
            raise ValueError(f"calls of {', '.join(CLASSES)} alone are known")
        arguments = {_name(pair): _value(pair.value) for pair in node.keywords}
        return CLASSES[called](*map(_value, node.args), **arguments)
    return ast.literal_eval(node)
