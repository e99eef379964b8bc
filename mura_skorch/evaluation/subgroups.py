"""Breakdown: predictions and the name of any column in, scores of the studies of each value out."""

import warnings

import numpy as np
import pandas as pd

from mura_skorch.evaluation.predictions import check_columns, scored_rows
from mura_skorch.metrics import study_scores

__all__ = ["scores_by"]

MISSING = "missing"
MAX_VALUES = 20  # distinct values of a column that still read as groups


def scores_by(
    predictions: pd.DataFrame,
    column: str,
    *,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Scores of the studies of each value of a column, such as site, scanner, sex or age group.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with `label`, `score` and the column; `study_type`, `patient` and
        `threshold` are used where they are there. Studies without a label or a score are left out.
    column : str
        What to split by. Missing values form a group of their own, "missing".
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        Columns `by` (the column's name), `value` (as text), then those of
        :func:`mura_skorch.metrics.study_scores`: for each value a row per study type that it has
        and one overall. Values in their own order (that of the categories, of the numbers, of the
        alphabet), "missing" last.

    Raises
    ------
    ValueError
        If a column is missing, or has more than `MAX_VALUES` distinct values.

    Notes
    -----
    Each interval stands for itself. The more groups there are, the more often one of them differs
    from the rest, or its interval misses the truth, by chance: a difference that was not expected
    is a question to ask of other studies.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.subgroups import scores_by
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "label": [0, 1, 0, 1, 0, 1],
    ...         "score": [0.2, 0.8, 0.4, 0.9, 0.6, 0.3],
    ...         "site": ["north", "north", "north", "north", None, None],
    ...     }
    ... )
    >>> scores_by(predictions, "site")[["value", "n", "auroc"]]
         value  n  auroc
    0    north  4    1.0
    1  missing  2    0.0
    """
    check_columns(predictions, ["label", "score", column])
    used = scored_rows(predictions)
    values = used[column].dropna()
    n_values = values.nunique()
    if n_values > MAX_VALUES:
        remedy = "map the rare ones to one name"
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
            remedy = f"bin them, as in predictions[{column!r}] = pandas.cut(..., 4)"
        raise ValueError(
            f"expected at most {MAX_VALUES} different values of {column} to score by, got "
            f"{n_values}; {remedy}"
        )
    blocks = [(str(value), used[used[column] == value]) for value in _in_order(values)]
    if len(values) < len(used):
        blocks.append((MISSING, used[used[column].isna()]))
    if not blocks:
        blocks = [(MISSING, used)]
    tables = []
    for value, block in blocks:
        with warnings.catch_warnings():
            # The ends of the interval say it.
            warnings.filterwarnings("ignore", "zero width", RuntimeWarning)
            scores = study_scores(
                block["label"].astype(int),
                block["score"],
                study_type=block.get("study_type"),
                groups=block.get("patient"),
                threshold=block.get("threshold", 0.5),
                n_resamples=n_resamples,
                random_state=random_state,
            )
        scores.insert(0, "value", value)
        scores.insert(0, "by", column)
        tables.append(scores)
    return pd.concat(tables, ignore_index=True)


def _in_order(values):
    """Return the distinct values in the order that a person expects."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return list(values.cat.remove_unused_categories().cat.categories)
    distinct = values.unique()
    try:
        return sorted(distinct)
    except TypeError:  # numbers and texts in one column
        return sorted(distinct, key=str)
