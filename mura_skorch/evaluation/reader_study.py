"""Reader study: Cohen's kappa of human readers and of the model."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mura_skorch.evaluation.predictions import check_columns
from mura_skorch.metrics import KappaInterval, kappa_interval
from mura_skorch.metrics.tables import type_parts
from mura_skorch.utils.text import interval_text

__all__ = ["reader_kappas", "wide_kappas"]

MODEL = "model"


def reader_kappas(
    predictions: pd.DataFrame,
    readers: Sequence[str],
    *,
    gold: str | None = None,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return kappa of each reader and of the model, as in the paper's Table 2.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with the readers' columns. Optional: `decision`, the label from the
        model; `patient`, the unit of resampling; `study_type`, to split the rows by.
    readers : list of str
        Columns with the readers' labels: 1 abnormal, 0 normal, missing if not read.
    gold : str or None, default=None
        Column with the reference labels. None compares each reader with the majority of the *other*
        readers, and the model with the majority of all.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        One row per study type (sorted, then "overall") and reader (as given, then "model"):

        - `study_type`, `reader`;
        - `n`, studies labelled by both the reader and the reference; `n_common`, those used in all
          rows of the type; `n_tied`, studies left out as ties;
        - `kappa`, `low`, `high`; and `model_kappa`, `model_low`, `model_high`, the model's on the
          same studies with the same reference, NaN without `decision`;
        - `reference`, its description; `undefined`, the reason if kappa or its interval is NaN,
          else "".

    Raises
    ------
    ValueError
        A column is missing or has values other than 0, 1 and missing; a reader is called "model"
        or is the gold column; or there is one reader and no gold column.

    Notes
    -----
    A majority is more than half of the available labels. Ties have none: such studies are left out
    and counted in `n_tied`. With three readers, two others remain, and every disagreement of these
    is a tie, so the remaining studies are easier. Without `gold`, readers and model have different
    references: compare a reader with `model_kappa` of the same row.

    Intervals are 95 % percentiles of a bootstrap over patients. An interval of zero width (low
    equal to high) does not mean certainty.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.reader_study import reader_kappas
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
    _check_readers(predictions, readers, gold, columns)
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
    counted = {
        reader: (mark.notna() & reference.notna()).to_numpy()
        for reader, (mark, reference, *_) in pairs.items()
    }
    common = np.all(list(counted.values()), axis=0)

    def kappa(reference, mark, used):
        groups = None if patients is None else patients[used]
        return _kappa(reference[used], mark[used], groups, n_resamples, random_state)

    rows = []
    for study_type, part in type_parts(predictions.get("study_type"), len(predictions)).items():
        for reader, (mark, reference, tied, words) in pairs.items():
            used = part & counted[reader]
            found = kappa(reference, mark, used)
            of_model = KappaInterval(np.nan, np.nan, np.nan)
            if MODEL in pairs:
                model = pairs[MODEL][0]
                of_model = kappa(reference, model, used & model.notna().to_numpy())
            rows.append(
                {
                    "study_type": study_type,
                    "reader": reader,
                    "n": int(used.sum()),
                    "n_common": int((part & common).sum()),
                    "n_tied": int((part & mark.notna().to_numpy() & tied.to_numpy()).sum()),
                    "kappa": found.kappa,
                    "low": found.low,
                    "high": found.high,
                    "model_kappa": of_model.kappa,
                    "model_low": of_model.low,
                    "model_high": of_model.high,
                    "reference": words,
                    "undefined": _reason(found, used.sum()),
                }
            )
    return pd.DataFrame(rows)


def wide_kappas(kappas: pd.DataFrame) -> pd.DataFrame:
    r"""Format kappas of readers as in the paper: a row per study type, a column per reader.

    Parameters
    ----------
    kappas : DataFrame
        What :func:`reader_kappas` returns.

    Returns
    -------
    DataFrame
        Texts such as ".705 (.608, .803)", "n/a" if undefined, with the numbers of studies and ties
        in a second line; index `study_type`. If all kappas of a row have the same reference and
        studies, the highest (or each of equal ones) ends in ``" *"``. Otherwise none is marked, and
        a third line has the model's kappa on the reader's studies.

    Raises
    ------
    ValueError
        A column is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.reader_study import reader_kappas, wide_kappas
    >>> predictions = pd.DataFrame({"gold": [0, 1, 0, 1], "ann": [0, 1, 0, 1], "bob": [0, 1, 1, 1]})
    >>> wide_kappas(reader_kappas(predictions, ["ann", "bob"], gold="gold")).loc["overall", "ann"]
    '1.000 (zero width) *\n4 studies'
    """
    needed = ["study_type", "reader", "n", "n_common", "n_tied", "kappa", "low", "high"]
    needed += ["model_kappa", "model_low", "model_high", "reference"]
    if missing := [name for name in needed if name not in kappas]:
        raise ValueError(
            f"expected columns {', '.join(missing)}, got {', '.join(map(str, kappas.columns))}; "
            "pass what reader_kappas returns"
        )
    types = kappas.groupby("study_type", sort=False)
    comparable = (kappas["n"] == kappas["n_common"]).groupby(kappas["study_type"]).transform("all")
    comparable &= types["reference"].transform("nunique") == 1
    best = comparable & (kappas["kappa"] == types["kappa"].transform("max"))
    table = kappas.assign(comparable=comparable, best=best)
    rows = table.assign(text=[_cell(row) for row in table.itertuples()]).pivot_table(
        index="study_type", columns="reader", values="text", aggfunc="first", sort=False
    )
    return rows.astype(object)


def _cell(row):
    """Format a kappa with its studies, and the model's kappa if the row is not comparable."""
    kappa = interval_text(row.kappa, row.low, row.high)
    studies = f"{row.n:,} {'study' if row.n == 1 else 'studies'}"
    if row.n_tied:
        studies += f", {row.n_tied:,} {'tie' if row.n_tied == 1 else 'ties'}"
    lines = [f"{kappa} *" if row.best else kappa, studies]
    if not row.comparable and row.reader != MODEL and pd.notna(row.model_kappa):
        lines.append(f"model {interval_text(row.model_kappa, row.model_low, row.model_high)}")
    return "\n".join(lines)


