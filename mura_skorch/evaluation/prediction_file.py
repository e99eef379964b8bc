"""Read predictions of any model from a CSV or parquet file."""

import os
from collections.abc import Sequence

import pandas as pd

from mura_skorch.evaluation.predictions import check_columns
from mura_skorch.studies.columns import COLUMNS
from mura_skorch.studies.labels import with_names
from mura_skorch.studies.table_file import TableFile, cell_text, with_type

__all__ = ["read_predictions"]

SCORES = ("score", "y_score")
NUMBERS = ("n_views", "mean_intensity", "height", "width", "threshold")
KNOWN = (*COLUMNS, *SCORES, *NUMBERS, "split", "note", "chosen_by")


def read_predictions(
    path: str | os.PathLike[str],
    *,
    threshold: float | None = None,
    split: str | None = None,
    keep: Sequence[str] = (),
) -> pd.DataFrame:
    r"""Read the predictions of any model, in the form of a prediction table.

    Parameters
    ----------
    path : path or address
        A CSV or parquet file with a row per study and the columns ``study``, ``study_type``,
        ``patient``, ``label`` (0 or normal, 1 or abnormal, empty unlabelled) and ``y_score`` or
        ``score``, the probability of abnormality. It may have ``threshold``, and for the analysis
        of shortcuts ``n_views``, ``mean_intensity``, ``height`` and ``width``.
    threshold : float, optional
        A study is called abnormal above it. None takes the column ``threshold``, or else 0.5.
    split : str, optional
        Take only the rows with this value in the column ``split``.
    keep : sequence of str, default=()
        Further columns that must be there, such as readers' labels.

    Returns
    -------
    DataFrame of n_studies rows
        With ``score``, ``threshold`` and ``decision``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        A column is missing, a cell is invalid, a study occurs twice, or no row has that split.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("study,study_type,patient,label,y_score\ns1,XR_HAND,7,abnormal,0.8\n")
    ...     file.flush()
    ...     read_predictions(file.name)
      study study_type patient  label  score  threshold  decision
    0    s1    XR_HAND       7      1    0.8        0.5         1
    """
    file = TableFile(path)
    rows = with_names(file.read(tuple(COLUMNS)), KNOWN)
    column = next((name for name in SCORES if name in rows), "y_score")
    file.check_columns(rows, (*COLUMNS, column))
    check_columns(rows, keep)
    for name in ("study", "study_type", "patient"):
        rows[name] = file.texts(rows[name])
    again = rows["study"].duplicated()
    if again.any():
        number = again.idxmax()
        got = f"{cell_text(rows['study'][number])} again"
        raise file.error(number, "study", "each study once", got, "remove one of the rows")
    rows["label"] = file.labels(rows["label"])
    remedy = "a logit becomes one by 1 / (1 + exp(-logit))"
    rows[column] = _numbers(file, rows[column], "a probability between 0 and 1", remedy, (0, 1))
    for name in NUMBERS:
        if name in rows:
            rows[name] = _numbers(file, rows[name], "a number", "correct it")
    for name in rows if file.is_csv else ():
        if name not in KNOWN:
            rows[name] = with_type(rows[name])
    if split is not None:
        check_columns(rows, ["split"])
        if not rows["split"].eq(split).any():
            found = ", ".join(sorted(map(str, rows["split"].dropna().unique()))) or "none"
            raise ValueError(f"{file.shown}: expected a split among {found}, got {split!r}")
        rows = rows[rows["split"].eq(split)]
    table = rows.rename(columns={column: "score"}).reset_index(drop=True)
    if threshold is not None:
        table["threshold"] = threshold
    elif "threshold" not in table:
        table["threshold"] = 0.5
    decision = (table["score"] > table["threshold"]).astype("Int8")
    table["decision"] = decision.mask(table["score"].isna())
    return table


def _numbers(file, column, expected, remedy, limits=(-float("inf"), float("inf"))):
    """Return a column of numbers; raise if a cell is none or outside of the limits."""
    numbers = pd.to_numeric(column, errors="coerce")
    wrong = column.notna() & ~numbers.between(*limits)
    if wrong.any():
        number = wrong.idxmax()
        raise file.error(number, column.name, expected, cell_text(column[number]), remedy)
    return numbers.astype(float)
