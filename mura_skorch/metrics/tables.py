"""Build the tables of `metrics.study_scores` and `metrics.view_scores`, which document them."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, roc_auc_score

from mura_skorch.metrics.calibration import calibration_error
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
    kappa_of,
    kappa_with_ends,
    percentiles,
    share_of,
    wilson,
)
from mura_skorch.utils.identity import patient_codes

METRICS = (
    "kappa",
    "auroc",
    "average_precision",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "accuracy",
    "f1",
    "brier",
    "ece",
)
OVERALL = "overall"
MEAN_OF_TYPES = "mean of types"
# Intervals of fewer patients are too narrow. Coverage in simulated tables:
# .68 (kappa .92) to .93 (kappa .70) with 30 patients, .93 to .96 with 160.
FEW_PATIENTS = 50
UNITS = {"study": "studies", "view": "views"}
# The order of what `_resampled_metrics` returns.
RESAMPLED = (
    "kappa",
    "accuracy",
    "f1",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "auroc",
    "average_precision",
    "brier",
)


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
    mean_of_types: bool,
) -> pd.DataFrame:
    """Return the table of scores of one level, see `metrics.study_scores`."""
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
    rows = [
        {"study_type": name, "level": level}
        | _row(part, level, interval, n_resamples, random_state, has_groups=groups is not None)
        for name, part in ordered_parts(study_type, groups, y_true, y_score, y_pred)
    ]
    if mean_of_types and study_type is not None and len(rows) > 2:
        codes = encode(study_type, "study_type")[0]
        ((_, part),) = ordered_parts(None, groups, y_true, y_score, y_pred, codes)
        rows.insert(-1, _mean_row(rows, part, n_resamples, random_state))
    return pd.DataFrame(rows)


def ordered_parts(study_type, groups, *columns):
    """Yield each study type, then "overall", with its part of the columns and its group codes.

    The rows of a part are sorted by the columns, so that their order in the input does not change
    what a seed draws.
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
    """Return boolean masks of shape (n,): one per study type, sorted, then "overall"."""
    overall = {OVERALL: np.ones(n, dtype=bool)}
    if study_type is None:
        return overall
    codes, types = encode(study_type, "study_type")
    for reserved, row in ((OVERALL, "pooled row"), (MEAN_OF_TYPES, "row of means")):
        if reserved in types:
            raise ValueError(
                f"expected study types other than {reserved!r}, the name of the {row}, got it as a "
                "study type; rename that type"
            )
    return {name: codes == code for code, name in enumerate(types)} | overall


def _row(part, level, interval, n_resamples, random_state, *, has_groups):
    """Return counts, metrics with intervals, and undefined metrics."""
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
    for name, (part, total) in shares.items():
        found[name] = (part / total if total else np.nan, *wilson(part, total))
    points, values = _resampled(y_true, y_score, codes, counts, n_resamples, random_state)
    for name, value in points.items():
        found[name] = (value, *percentiles(values[name], n_resamples))
    row = {"n": n, "n_abnormal": n_abnormal, "tp": tp, "fn": fn, "fp": fp, "tn": tn}
    found["ece"] = (calibration_error(y_true, y_score), np.nan, np.nan)
    row |= _figures(found)
    unit = "patients" if has_groups else UNITS[level]
    caution = f"fewer than {FEW_PATIENTS} {unit}" if 0 < len(counts) < FEW_PATIENTS else ""
    return row | {"caution": caution, "undefined": _undefined(row, level, n_patients=len(counts))}


def _figures(found):
    """Return metrics and ends of intervals as columns, in the order of METRICS."""
    row = {}
    for name in METRICS:
        value, low, high = found[name]
        row[name] = value
        if name != "ece":  # its bootstrap is biased upwards: no interval
            row |= {f"{name}_low": low, f"{name}_high": high}
    return row


