"""Score a triage: what it leaves to a reader, and the error rates of what it decides."""

import numpy as np
import pandas as pd

from mura_skorch.evaluation.predictions import check_columns, scored_rows
from mura_skorch.metrics import OVERALL
from mura_skorch.metrics.intervals import wilson
from mura_skorch.metrics.tables import FEW_PATIENTS
from mura_skorch.studies.columns import TRIAGE
from mura_skorch.utils.identity import count_patients
from mura_skorch.utils.text import interval_text, number_text

__all__ = ["doubt_table", "share_interval", "triage_scores", "triage_table"]

NORMAL, ABNORMAL, LOOK = TRIAGE
SHARES = ("look_yourself", "called_normal_of_abnormal", "called_abnormal_of_normal")


def triage_scores(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return how a triage did on labelled studies, by study type and over all.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with ``study_type``, ``label``, ``score``, ``triage`` and
        ``triage_error_rate``, and ``patient`` if known. Studies without a label or a score are left
        out.

    Returns
    -------
    DataFrame
        One row per study type, sorted, and a last one "overall". ``n``, ``n_patients``;
        ``error_rate``, the promise; ``n_abnormal`` and ``n_normal``, studies by label;
        ``n_called_normal`` and, of these, ``n_false_negatives``; ``n_called_abnormal`` and, of
        these, ``n_false_positives``; ``n_look_yourself``. Then shares, each with its 95 % interval
        in ``_low`` and ``_high``, NaN without such studies: ``look_yourself`` of all studies,
        ``called_normal_of_abnormal`` and ``called_abnormal_of_normal``. ``caution`` is
        "fewer than 50 patients of a label" or "".

    Raises
    ------
    ValueError
        A column is missing.

    Notes
    -----
    Intervals are those of `share_interval`, with the number of patients as the number of cases. A
    bootstrap over patients would give a width of zero where no error was seen, which is what a
    triage aims at.

    Examples
    --------
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "study_type": ["XR_HAND"] * 4,
    ...         "label": [0, 0, 1, 1],
    ...         "score": [0.1, 0.5, 0.2, 0.9],
    ...         "triage": ["normal", "look yourself", "normal", "abnormal"],
    ...         "triage_error_rate": 0.05,
    ...     }
    ... )
    >>> triage_scores(predictions)[["study_type", "n", "look_yourself"]]
      study_type  n  look_yourself
    0    XR_HAND  4           0.25
    1    overall  4           0.25
    """
    check_columns(predictions, ["study_type", "label", "score", "triage", "triage_error_rate"])
    used = scored_rows(predictions)
    parts = [(name, used[used["study_type"] == name]) for name in sorted(set(used["study_type"]))]
    return pd.DataFrame(
        {"study_type": name} | _row(part) for name, part in [*parts, (OVERALL, used)]
    )


def share_interval(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share, with a number of independent cases.

    Parameters
    ----------
    share : float
        In [0, 1].
    n : int
        Number of cases. Where studies of a patient resemble each other, pass the number of
        patients: the interval is then right if they are equal and too wide if they are not.

    Returns
    -------
    low, high : float
        NaN if there is no case.

    References
    ----------
    .. [1] Wilson, "Probable inference, the law of succession, and statistical inference", Journal
       of the American Statistical Association 22, 1927.

    Examples
    --------
    >>> [round(end, 3) for end in share_interval(0.0, 60)]
    [0.0, 0.06]
    """
    return wilson(share * n, n)


def triage_table(scores: pd.DataFrame) -> pd.DataFrame:
    """Format what `triage_scores` returns as a table of text.

    Parameters
    ----------
    scores : DataFrame
        What `triage_scores` returns.

    Returns
    -------
    DataFrame
        Every cell is a str.
    """
    rows = []
    for row in scores.to_dict("records"):
        look, negative, positive = (
            interval_text(row[name], row[f"{name}_low"], row[f"{name}_high"]) for name in SHARES
        )
        fn, fp = row["n_false_negatives"], row["n_false_positives"]
        rows.append(
            {
                "study type": row["study_type"],
                "studies": f"{row['n']:,}",
                "look yourself": look,
                "abnormal called normal": f"{negative}\n{fn} of {row['n_abnormal']}",
                "normal called abnormal": f"{positive}\n{fp} of {row['n_normal']}",
                "called normal": f"{row['n_called_normal']}, {fn} abnormal",
                "called abnormal": f"{row['n_called_abnormal']}, {fp} normal",
            }
        )
    return pd.DataFrame(rows)


def doubt_table(predictions: pd.DataFrame, *, unlike_percentile: float) -> pd.DataFrame:
    """Return, for each answer of a triage, how many signs of doubt a reader should see, as text.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with ``triage``, ``view_disagreement`` and, if it was measured,
        ``training_percentile``.
    unlike_percentile : float
        Percentile of the training distance beyond which a study is unlike the training studies.

    Returns
    -------
    DataFrame
        One row per answer; every cell is a str.
    """
    rows = []
    for answer in TRIAGE:
        own = predictions[predictions["triage"] == answer]
        spread = own["view_disagreement"].dropna()
        row = {
            "answer": answer,
            "studies": f"{len(own):,}",
            "median disagreement of views": number_text(spread.median()),
            "views further apart than .5": f"{int((spread > 0.5).sum())} of {len(spread)}",
        }
        if "training_percentile" in own:
            n_unlike = int((own["training_percentile"] > unlike_percentile).sum())
            row["unlike the training studies"] = f"{n_unlike:,}"
        rows.append(row)
    return pd.DataFrame(rows)


def _row(part):
    """Return the counts and shares of the studies of one type."""
    answer, label = part["triage"], part["label"].astype(int)
    counts = {
        name: int((answer == word).sum())
        for name, word in zip(
            ("n_called_normal", "n_called_abnormal", "n_look_yourself"), TRIAGE, strict=True
        )
    }
    is_false_negative = (answer == NORMAL) & (label == 1)
    is_false_positive = (answer == ABNORMAL) & (label == 0)
    row = {
        "n": len(part),
        "n_patients": _n_patients(part),
        "error_rate": float(part["triage_error_rate"].max()) if len(part) else np.nan,
        "n_abnormal": int((label == 1).sum()),
        "n_normal": int((label == 0).sum()),
        **counts,
        "n_false_negatives": int(is_false_negative.sum()),
        "n_false_positives": int(is_false_positive.sum()),
    }
    wholes = (part, part[label == 1], part[label == 0])
    for name, hit, whole in zip(
        SHARES, (answer == LOOK, is_false_negative, is_false_positive), wholes, strict=True
    ):
        share = float(hit.sum()) / len(whole) if len(whole) else np.nan
        low, high = share_interval(share, _n_patients(whole))
        row |= {name: share, f"{name}_low": low, f"{name}_high": high}
    few = min(map(_n_patients, wholes[1:])) < FEW_PATIENTS
    return row | {"caution": f"fewer than {FEW_PATIENTS} patients of a label" if few else ""}


def _n_patients(part):
    """Return the number of patients, or of studies where patients are not known."""
    return count_patients(part["patient"]) if "patient" in part else len(part)
