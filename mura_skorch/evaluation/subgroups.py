"""Score subgroups: the studies of each site, scanner, sex or value of another column."""

import warnings

import numpy as np
import pandas as pd

from mura_skorch.evaluation.predictions import check_columns, scored_rows
from mura_skorch.metrics import study_scores

__all__ = ["subgroup_scores"]

MISSING = "missing"
MAX_VALUES = 20  # distinct values of a column that still make readable groups


def subgroup_scores(
    predictions: pd.DataFrame,
    column: str,
    *,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return the scores of each value of a column, such as site, scanner, sex or age group.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with `label`, `score`, the column and, optionally, `study_type`,
        `patient` and `threshold`. Studies without a label or a score are left out.
    column : str
        Column that defines the subgroups. Missing values form the group "missing".
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        Columns `by` (the column's name), `value` (as text), then those of
        :func:`mura_skorch.metrics.study_scores`: for each value one row per study type and one
        overall. Values are sorted (by category, by number or by alphabet), "missing" last.

    Raises
    ------
    ValueError
        A column is missing, or has more than `MAX_VALUES` distinct values.

    Notes
    -----
    Intervals are not adjusted for the number of groups. The more groups there are, the more often
    one of them differs from the rest by chance: check an unexpected difference on other studies.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.subgroups import subgroup_scores
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "label": [0, 1, 0, 1, 0, 1],
    ...         "score": [0.2, 0.8, 0.4, 0.9, 0.6, 0.3],
    ...         "site": ["north", "north", "north", "north", None, None],
    ...     }
    ... )
    >>> subgroup_scores(predictions, "site")[["value", "n", "auroc"]]
         value  n  auroc
    0    north  4    1.0
    1  missing  2    0.0
    """
    check_columns(predictions, ["label", "score", column])
    used = scored_rows(predictions)
    blocks = [(value, used[mask]) for value, mask in subgroup_masks(used, column)]
    tables = []
    for value, block in blocks:
        with warnings.catch_warnings():
            # The ends of the interval show it.
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


def subgroup_masks(used: pd.DataFrame, column: str) -> list[tuple[str, np.ndarray]]:
    """Return each value of a column as text, in order, with the rows that have it.

    Parameters
    ----------
    used : DataFrame of n_studies rows
        A prediction table with the column.
    column : str
        At most `MAX_VALUES` different values; missing values form the last group, "missing".

    Returns
    -------
    list of (str, ndarray of shape (n_studies,), bool)
        At least one.

    Raises
    ------
    ValueError
        The column has more values.
    """
    values = used[column].dropna()
    n_values = values.nunique()
    if n_values > MAX_VALUES:
        remedy = "map the rare ones to one name"
        if pd.api.types.is_numeric_dtype(values) or pd.api.types.is_datetime64_any_dtype(values):
            remedy = f"bin them, as in predictions[{column!r}] = pandas.cut(..., 4)"
        raise ValueError(
            f"expected at most {MAX_VALUES} different values of {column} as subgroups, got "
            f"{n_values}; {remedy}"
        )
    groups = [
        (str(value), (used[column] == value).fillna(False).to_numpy(dtype=bool))
        for value in _in_order(values)
    ]
    if len(values) < len(used) or not groups:
        groups.append((MISSING, used[column].isna().to_numpy()))
    return groups


def _in_order(values):
    """Return the distinct values in their natural order."""
    if isinstance(values.dtype, pd.CategoricalDtype):
        return list(values.cat.remove_unused_categories().cat.categories)
    distinct = values.unique()
    try:
        return sorted(distinct)
    except TypeError:  # numbers and texts in one column
        return sorted(distinct, key=str)
