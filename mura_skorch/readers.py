"""Readers and groups: predictions with further columns in, kappas and scores by column out."""

import warnings

import numpy as np
import pandas as pd

from mura_skorch.metrics import kappa_interval, study_scores
from mura_skorch.metrics.tables import type_parts
from mura_skorch.texts import interval_text

__all__ = ["reader_kappas", "scores_by", "wide_kappas"]

MODEL = "model"
MISSING = "missing"
MAX_VALUES = 20  # distinct values of a column that still read as groups


def reader_kappas(predictions, readers, *, gold=None, n_resamples=2000, random_state=0):
    """Kappa of each reader and of the model, per study type and overall, as in the paper's Table 2.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with the readers' columns; `decision`, where it is there, is the model's
        label, `patient` what is resampled as a whole, `study_type` what the rows are split by.
    readers : list of str
        Columns with the readers' labels: 1 abnormal, 0 normal, missing where one has not read.
    gold : str or None, default=None
        Column with the labels to hold all against. None: each reader is held against the majority
        of the *other* readers, the model against the majority of all.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        Columns `study_type`, `reader` (a column's name, or "model"), `n` (studies that the reader
        and the reference have labelled), `n_tied`, `kappa`, `low`, `high`, `reference` (in words)
        and `undefined` (the reason where one of the three is NaN, else ""). Rows in the sorted
        order of the types, then "overall"; in each the readers as given, then the model.

    Raises
    ------
    ValueError
        If a column is missing, holds something other than 0, 1 and missing values, a reader is
        called "model", or there is one reader and no gold column.

    Notes
    -----
    A majority is that of the labels there are, more than half of them. Where as many say abnormal
    as normal there is none: such studies are left out and counted in `n_tied`. With two others, as
    with three readers, that is whenever these disagree, which leaves the easier studies. Without
    `gold` the references differ between rows, and a reader is not measured against what the model
    is measured against.

    Intervals are percentiles over resamples of whole patients, 95 %. One without width (low equal
    to high) says nothing about certainty.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.readers import reader_kappas
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "decision": [1, 0, 1, 0, 1, 0],
    ...         "ann": [1, 0, 1, 0, 1, 1],
    ...         "bob": [1, 0, 1, 0, 0, 0],
    ...         "cem": [1, 0, 1, 1, 1, 0],
    ...     }
    ... )
    >>> kappas = reader_kappas(predictions, ["ann", "bob", "cem"])
    >>> kappas[["reader", "n", "n_tied", "kappa"]]
      reader  n  n_tied  kappa
    0    ann  4       2    0.5
    1    bob  4       2    0.5
    2    cem  4       2    0.5
    3  model  6       0    1.0
    """
    readers = list(readers)
    columns = readers + ([gold] if gold is not None else [])
    _check_readers(predictions, readers, columns)
    marks = pd.DataFrame({name: _marks(predictions, name) for name in columns})
    pairs = {}
    for reader in readers:
        others = [gold] if gold is not None else [name for name in readers if name != reader]
        words = gold if gold is not None else "majority of the other readers"
        pairs[reader] = (marks[reader], *_majority(marks[others]), words)
    if "decision" in predictions:
        words = gold if gold is not None else "majority of all readers"
        majority = _majority(marks[[gold] if gold is not None else readers])
        pairs[MODEL] = (_marks(predictions, "decision"), *majority, words)
    patients = predictions["patient"].to_numpy() if "patient" in predictions else None
    rows = []
    for study_type, part in type_parts(predictions.get("study_type"), len(predictions)).items():
        for reader, (mark, reference, tied, words) in pairs.items():
            used = part & mark.notna().to_numpy() & reference.notna().to_numpy()
            found = _kappa(
                reference[used],
                mark[used],
                patients[used] if patients is not None else None,
                n_resamples,
                random_state,
            )
            rows.append(
                {
                    **{"study_type": study_type, "reader": reader, "n": int(used.sum())},
                    "n_tied": int((part & mark.notna().to_numpy() & tied.to_numpy()).sum()),
                    **{"kappa": found.kappa, "low": found.low, "high": found.high},
                    **{"reference": words, "undefined": _reason(found, used.sum())},
                }
            )
    return pd.DataFrame(rows)


