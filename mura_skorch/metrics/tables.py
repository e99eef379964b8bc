"""Table of scores: columns of labels and scores in, one row of figures with intervals per type out.

The documentation is with the public functions, `metrics.study_scores` and `metrics.view_scores`.
"""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from mura_skorch.identity import patient_codes
from mura_skorch.metrics.checks import (
    check_binary,
    check_lengths,
    check_scores,
    check_threshold,
    encode,
)
from mura_skorch.metrics.intervals import (
    METHODS,
    RankedScores,
    accuracy_of,
    bootstrap_counts,
    confusion_counts,
    draw_groups,
    f1_of,
    kappa_with_ends,
    percentiles,
    wilson,
)

METRICS = (
    *("kappa", "auroc", "average_precision", "sensitivity", "specificity", "ppv", "npv"),
    *("accuracy", "f1", "brier", "ece"),
)
OVERALL = "overall"
ECE_BINS = 15  # equal-width bins of [0, 1]; Guo et al., arXiv:1706.04599


def score_table(
    level: Literal["study", "view"],
    y_true: ArrayLike,
    y_score: ArrayLike,
    study_type: ArrayLike | None,
    groups: ArrayLike | None,
    threshold: ArrayLike,
    interval: Literal["auto", "bootstrap", "analytic", "as-printed"],
    n_resamples: int,
    random_state: int | np.random.Generator | None,
) -> pd.DataFrame:
    """Return the table of scores of either level, as `metrics.study_scores` describes it."""
    if interval not in ("auto", *METHODS):
        raise ValueError(f"expected interval to be one of {('auto', *METHODS)}, got {interval!r}")
    if n_resamples < 1:
        raise ValueError(f"expected at least one resample, got n_resamples={n_resamples!r}")
    y_true = check_binary(y_true, "y_true")
    y_score = check_scores(y_score)
    check_lengths(y_true=y_true, y_score=y_score, study_type=study_type, groups=groups)
    y_pred = (y_score > check_threshold(threshold, len(y_true))).astype(np.int64)
    if interval == "auto":
        interval = "analytic" if groups is None else "bootstrap"
    return pd.DataFrame(
        {"study_type": name, "level": level}
        | _row(part, level, interval, n_resamples, random_state)
        for name, part in ordered_parts(study_type, groups, y_true, y_score, y_pred)
    )


def ordered_parts(study_type, groups, *columns):
    """Yield each study type, and "overall", with its part of the columns and codes of its groups.

    The rows of a part are sorted by the columns, so that the order as given does not decide what
    the same seed draws.
    """
    patients = None if groups is None else patient_codes(groups, "groups")
    for name, part in type_parts(study_type, len(columns[0])).items():
        keys = [column[part] for column in columns]
        if patients is not None:
            keys.append(patients[part])
        order = np.flatnonzero(part)[np.lexsort(keys)]
        codes = np.arange(len(order))
        if patients is not None:
            codes = np.unique(patients[order], return_inverse=True)[1]
        yield name, [*(column[order] for column in columns), codes]


def type_parts(study_type, n):
    """Return the rows of each study type, in sorted order, and of all, as masks of shape (n,)."""
    overall = {OVERALL: np.ones(n, dtype=bool)}
    if study_type is None:
        return overall
    codes, types = encode(study_type, "study_type")
    if OVERALL in types:
        raise ValueError(
            f"expected study types other than {OVERALL!r}, which names the pooled row, "
            "got it as a study type; rename that type"
        )
    return {name: codes == code for code, name in enumerate(types)} | overall


