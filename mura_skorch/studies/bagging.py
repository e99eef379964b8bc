"""Arrays: a study table that has lost its column names goes in, the table comes out.

scikit-learn's ``BaggingClassifier`` turns every table into an array of objects.
"""

from itertools import chain, combinations

import numpy as np
import pandas as pd

__all__ = ["as_table"]

# Columns and order of `read_studies`. Those outside KEY may be missing.
COLUMNS = ("study", "split", "study_type", "patient", "views", "label", "note")
KEY = ("study", "study_type", "patient", "views")


def as_table(X):
    """Give a study table that has become an array its column names back.

    A column put down as ``patient`` that holds something else would let patients straddle a
    split, so nothing is guessed: the columns must stand in the order of `read_studies`, and
    ``split``, ``study_type`` and ``patient`` must agree with the study's key in every row.

    Parameters
    ----------
    X : ndarray of shape (n_studies, n_columns), object, or anything else
        The columns ``study``, ``split``, ``study_type``, ``patient``, ``views``, ``label`` and
        ``note`` in this order, of which ``split``, ``label`` and ``note`` may be missing.

    Returns
    -------
    DataFrame of n_studies rows
        With a new index, and with the column ``draw``, which numbers the repeats of a study from
        1, where there are any: nobody writes an array by hand, so that what is repeated in it was
        drawn, as bootstraps do it. `X` itself where it is no such array.

    Raises
    ------
    TypeError
        The columns cannot be told from each other.
    """
    if not isinstance(X, np.ndarray) or X.dtype != object or X.ndim != 2 or len(X) == 0:
        return X
    optional = [name for name in COLUMNS if name not in KEY]
    left_out = chain.from_iterable(combinations(optional, n) for n in range(len(optional) + 1))
    layouts = ([name for name in COLUMNS if name not in out] for out in left_out)
    found = [names for names in layouts if len(names) == X.shape[1] and _agrees(X, names)]
    if len(found) != 1:
        raise TypeError(
            "expected a DataFrame with one row per study, got an array of shape "
            f"{X.shape}, whose columns have no names, as BaggingClassifier makes it of a table. "
            f"Give it a table with the columns {', '.join(COLUMNS)}, in this order, of which "
            f"{', '.join(optional)} may be missing, and with study as "
            "<split>/<study type>/<patient>/<name>: studies[[...]]"
        )
    table = pd.DataFrame(X, columns=found[0])
    if table["study"].duplicated().any():
        table["draw"] = table.groupby("study").cumcount() + 1
    return table


def _agrees(X, names):
    """Return whether the cells of an array can be what the names say."""
    columns = dict(zip(names, X.T, strict=True))
    keys = [key.split("/") if isinstance(key, str) else () for key in columns["study"]]
    if any(len(key) != 4 for key in keys):
        return False
    parts = dict(zip(("split", "study_type", "patient"), zip(*keys, strict=True), strict=False))
    return (
        all(list(columns[name]) == list(part) for name, part in parts.items() if name in columns)
        and all(isinstance(cell, tuple | list) for cell in columns["views"])
        and all(pd.isna(cell) or cell in (0, 1) for cell in columns.get("label", ()))
        and all(isinstance(cell, str) for cell in columns.get("note", ()))
    )