def wide_kappas(kappas):
    """Kappas of readers as the paper prints them: a row per study type, a column per reader.

    Parameters
    ----------
    kappas : DataFrame
        What :func:`reader_kappas` returns.

    Returns
    -------
    DataFrame
        Texts such as ".705 (.608, .803)", "n/a" where undefined; index `study_type`. The highest
        kappa of a row ends in " *", several where they are equal.

    Raises
    ------
    ValueError
        If a column is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.readers import wide_kappas
    >>> row = {"study_type": "overall", "low": 0.3, "high": 0.7}
    >>> kappas = pd.DataFrame([row | {"reader": "ann", "kappa": 0.5}, row | {"reader": "model"}])
    >>> wide_kappas(kappas).to_dict("list")
    {'ann': ['.500 (.300, .700) *'], 'model': ['n/a']}
    """
    needed = ["study_type", "reader", "kappa", "low", "high"]
    if missing := [name for name in needed if name not in kappas]:
        raise ValueError(
            f"expected columns {', '.join(missing)}, got {', '.join(map(str, kappas.columns))}; "
            "pass what reader_kappas returns"
        )
    best = kappas["kappa"] == kappas.groupby("study_type", sort=False)["kappa"].transform("max")
    texts = [
        interval_text(*row) + " *" * mark
        for *row, mark in zip(kappas["kappa"], kappas["low"], kappas["high"], best, strict=True)
    ]
    rows = kappas.assign(text=texts).pivot_table(
        **{"index": "study_type", "columns": "reader", "values": "text"},
        **{"aggfunc": "first", "sort": False},
    )
    return rows.astype(object)


def scores_by(predictions, column, *, n_resamples=2000, random_state=0):
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

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.readers import scores_by
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
    _check_columns(predictions, ["label", "score", column])
    used = predictions[predictions["label"].notna() & predictions["score"].notna()]
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


def _check_columns(predictions, names):
    if missing := [name for name in names if name not in predictions]:
        raise ValueError(
            f"expected columns {', '.join(map(str, missing))} in the predictions, got "
            f"{', '.join(map(str, predictions.columns))}; check the names, or name them in keep "
            "when the table is made"
        )


def _check_readers(predictions, readers, columns):
    _check_columns(predictions, columns)
    if MODEL in readers:
        raise ValueError(
            f"expected readers other than {MODEL!r}, which names the model's rows; rename it"
        )
    if len(set(readers)) < len(readers) or not readers:
        raise ValueError(f"expected at least one reader, each once, got {readers}")
    if len(readers) == 1 and columns == readers:
        raise ValueError(
            f"expected at least two readers, or a gold column, got {readers} alone; one reader "
            "has no others to be held against: pass gold"
        )


def _marks(predictions, name):
    """Return labels as floats, NaN where there is none."""
    column = predictions[name]
    wrong = (column.notna() & ~column.isin([0, 1])).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected {name} to be 0 (normal), 1 (abnormal) or missing, got "
            f"{column.tolist()[row]!r} in row {row}; map the reader's words to these"
        )
    return column.astype("Float64").astype(float)


def _majority(marks):
    """Return the label of more than half of the marks, NaN without one, and where it is a tie."""
    share = marks.mean(axis=1)
    tied = share == 0.5
    return (share > 0.5).astype(float).where(share.notna() & ~tied), tied


def _kappa(reference, mark, patients, n_resamples, random_state):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "zero width", RuntimeWarning)
        return kappa_interval(
            reference.astype(int),
            mark.astype(int),
            method="bootstrap",
            groups=patients,
            n_resamples=n_resamples,
            random_state=random_state,
        )


def _reason(found, n):
    """Return why kappa or its interval is NaN, or ""."""
    if not n:
        return "no studies"
    if np.isnan(found.kappa):
        return "both sides hold one and the same class"
    if np.isnan(found.low):
        return "no interval: one patient, or too few resamples have a kappa"
    return ""
