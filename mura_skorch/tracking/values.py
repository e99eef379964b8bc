"""Names and values in the form that MLflow accepts, without paths of this machine."""

import hashlib
import math
import os
import re
from numbers import Real
from pathlib import Path

__all__ = ["is_finite", "metric_name", "param_name", "param_value", "without_folder"]

LONGEST_NAME, LONGEST_VALUE = 250, 6000  # characters of a parameter, MLflow's limits


def is_finite(value: object) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, Real) and math.isfinite(value)


def without_folder(value):
    """Return the last name of a path, or of a text that is a path on this machine."""
    is_path = isinstance(value, str) and (os.path.isabs(value) or os.path.exists(value))
    return Path(value).absolute().name if is_path or isinstance(value, Path) else value


def metric_name(name: str) -> str:
    """Return a name whose characters MLflow allows."""
    return re.sub(r"[^/\w.\- :]", "_", name)


def param_name(name: object) -> str:
    """Return the name of a parameter; the end of a long one is replaced by a digest."""
    return _cut(metric_name(str(name)), LONGEST_NAME)


def param_value(value):
    """Return a JSON value; a path becomes its last name, the end of a long text a digest."""
    found = without_folder(value)
    if isinstance(found, bool | int | float | None):
        return found
    return _cut(str(found), LONGEST_VALUE)


def _cut(text, longest):
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{text[: longest - 12]}... {digest}"