def _check_readers(predictions, readers, gold, columns):
    """Raise a ValueError if readers and gold column do not fit together."""
    check_columns(predictions, columns)
    if MODEL in readers:
        raise ValueError(
            f"expected no reader called {MODEL!r}, which names the model's rows; rename the column"
        )
    if gold in readers:
        raise ValueError(
            f"expected a gold column that is not a reader, got readers {', '.join(readers)} and "
            f"gold {gold}: a reader always agrees with itself; remove it from one of them"
        )
    if len(set(readers)) < len(readers) or not readers:
        raise ValueError(f"expected at least one reader, each once, got {readers}")
    if len(readers) == 1 and gold is None:
        raise ValueError(
            f"expected at least two readers, or a gold column, got only {readers[0]}; pass gold as "
            "the reference of a single reader"
        )


def _marks(predictions, name):
    """Return labels as floats, NaN if missing."""
    column = predictions[name]
    wrong = (column.notna() & ~column.isin([0, 1])).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected {name} to be 0 (normal), 1 (abnormal) or missing, got "
            f"{column.tolist()[row]!r} in row {row}; map the values to these"
        )
    return column.astype("Float64").astype(float)


def _majority(marks):
    """Return the majority label, NaN without one, and whether it is a tie."""
    share = marks.mean(axis=1)
    tied = share == 0.5
    return (share > 0.5).astype(float).where(share.notna() & ~tied), tied


def _kappa(reference, mark, patients, n_resamples, random_state):
    """Return kappa with its bootstrap interval, without a warning of zero width."""
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
        return "reader and reference have one and the same class"
    if np.isnan(found.low):
        return "no interval: one patient, or too few resamples have a kappa"
    return ""
