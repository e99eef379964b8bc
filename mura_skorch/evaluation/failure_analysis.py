"""Where a model errs: errors by group with the gap to the rest, calibration, net benefit."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from mura_skorch.evaluation.predictions import check_columns, scored_rows
from mura_skorch.evaluation.subgroups import subgroup_masks
from mura_skorch.metrics.calibration_line import calibration_line
from mura_skorch.metrics.checks import check_binary, check_scores, check_threshold
from mura_skorch.metrics.decision_curve import decision_curve
from mura_skorch.metrics.intervals import (
    RankedScores,
    bootstrap_counts,
    confusion_counts,
    draw_groups,
    kappa_of,
    percentiles,
    share_of,
)
from mura_skorch.metrics.predictive_values import predictive_values
from mura_skorch.metrics.tables import FEW_PATIENTS, ordered_parts

__all__ = ["FailureAnalysis", "error_groups", "failure_analysis", "smallest_groups"]

# What is compared between a group and the rest: kappa and AUROC high is good, the others low.
RATES = ("error_rate", "fn_rate", "fp_rate", "kappa")
FIGURES = (*RATES, "auroc")
BANDS = [0, 0.2, 0.4, 0.6, 0.8, 1]  # of the score
BAND_NAMES = ["0 to .2", ".2 to .4", ".4 to .6", ".6 to .8", ".8 to 1"]
VIEWS = [0, 1, 2, 3, 4, np.inf]
VIEW_NAMES = ["1", "2", "3", "4", "5 or more"]
LEAST_CASES = 10  # for an interval: resamples of fewer say nothing of chance
PREVALENCES = np.arange(1, 100) / 100  # of the curves
# Why a figure is undefined in a group or in the rest.
REASONS = {
    "error_rate": "no studies",
    "fn_rate": "no abnormal studies",
    "fp_rate": "no normal studies",
    "kappa": "labels and decisions all of one class",
    "auroc": "only one class",
}


class FailureAnalysis(NamedTuple):
    """Where a model errs, how far its probabilities hold, and what they are good for.

    Attributes
    ----------
    groups : DataFrame
        Errors of each group of studies, see `error_groups`.
    calibration : DataFrame
        Slope, intercepts and observed over expected, see `mura_skorch.metrics.calibration_line`.
    predictive_values : DataFrame
        PPV and NPV at the share of abnormal studies in this data, if both classes are there, then
        at each chosen prevalence; the column `of` says which.
    prevalence_curve : DataFrame
        The same at prevalences from .01 to .99.
    decision_curve : DataFrame
        Net benefit by threshold, see `mura_skorch.metrics.decision_curve`.
    """

    groups: pd.DataFrame
    calibration: pd.DataFrame
    predictive_values: pd.DataFrame
    prevalence_curve: pd.DataFrame
    decision_curve: pd.DataFrame


def failure_analysis(
    predictions: pd.DataFrame,
    *,
    by: Sequence[str] = (),
    prevalence: Sequence[float] = (),
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> FailureAnalysis:
    """Return all tables on errors, calibration, prevalence and net benefit at study level.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with `label`, `score` and, optionally, `study_type`, `patient`,
        `n_views` and `threshold`. Studies without a label or a score are left out.
    by : sequence of str, default=()
        Columns that define further groups, such as site or scanner.
    prevalence : sequence of float, default=()
        Shares of abnormal studies, between 0 and 1, to give PPV and NPV at.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    FailureAnalysis

    Raises
    ------
    ValueError
        A column is missing or has too many values, or a prevalence is not between 0 and 1.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation import failure_analysis
    >>> predictions = pd.DataFrame({"label": [0, 1, 0, 1], "score": [0.2, 0.8, 0.4, 0.3]})
    >>> found = failure_analysis(predictions, prevalence=[0.1])
    >>> found.predictive_values[["prevalence", "ppv", "npv"]].round(3)
       prevalence  ppv    npv
    0         0.5  1.0  0.667
    1         0.1  1.0  0.947
    """
    used = scored_rows(predictions)
    y_true, y_score = used["label"].astype(int), used["score"]
    drawn: dict[str, Any] = {
        "groups": used.get("patient"),
        "n_resamples": n_resamples,
        "random_state": random_state,
    }
    threshold = used.get("threshold", 0.5)
    shares = {"chosen": list(prevalence)}
    if y_true.nunique() == 2:
        shares = {"these studies": [float(y_true.mean())]} | shares
    chosen = pd.concat(
        predictive_values(y_true, y_score, own, threshold=threshold, **drawn).assign(of=name)
        for name, own in shares.items()
    )
    return FailureAnalysis(
        groups=error_groups(used, by, n_resamples=n_resamples, random_state=random_state),
        calibration=calibration_line(y_true, y_score, **drawn),
        predictive_values=chosen.reset_index(drop=True),
        prevalence_curve=predictive_values(
            y_true, y_score, PREVALENCES, threshold=threshold, **drawn
        ),
        decision_curve=decision_curve(y_true, y_score, **drawn),
    )


def error_groups(
    predictions: pd.DataFrame,
    by: Sequence[str] = (),
    *,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return the errors of each group of studies, and the gap to all other studies.

    Groups are the study types, the numbers of views (from five on one group), bands of the score,
    and the values of each column in `by`.

    Parameters
    ----------
    predictions, by, n_resamples, random_state
        As for `failure_analysis`.

    Returns
    -------
    DataFrame
        One row per group: `by` and `value` name it; `n`, `n_patients`, `n_abnormal`, `fn` and `fp`
        count studies; then `error_rate` (wrong decisions), `fn_rate` (missed among the abnormal),
        `fp_rate` (called abnormal among the normal), `kappa` and `auroc`, each with its `_gap`, the
        group's figure minus that of all other studies, and `_gap_low` and `_gap_high`, its 95 %
        interval. An interval is NaN where the group or the rest has fewer than 10 of the studies
        that a figure is about, or a figure of 0 or 1. `caution` is "fewer than 50 patients" for a
        small group or rest, else "". `undefined` gives the reasons for NaN.

    Raises
    ------
    ValueError
        A column is missing, or has more than 20 values.

    Notes
    -----
    Gaps are resampled in pairs: each resample of the patients gives the figures of the group and of
    the rest, so that a patient with studies in both is in both. Intervals are not adjusted for the
    number of groups: one of twenty excludes 0 by chance.

    In a band of the score only the error rate is given. Below the threshold all abnormal studies
    are missed by definition, above it none.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation import error_groups
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "label": [0, 1, 0, 1, 0, 1],
    ...         "score": [0.2, 0.8, 0.4, 0.9, 0.6, 0.3],
    ...         "site": ["north", "north", "north", "north", "south", "south"],
    ...     }
    ... )
    >>> found = error_groups(predictions, ["site"])
    >>> found.loc[found.by == "site", ["value", "n", "error_rate", "error_rate_gap"]]
       value  n  error_rate  error_rate_gap
    5  north  4         0.0            -1.0
    6  south  2         1.0             1.0
    """
    check_columns(predictions, ["label", "score", *by])
    used = scored_rows(predictions).reset_index(drop=True)
    y_true = check_binary(used["label"].astype(int), "label")
    y_score = check_scores(used["score"], "score")
    limit = check_threshold(used.get("threshold", 0.5), len(used))
    y_pred = (y_score > limit).astype(np.int64)
    groups = used.get("patient")
    rows = []
    for column, value, mask in _groups(used, by):
        # Sorted, so that the order of the studies does not change what a seed draws.
        ((_, part),) = ordered_parts(None, groups, y_true, y_score, y_pred, mask.astype(int))
        row = _row(part, n_resamples, random_state, has_score_band=column == "score")
        unit = "studies" if groups is None else "patients"
        n_patients = row["n_patients"], row.pop("n_patients_rest")
        few = [n for n in n_patients if 0 < n < FEW_PATIENTS]
        row["caution"] = f"fewer than {FEW_PATIENTS} {unit}" if few else ""
        rows.append({"by": column, "value": value} | row)
    return pd.DataFrame(rows, columns=_columns())


