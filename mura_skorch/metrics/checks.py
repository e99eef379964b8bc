"""Validate labels, scores, thresholds and study types, and return them as arrays."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def check_binary(values: ArrayLike, name: str) -> np.ndarray:
    """Return labels as an int64 array of 0 and 1."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"expected {name} of one dimension, got shape {array.shape}")
    wrong = ~pd.Series(array, dtype=object).isin([0, 1]).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected {name} to be 0 (normal) or 1 (abnormal), got {array.tolist()[row]!r} in row "
            f"{row}; leave out unlabelled studies, and apply a threshold to probabilities"
        )
    return array.astype(np.int64)


def check_scores(values: ArrayLike, name: str = "y_score") -> np.ndarray:
    """Return probabilities as a float64 array."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise ValueError(
            f"expected {name} of one dimension, got shape {array.shape}; "
            "take the column of the abnormal class, predict_proba(...)[:, 1]"
        )
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected {name} to be probabilities in [0, 1], got {float(array[row])} in row "
            f"{row}; pass probabilities instead of logits, and look for NaN in the views"
        )
    return array


def check_threshold(values: ArrayLike, n: int) -> np.ndarray:
    """Return thresholds as a float64 array of shape (n,)."""
    array = np.asarray(values, dtype=float)
    if array.ndim and array.shape != (n,):
        raise ValueError(
            f"expected one threshold or one for each of the {n} rows, got shape {array.shape}"
        )
    array = np.broadcast_to(array, n)
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected a threshold in [0, 1], got {float(array[row])} in row {row}; "
            "thresholds are probabilities, such as 0.5"
        )
    return array


def check_lengths(**columns: Any) -> None:
    """Raise a ValueError unless all columns that are not None have the same length."""
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"expected one entry per study, got lengths {got}; align them first")


def encode(values: ArrayLike, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return integer codes and the distinct values, sorted as text; raise if one is missing.

    They are sorted so that the order of the rows does not change what a seed draws.
    """
    codes, distinct = pd.factorize(np.asarray(values, dtype=object))
    if (codes < 0).any():
        raise ValueError(
            f"expected {name} without missing values, got one in row {int(np.argmin(codes))}; "
            "fill it in or leave out that row"
        )
    order = np.argsort(distinct.astype(str), kind="stable")
    return np.argsort(order)[codes], distinct[order]
