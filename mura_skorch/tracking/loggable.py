"""Loggable values: what somebody logs goes in, what MLflow stores and others may read comes out."""

import hashlib
import math
import os
import re
from numbers import Real
from pathlib import Path

__all__ = ["is_finite", "metric_name", "param_name", "param_value", "plain", "without_folder"]

LONGEST_NAME, LONGEST_VALUE = 250, 6000  # characters of a parameter that MLflow takes


def is_finite(value: object) -> bool:
    """Return whether a value is a number that MLflow can store as it is."""
    return isinstance(value, Real) and math.isfinite(value)


def plain(value):
    """Return a value that says the same after a stay in a file."""
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def without_folder(value):
    """Return the last name of a path, or of a text that is one on this machine."""
    is_text = isinstance(value, str) and (os.path.isabs(value) or os.path.exists(value))
    return Path(value).absolute().name if is_text or isinstance(value, Path) else value


def param_name(name):
    """Return the name as MLflow takes it; of a long one the end is a digest."""
    return _cut(metric_name(str(name)), LONGEST_NAME)


def param_value(value):
    """Return a value as MLflow takes it: of a path the last name; a long text ends in a digest."""
    found = plain(without_folder(value))
    return _cut(found, LONGEST_VALUE) if isinstance(found, str) else found


def _cut(text, longest):
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{text[: longest - 12]}... {digest}"


def metric_name(name):
    """Return the name with what MLflow does not allow replaced."""
    return re.sub(r"[^/\w.\- :]", "_", name)