def _resampled(y_true, y_score, codes, counts, n_resamples, random_state):
    """Return metrics with bootstrap intervals, and their resampled values."""
    names = ("accuracy", "f1", "auroc", "average_precision", "brier")
    n = len(y_true)
    if not n:
        return dict.fromkeys(names, np.nan), dict.fromkeys(names, np.empty(0))
    both = 0 < y_true.sum() < n
    # Per patient: the number of rows, and the sum of squared errors.
    sums = np.column_stack([counts.sum(axis=1), np.bincount(codes, (y_true - y_score) ** 2)])
    total = counts.sum(axis=0)
    points = {
        "accuracy": float(accuracy_of(total)),
        "f1": float(f1_of(total)),
        "auroc": float(roc_auc_score(y_true, y_score)) if both else np.nan,
        "average_precision": float(average_precision_score(y_true, y_score)) if both else np.nan,
        "brier": float(sums[:, 1].sum() / n),
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
            np.divide(*(weights @ sums).T[::-1]),
        )
        for weights in draw_groups(len(counts), n_resamples, random_state, n_rows=n)
    ]
    values = [*cheap.T, *(np.concatenate(chunks) for chunks in zip(*drawn, strict=True))]
    return points, dict(zip(names, values, strict=True))


def _mean_row(rows, part, n_resamples, random_state):
    """Return the means over study types, with intervals of a bootstrap over patients."""
    *types, overall = rows
    *columns, of_type, codes = part
    n_patients = int(codes.max()) + 1
    values = {name: np.empty(0) for name in METRICS}
    if n_patients > 1:
        parts = [
            [column[of_type == code] for column in (*columns, codes)] for code in range(len(types))
        ]
        drawn = [
            np.mean([_resampled_metrics(own, weights) for own in parts], axis=0)
            for weights in draw_groups(n_patients, n_resamples, random_state, n_rows=len(codes))
        ]
        values |= dict(zip(RESAMPLED, np.concatenate(drawn, axis=1), strict=True))
    found, reasons = {}, []
    for name in METRICS:
        mean = float(np.mean([row[name] for row in types]))
        ends = percentiles(values[name], n_resamples)
        if np.isnan(mean):
            lacking = ", ".join(str(row["study_type"]) for row in types if np.isnan(row[name]))
            reasons.append(f"{name}: not defined for {lacking}")
            ends = (np.nan, np.nan)
        found[name] = (mean, *ends)
    row = overall | {"study_type": MEAN_OF_TYPES} | _figures(found)
    return row | {"undefined": "; ".join(reasons + _lacking(row, n_patients))}


def _resampled_metrics(part, weights):
    """Return the metrics of `RESAMPLED` under weights of shape (n_resamples, n_groups)."""
    y_true, y_score, y_pred, codes = part
    counts = confusion_counts(y_true, y_pred, codes, n_groups=weights.shape[1])
    table = weights @ counts
    tn, fp, fn, tp = table.T
    squares = np.bincount(codes, (y_true - y_score) ** 2, minlength=weights.shape[1])
    both = 0 < y_true.sum() < len(y_true)
    auroc, average_precision = np.full((2, len(weights)), np.nan)
    if both:
        auroc, average_precision = RankedScores(y_true, y_score, codes).areas(weights)
    n = table.sum(axis=1)
    return [
        kappa_of(table),
        accuracy_of(table),
        f1_of(table),
        share_of(tp, fn),
        share_of(tn, fp),
        share_of(tp, fp),
        share_of(tn, fn),
        auroc,
        average_precision,
        (weights @ squares) / np.where(n > 0, n, np.nan),
    ]


def _undefined(row, level, n_patients):
    """Return the metrics of a row that are NaN, with the reason."""
    units = UNITS[level]
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
        "f1": "none abnormal and none called abnormal",
    }
    found = [f"{name}: {reasons[name]}" for name in METRICS if np.isnan(row[name])]
    return "; ".join(found + _lacking(row, n_patients))


def _lacking(row, n_patients):
    """Return the intervals of defined metrics that are NaN, with the reason."""
    if n_patients < 2:
        return ["resampled intervals: only one patient"]
    return [
        f"interval of {name}: too few resamples have one"
        for name in METRICS
        if np.isnan(row.get(f"{name}_low", 0)) and not np.isnan(row[name])
    ]