def smallest_groups(groups: pd.DataFrame) -> pd.DataFrame:
    """Return the smallest group of each column of `error_groups`.

    Parameters
    ----------
    groups : DataFrame
        What `error_groups` returns.

    Returns
    -------
    DataFrame
        One row per column, in order: `by`, `value`, `n`, `n_patients` and `n_abnormal` of the
        group with the fewest patients, and `n_small`, the number of groups of fewer than 50.
    """
    rows = []
    for _, own in groups.groupby("by", sort=False):
        row = own.sort_values(["n_patients", "n"], kind="stable").iloc[0]
        n_small = int((own["n_patients"] < FEW_PATIENTS).sum())
        rows.append(
            {name: row[name] for name in ("by", "value", "n", "n_patients", "n_abnormal")}
            | {"n_groups": len(own), "n_small": n_small}
        )
    names = ["by", "value", "n", "n_patients", "n_abnormal", "n_groups", "n_small"]
    return pd.DataFrame(rows, columns=names)


def _groups(used, by):
    """Yield the column, the value and the rows of each group."""
    if not len(used):
        return
    banded = {}
    if "n_views" in used and used["n_views"].notna().all():
        banded["views"] = pd.cut(used["n_views"].astype(float), VIEWS, labels=VIEW_NAMES)
    scores = used["score"].astype(float)
    banded["score"] = pd.cut(scores, BANDS, labels=BAND_NAMES, include_lowest=True)
    if "study_type" in used:
        types = used["study_type"].astype(str)
        for name in sorted(set(types)):  # as many as there are
            yield "study type", name, (types == name).to_numpy()
    for column, values in banded.items():
        table = values.reset_index(drop=True).to_frame(column)
        for value, mask in subgroup_masks(table, column):
            yield column, value, mask
    for column in by:
        if column in ("study_type", "n_views"):  # given above
            continue
        for value, mask in subgroup_masks(used, column):
            yield column, value, mask


