"""Readers: predictions with the labels of readers go in, kappas of readers and model come out."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mura_skorch.evaluation.predictions import check_columns
from mura_skorch.metrics import kappa_interval
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
        and the reference have labelled), `n_common` (those of them that count in every row of the
        type), `n_tied`, `kappa`, `low`, `high`; `model_kappa`, `model_low`, `model_high`, the
        model's on the same studies against the same reference, NaN without `decision`; `reference`
        (in words) and `undefined` (the reason where one of the first three is NaN, else ""). Rows
        in the sorted order of the types, then "overall"; in each the readers as given, then the
        model.

    Raises
    ------
    ValueError
        If a column is missing, holds something other than 0, 1 and missing values, a reader is
        called "model" or is the gold column, or there is one reader and no gold column.

    Notes
    -----
    A majority is that of the labels there are, more than half of them. Where as many say abnormal
    as normal there is none: such studies are left out and counted in `n_tied`. With two others, as
    with three readers, that is whenever these disagree, which leaves the easier studies. Without
    `gold` the references differ between rows, and a reader is not measured against what the model
    is measured against: compare it with `model_kappa` of its own row.

    Intervals are percentiles over resamples of whole patients, 95 %. One without width (low equal
    to high) says nothing about certainty.

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
            found, beside = kappa(reference, mark, used), (np.nan, np.nan, np.nan)
            if MODEL in pairs:
                model = pairs[MODEL][0]
                beside = kappa(reference, model, used & model.notna().to_numpy())
            rows.append(
                {
                    **{"study_type": study_type, "reader": reader, "n": int(used.sum())},
                    "n_common": int((part & common).sum()),
                    "n_tied": int((part & mark.notna().to_numpy() & tied.to_numpy()).sum()),
                    **{"kappa": found.kappa, "low": found.low, "high": found.high},
                    **dict(zip(("model_kappa", "model_low", "model_high"), beside, strict=True)),
                    **{"reference": words, "undefined": _reason(found, used.sum())},
                }
            )
    return pd.DataFrame(rows)


def wide_kappas(kappas: pd.DataFrame) -> pd.DataFrame:
    r"""Kappas of readers as the paper prints them: a row per study type, a column per reader.

    Parameters
    ----------
    kappas : DataFrame
        What :func:`reader_kappas` returns.

    Returns
    -------
    DataFrame
        Texts such as ".705 (.608, .803)", "n/a" where undefined, with the number of studies and of
        ties left out in a second line; index `study_type`. Where all of a row are held against one
        reference on the same studies, the highest kappa ends in ``" *"``, several where they
        are equal. Elsewhere none does, and a third line has the model's kappa on the reader's
        studies.

    Raises
    ------
    ValueError
        If a column is missing.

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
    alike = (kappas["n"] == kappas["n_common"]).groupby(kappas["study_type"]).transform("all")
    alike &= types["reference"].transform("nunique") == 1
    best = alike & (kappas["kappa"] == types["kappa"].transform("max"))
    table = kappas.assign(alike=alike, best=best)
    rows = table.assign(text=[_cell(row) for row in table.itertuples()]).pivot_table(
        index="study_type", columns="reader", values="text", aggfunc="first", sort=False
    )
    return rows.astype(object)


def _cell(row):
    """Return a kappa, of what it is, and where readers cannot be compared the model's beside."""
    ties = "" if not row.n_tied else f", {row.n_tied:,} {'tie' if row.n_tied == 1 else 'ties'}"
    lines = [
        interval_text(row.kappa, row.low, row.high) + " *" * row.best,
        f"{row.n:,} {'study' if row.n == 1 else 'studies'}{ties}",
    ]
    if not row.alike and row.reader != MODEL and pd.notna(row.model_kappa):
        lines.append(f"model {interval_text(row.model_kappa, row.model_low, row.model_high)}")
    return "\n".join(lines)


def _check_readers(predictions, readers, gold, columns):
    check_columns(predictions, columns)
    if MODEL in readers:
        raise ValueError(
            f"expected readers other than {MODEL!r}, which names the model's rows; rename it"
        )
    if gold in readers:
        raise ValueError(
            f"expected a gold column that is no reader's, got readers {', '.join(readers)}, and "
            f"{gold} is gold: held against itself, a reader is always right; leave it out of one"
        )
    if len(set(readers)) < len(readers) or not readers:
        raise ValueError(f"expected at least one reader, each once, got {readers}")
    if len(readers) == 1 and gold is None:
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
