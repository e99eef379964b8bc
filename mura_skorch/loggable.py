"""Loggable values: what somebody logs goes in, what MLflow stores and others may read comes out."""

import math
import os
import re
from numbers import Real
from pathlib import Path

__all__ = ["is_finite", "metric_name", "plain", "without_folder"]


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


def metric_name(name):
    """Return the name with what MLflow does not allow replaced."""
    return re.sub(r"[^/\w.\- :]", "_", name)