def _columns():
    """Return the columns of `error_groups`."""
    counts = ["by", "value", "n", "n_patients", "n_abnormal", "fn", "fp"]
    ends = ("", "_gap", "_gap_low", "_gap_high")
    return [*counts, *(f"{name}{end}" for name in FIGURES for end in ends), "caution", "undefined"]


def _row(part, n_resamples, random_state, *, has_score_band):
    """Return counts and figures of a group, and the gaps to the rest."""
    y_true, y_score, y_pred, in_group, codes = part
    n_patients = int(codes.max(initial=-1)) + 1
    is_in = in_group == 1
    sides = [is_in, ~is_in]
    counts = [confusion_counts(y_true[s], y_pred[s], codes[s], n_patients) for s in sides]
    _, fp, fn, tp = (int(cell) for cell in counts[0].sum(axis=0))
    row = {
        "n": int(is_in.sum()),
        "n_patients": len(np.unique(codes[is_in])),
        "n_patients_rest": len(np.unique(codes[~is_in])),
        "n_abnormal": fn + tp,
        "fn": fn,
        "fp": fp,
    }
    points = [[*_rates(count.sum(axis=0)), _area(y_true[s], y_score[s])]
              for count, s in zip(counts, sides, strict=True)]  # fmt: skip
    drawn = dict.fromkeys(FIGURES, np.empty(0))
    if n_patients > 1 and 0 < row["n"] < len(y_true):
        both = bootstrap_counts(_gaps, np.hstack(counts), n_resamples, random_state)
        drawn |= dict(zip(RATES, both.T, strict=True))
        if not has_score_band and not np.isnan([points[0][-1], points[1][-1]]).any():
            ranked = [RankedScores(y_true[s], y_score[s], codes[s]) for s in sides]
            weights = draw_groups(n_patients, n_resamples, random_state, n_rows=len(y_true))
            gaps = [ranked[0].areas(w)[0] - ranked[1].areas(w)[0] for w in weights]
            drawn["auroc"] = np.concatenate(gaps)
    cases = [_cases(y_true[s]) for s in sides]
    undefined = []
    for name, own, other in zip(FIGURES, *points, strict=True):
        if has_score_band and name != "error_rate":
            own = other = np.nan
        low, high = percentiles(drawn[name], n_resamples)
        gap = own - other
        n_cases = min(side[name] for side in cases)
        if np.isnan(gap) or n_cases < LEAST_CASES or {own, other} & {0.0, 1.0}:
            low, high = np.nan, np.nan
        row |= {name: own, f"{name}_gap": gap, f"{name}_gap_low": low, f"{name}_gap_high": high}
        if has_score_band and name != "error_rate":
            continue
        if np.isnan(own):
            undefined.append(f"{name}: {REASONS[name]}")
        elif row["n"] == len(y_true):
            undefined.append(f"gap of {name}: there is no other group")
        elif np.isnan(other):
            undefined.append(f"gap of {name}: in the rest, {REASONS[name]}")
        elif np.isnan(low):
            why = f"fewer than {LEAST_CASES} cases, or a figure of 0 or 1"
            undefined.append(f"interval of {name}: {why}")
    return row | {"undefined": "; ".join(undefined)}


def _cases(y_true):
    """Return how many studies each figure is about."""
    n, n_abnormal = len(y_true), int(y_true.sum())
    n_normal = n - n_abnormal
    return {
        "error_rate": n,
        "fn_rate": n_abnormal,
        "fp_rate": n_normal,
        "kappa": n,
        "auroc": min(n_abnormal, n_normal),
    }


def _rates(counts):
    """Return the figures of `RATES` of confusion tables, shape (..., 4)."""
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    return np.stack(
        [share_of(fn + fp, tn + tp), share_of(fn, tp), share_of(fp, tn), kappa_of(counts)], axis=-1
    )


def _gaps(tables):
    """Return group minus rest of two confusion tables side by side, shape (..., 8)."""
    return _rates(tables[..., :4]) - _rates(tables[..., 4:])


def _area(y_true, y_score):
    """Return the AUROC, NaN with one class."""
    if len(np.unique(y_true)) < 2:
        return np.nan
    return float(roc_auc_score(y_true, y_score))
