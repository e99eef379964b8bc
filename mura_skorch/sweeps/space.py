"""Read the parameters of a sweep, and the values that each may take, from the command line."""

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from mura_skorch.sweeps.trials import import_optuna
from mura_skorch.utils.text import printable

__all__ = ["parameters_of", "read_space"]

# Short names of parameters, as a run has them, too.
SHORT = {
    "backbone": "module__backbone",
    "weights": "module__weights",
    "pooling": "module__pooling",
    "freeze": "module__freeze",
    "level": "criterion__level",
    "count": "criterion__count",
    "image_size": "dataset__image_size",
}
EXAMPLE = "lr=1e-5:1e-2:log batch_size=4,8,16 backbone=densenet169,resnet50"
PLAIN = (bool, int, float, str, type(None))


def read_space(texts: Iterable[str]) -> dict[str, Any]:
    """Return the distribution of each parameter of a sweep.

    Parameters
    ----------
    texts : iterable of str
        ``name=low:high`` for a range, of whole numbers if both ends are; ``name=low:high:log`` for
        a range on a logarithmic scale; ``name=low:high:step`` for a range in steps;
        ``name=a,b,c`` for a choice.

    Returns
    -------
    dict of str to optuna.distributions.BaseDistribution
        By the name as it was written.

    Raises
    ------
    ImportError
        Optuna is not installed.
    ValueError
        A text cannot be read, or a parameter occurs twice.

    Examples
    --------
    >>> list(read_space(["lr=1e-5:1e-2:log", "backbone=densenet169,resnet50"]))
    ['lr', 'backbone']
    """
    space: dict[str, Any] = {}
    for text in texts:
        name, _, values = text.partition("=")
        if not (name.isidentifier() and values):
            raise _unreadable(text, "a name and values, joined by =, are needed")
        if SHORT.get(name, name) in parameters_of(space):
            raise _unreadable(text, f"{name} occurs twice")
        try:
            space[name] = _distribution(values)
        except ValueError as error:
            raise _unreadable(text, error) from error
    if not space:
        raise _unreadable("", "it is empty")
    return space


def parameters_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a trial by the names of `MuraClassifier`'s parameters.

    Parameters
    ----------
    values : dict of str to object
        By the names of the space.

    Returns
    -------
    dict of str to object

    Examples
    --------
    >>> parameters_of({"lr": 1e-4, "backbone": "resnet50"})
    {'lr': 0.0001, 'module__backbone': 'resnet50'}
    """
    return {SHORT.get(name, name): value for name, value in values.items()}


def _distribution(text):
    """Return the distribution that the values of a parameter stand for."""
    distributions = import_optuna().distributions
    parts = text.split(":")
    ends = [_number(part) for part in parts[:2]]
    if len(parts) not in (2, 3) or None in ends:  # timm:resnet10t is no range
        return distributions.CategoricalDistribution([_value(part) for part in text.split(",")])
    scale = parts[2] if len(parts) == 3 else ""
    step = _number(scale)
    if scale not in ("", "log") and step is None:
        raise ValueError(f"a range ends in log, in a step or in nothing, not in {scale}")
    is_whole = all(isinstance(number, int) for number in [*ends, step or 1])
    if is_whole:
        kind = distributions.IntDistribution
        return kind(*ends, log=scale == "log", step=step or 1)
    return distributions.FloatDistribution(*map(float, ends), log=scale == "log", step=step)


def _number(text):
    """Return the number that a text is, or None."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _value(text):
    """Return a number, True, False, None or else the text itself."""
    if not text.strip():
        raise ValueError("a value is missing")
    try:
        value = ast.literal_eval(text.strip())
    except (SyntaxError, ValueError):
        return text.strip()
    return value if isinstance(value, PLAIN) else text.strip()


def _unreadable(text, reason):
    return ValueError(
        f"expected --space with parameters such as {EXAMPLE}, got {printable(text) or 'none'}: "
        f"{printable(reason)}"
    )
