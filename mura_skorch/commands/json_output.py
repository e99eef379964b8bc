"""Print the result of a command as one JSON object, for another program to read."""

import json
import math
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import wraps
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["plain_value", "with_json"]


def with_json(main: Callable[[Namespace, dict[str, Any]], int]) -> Callable[[Namespace], int]:
    """Return the function of a command that obeys ``--json``.

    Parameters
    ----------
    main : callable
        Takes the arguments and a dict, which it fills with its results, and returns the exit
        status. What it prints goes to stderr with ``--json``.

    Returns
    -------
    callable
        Takes the arguments alone.
    """

    @wraps(main)
    def run(args: Namespace) -> int:
        result: dict[str, Any] = {}
        if not vars(args).pop("json", False):
            return main(args, result)
        with redirect_stdout(sys.stderr):
            status = main(args, result)
        print(json.dumps(plain_value(result), indent=2, allow_nan=False))
        return status

    return run


def plain_value(value: Any) -> Any:
    """Return a value in the types of JSON.

    Parameters
    ----------
    value : object
        Tables become lists of rows; NaN, infinite and missing values None; other objects texts.

    Examples
    --------
    >>> plain_value({"kappa": np.float64("nan"), "rows": pd.DataFrame({"n": [1]})})
    {'kappa': None, 'rows': [{'n': 1}]}
    """
    if isinstance(value, pd.DataFrame):
        return plain_value(value.to_dict("records"))
    if isinstance(value, Mapping):
        return {str(key): plain_value(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain_value(value.tolist())
    if isinstance(value, list | tuple):
        return [plain_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return None if pd.isna(value) else str(value)