def _row(part, level, interval, n_resamples, random_state):
    """Return counts, figures with their intervals, and what is undefined."""
    y_true, y_score, y_pred, codes = part
    counts = confusion_counts(y_true, y_pred, codes)
    tn, fp, fn, tp = (int(cell) for cell in counts.sum(axis=0))
    n, n_abnormal = len(y_true), fn + tp
    found = {"kappa": kappa_with_ends(counts, interval, 0.95, n_resamples, random_state)}
    shares = {
        "sensitivity": (tp, n_abnormal),
        "specificity": (tn, tn + fp),
        "ppv": (tp, tp + fp),
        "npv": (tn, tn + fn),
    }
    for name, (part, whole) in shares.items():
        found[name] = (part / whole if whole else np.nan, *wilson(part, whole))
    points, values = _resampled(y_true, y_score, codes, counts, n_resamples, random_state)
    for name, value in points.items():
        found[name] = (value, *percentiles(values[name], n_resamples))
    row = {"n": n, "n_abnormal": n_abnormal, "tp": tp, "fn": fn, "fp": fp, "tn": tn}
    for name in METRICS:
        row |= dict(zip((name, f"{name}_low", f"{name}_high"), found[name], strict=True))
    return row | {"undefined": _undefined(row, level, n_patients=len(counts))}


def _resampled(y_true, y_score, codes, counts, n_resamples, random_state):
    """Return the figures whose intervals are bootstrapped, and their resampled values."""
    names = ("accuracy", "f1", "auroc", "average_precision", "brier", "ece")
    n = len(y_true)
    if not n:
        return dict.fromkeys(names, np.nan), dict.fromkeys(names, np.empty(0))
    both = 0 < y_true.sum() < n
    # Sums over a patient's rows: number, squared errors, and in each bin the signed errors.
    bins = np.minimum((y_score * ECE_BINS).astype(int), ECE_BINS - 1)
    errors = np.bincount(
        codes * ECE_BINS + bins, weights=y_true - y_score, minlength=len(counts) * ECE_BINS
    ).reshape(len(counts), ECE_BINS)
    squares = np.bincount(codes, weights=(y_true - y_score) ** 2)
    sums = np.column_stack([counts.sum(axis=1), squares, errors])

    def calibration(sums):
        return sums[..., 1] / sums[..., 0], np.abs(sums[..., 2:]).sum(axis=-1) / sums[..., 0]

    brier, ece = calibration(sums.sum(axis=0))
    total = counts.sum(axis=0)
    points = {
        "accuracy": float(accuracy_of(total)),
        "f1": float(f1_of(total)),
        "auroc": float(roc_auc_score(y_true, y_score)) if both else np.nan,
        "average_precision": float(average_precision_score(y_true, y_score)) if both else np.nan,
        "brier": float(brier),
        "ece": float(ece),
    }
    if len(counts) < 2:
        return points, dict.fromkeys(names, np.empty(0))
    cheap = bootstrap_counts(
        lambda table: np.stack([accuracy_of(table), f1_of(table)], axis=-1),
        counts,
        n_resamples,
        random_state,
    )
    ranked = RankedScores(y_true, y_score, codes)
    drawn = [
        (
            *(ranked.areas(weights) if both else np.full((2, len(weights)), np.nan)),
            *calibration(weights @ sums),
        )
        for weights in draw_groups(len(counts), n_resamples, random_state, n_rows=n)
    ]
    values = [*cheap.T, *(np.concatenate(chunks) for chunks in zip(*drawn, strict=True))]
    return points, dict(zip(names, values, strict=True))


def _undefined(row, level, n_patients):
    """Return which figures of a row are NaN, and why."""
    units = {"study": "studies", "view": "views"}[level]
    if not row["n"]:
        return f"every metric: no {units}"
    reasons = {
        "kappa": "labels and decisions all of one class",
        "auroc": "only one class",
        "average_precision": "only one class",
        "sensitivity": f"no abnormal {units}",
        "specificity": f"no normal {units}",
        "ppv": "none called abnormal",
        "npv": "none called normal",
        "f1": "none abnormal and none called so",
    }
    found = [f"{name}: {reasons[name]}" for name in METRICS if np.isnan(row[name])]
    if n_patients < 2:
        return "; ".join([*found, "resampled intervals: only one patient"])
    lacking = [
        f"interval of {name}: too few resamples have one"
        for name in METRICS
        if np.isnan(row[f"{name}_low"]) and not np.isnan(row[name])
    ]
    return "; ".join(found + lacking)
