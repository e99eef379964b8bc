"""Comparison: labels and the scores of two models on the same studies in, their differences out."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores, check_threshold
from mura_skorch.metrics.intervals import (
    RankedScores,
    confusion_counts,
    draw_groups,
    kappa_of,
    percentiles,
)
from mura_skorch.metrics.tables import FEW_PATIENTS, OVERALL, ordered_parts
from mura_skorch.studies.columns import join_notes
from mura_skorch.utils.text import some_names

__all__ = ["compare_models", "holm", "match_predictions"]

KEPT = ["study", "study_type", "patient", "label"]


def compare_models(
    y_true: ArrayLike,
    y_score_a: ArrayLike,
    y_score_b: ArrayLike,
    *,
    study_type: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    threshold: ArrayLike | tuple[ArrayLike, ArrayLike] = 0.5,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Differences in kappa and AUROC of two models, B minus A, and McNemar's test.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score_a, y_score_b : array-like of shape (n_studies,)
        Probabilities of abnormality that models A and B give the same studies.
    study_type : array-like of shape (n_studies,) or None, default=None
        Study types. None gives the row over all studies alone.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, resampled as a whole. None makes each study its own patient.
    threshold : float, array of shape (n_studies,) or pair, default=0.5
        A study is called abnormal if its probability is strictly greater. A pair, a tuple or list
        `(a, b)`, has one for each model, each a float or array-like of shape (n_studies,).
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        One row per study type, sorted, and a last one "overall": `study_type`, `n`, `n_patients`;
        `kappa_a`, `kappa_b`, `kappa_difference` (positive: B is better) with `_low` and `_high`;
        the same of `auroc`; `only_a_right` and `only_b_right`, the studies that one model alone
        calls right; `mcnemar_p`, and `p_holm`, the same adjusted for the number of study types;
        `caution`, such as "fewer than 50 patients", where intervals are likely to be too narrow,
        else ""; `undefined`, the reasons where figures are NaN, else "".

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a score or threshold is not in [0, 1], a type or
        a patient is missing, or a type is called "overall".

    Notes
    -----
    Intervals are percentiles, 95 %, of the difference over resamples of whole patients, the same
    ones for both models, so that what makes a study hard for both cancels out. They cover the
    choice of studies, not that of the training's seed.

    McNemar's test [1]_ is exact and two-sided: of the studies that one model alone calls right, is
    the share of either far from a half? It takes studies for independent. Where patients have
    several studies that are nearly alike, its p values are too small [2]_: with four such studies
    of each patient, two equal models differ "significantly" (p < .05) in 29 % of comparisons, with
    300 studies of 250 patients in 14 %. With the patients of MURA's valid split it is right, 3 to
    4 %. The intervals resample patients and hold in either case: where they and the test differ,
    believe the intervals.

    The row "overall" is one planned comparison. The rows of the study types are several, and the
    more there are, the more often one of them differs by chance: of two equal models on studies
    such as MURA's valid split, some row's interval of the difference in kappa excludes 0 in 34 to
    42 % of comparisons, and some `mcnemar_p` is below .05 in 18 to 27 %. `p_holm` is adjusted over
    the study types by Holm's method [3]_: it is below .05 in some row, where the models are equal,
    in at most 5 %. The overall row is not adjusted, nor is any interval.

    References
    ----------
    .. [1] McNemar, "Note on the sampling error of the difference between correlated proportions",
       Psychometrika 12, 1947.
    .. [2] Durkalski et al., "Analysis of clustered matched-pair data", Statistics in Medicine 22,
       2003.
    .. [3] Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
       Statistics 6, 1979.

    Examples
    --------
    >>> from mura_skorch.evaluation.comparison import compare_models
    >>> found = compare_models(
    ...     [1, 1, 0, 0, 1, 0], [0.9, 0.4, 0.2, 0.6, 0.7, 0.3], [0.9, 0.8, 0.2, 0.1, 0.7, 0.3]
    ... )
    >>> found[["study_type", "n", "kappa_difference", "only_b_right", "mcnemar_p"]].round(2)
      study_type  n  kappa_difference  only_b_right  mcnemar_p
    0    overall  6              0.67             2        0.5
    """
    if n_resamples < 1:
        raise ValueError(f"expected at least one resample, got n_resamples={n_resamples!r}")
    y_true = check_binary(y_true, "y_true")
    scores = [check_scores(y_score_a, "y_score_a"), check_scores(y_score_b, "y_score_b")]
    check_lengths(
        **{"y_true": y_true, "y_score_a": scores[0], "y_score_b": scores[1]},
        **{"study_type": study_type, "groups": groups},
    )
    pair = threshold if isinstance(threshold, (tuple, list)) else (threshold,) * 2
    if len(pair) != 2:
        raise ValueError(
            f"expected one threshold or a pair of them, one for each model, got {len(pair)}"
        )
    decisions = [
        (score > check_threshold(limit, len(y_true))).astype(np.int64)
        for score, limit in zip(scores, pair, strict=True)
    ]
    columns = (y_true, *scores, *decisions)
    unit = "studies" if groups is None else "patients"
    found = pd.DataFrame(
        {"study_type": name} | _row(part, n_resamples, random_state, unit)
        for name, part in ordered_parts(study_type, groups, *columns)
    )
    is_type = found["study_type"] != OVERALL
    found.loc[is_type, "p_holm"] = holm(found.loc[is_type, "mcnemar_p"])
    return found


def holm(p_values: ArrayLike) -> np.ndarray:
    """Adjust p values of several tests so that the family of them keeps its level.

    Parameters
    ----------
    p_values : array-like of shape (n_tests,)
        NaN where there was no test: it stays, and does not count.

    Returns
    -------
    ndarray of shape (n_tests,), float64
        Holm's adjusted p values.

    Examples
    --------
    >>> from mura_skorch.evaluation.comparison import holm
    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.array(p_values, dtype=float)
    order = np.argsort(adjusted)[: np.isfinite(adjusted).sum()]  # NaN are sorted to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(adjusted[order] * factors), 1)
    return adjusted


def match_predictions(
    table_a: pd.DataFrame, table_b: pd.DataFrame, *, common: bool = False
) -> pd.DataFrame:
    """One table of the predictions of two models, which must be of the same studies.

    Parameters
    ----------
    table_a, table_b : DataFrame
        Prediction tables. Studies without a label or a score do not count as there.
    common : bool, default=False
        Keep the studies that both have; False raises where one has others.

    Returns
    -------
    DataFrame
        One row per study, in the order of A: what describes the study as far as A has it, then
        `score_a`, `threshold_a`, `score_b`, `threshold_b`; a threshold is 0.5 where the table has
        none. `note` joins the caveats of both tables, where there are any.

    Raises
    ------
    ValueError
        If a column is missing, a study occurs twice, the tables have no or, unless `common`, not
        the same studies, or a study's labels differ.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.comparison import match_predictions
    >>> a = pd.DataFrame({"study": ["s1", "s2"], "label": [0, 1], "score": [0.2, 0.7]})
    >>> b = pd.DataFrame({"study": ["s2", "s1"], "label": [1, 0], "score": [0.6, 0.4]})
    >>> match_predictions(a, b)[["study", "score_a", "score_b"]]
      study  score_a  score_b
    0    s1      0.2      0.4
    1    s2      0.7      0.6
    """
    tables = [_scored(table, name) for table, name in ((table_a, "A"), (table_b, "B"))]
    (a, b), keys = tables, [set(table["study"]) for table in tables]
    only = [sorted(keys[0] - keys[1], key=str), sorted(keys[1] - keys[0], key=str)]
    if any(only) and not common:
        parts = (f"{len(o)} only in {m}{_named(o)}" for m, o in zip("AB", only, strict=True) if o)
        raise ValueError(
            f"expected the same labelled studies in both tables, got {', '.join(parts)}, and "
            f"{len(keys[0] & keys[1])} in both; compare on these with common=True (--common)"
        )
    if not keys[0] & keys[1]:
        raise ValueError("expected studies that both tables have, got none; compare other runs")
    columns = ["study", "label", "score", "threshold"]
    both = a.merge(b[columns], on="study", suffixes=("_a", "_b"))
    differ = both["label_a"].astype(int) != both["label_b"].astype(int)
    if differ.any():
        raise ValueError(
            f"expected one label for each study, got different ones for {int(differ.sum())} of "
            f"{len(both)} studies{_named(both.loc[differ, 'study'])}; predict both with one table"
        )
    both = both.rename(columns={"label_a": "label"}).drop(columns="label_b")
    named = [name for name in KEPT if name in both]
    both = both[[*named, "score_a", "threshold_a", "score_b", "threshold_b"]]
    note = join_notes(*tables)
    return both.assign(note=note) if note else both


def _row(part, n_resamples, random_state, unit):
    """Return the figures of one study type."""
    y_true, score_a, score_b, decision_a, decision_b, codes = part
    scores, decisions = (score_a, score_b), (decision_a, decision_b)
    n_patients = int(codes.max(initial=-1)) + 1
    counts = [confusion_counts(y_true, decision, codes) for decision in decisions]
    both = 0 < y_true.sum() < len(y_true)
    points = {
        "kappa": [float(kappa_of(count.sum(axis=0))) for count in counts],
        "auroc": [float(roc_auc_score(y_true, s)) if both else np.nan for s in scores],
    }
    values = {"kappa": np.empty(0), "auroc": np.empty(0)}
    if n_patients > 1:
        ranked = [RankedScores(y_true, score, codes) for score in scores]
        chunks = []
        for weights in draw_groups(n_patients, n_resamples, random_state, n_rows=len(y_true)):
            kappas = [kappa_of(weights @ count) for count in counts]
            areas = [of.areas(weights)[0] for of in ranked]
            chunks.append((kappas[1] - kappas[0], areas[1] - areas[0]))
        drawn = (np.concatenate(parts) for parts in zip(*chunks, strict=True))
        values = dict(zip(values, drawn, strict=True))
    row: dict[str, Any] = {"n": len(y_true), "n_patients": n_patients}
    undefined = []
    reasons = {"kappa": "labels and decisions all of one class", "auroc": "only one class"}
    for name, (a, b) in points.items():
        low, high = percentiles(values[name], n_resamples)
        if np.isnan(b - a):
            low, high = np.nan, np.nan
        row |= {f"{name}_a": a, f"{name}_b": b, f"{name}_difference": b - a}
        row |= {f"{name}_difference_low": low, f"{name}_difference_high": high}
        if not len(y_true):
            continue
        if np.isnan(b - a):
            undefined.append(f"{name}: {reasons[name]}")
        elif np.isnan(low):
            why = "only one patient" if n_patients < 2 else "too few resamples have one"
            undefined.append(f"interval of the difference in {name}: {why}")
    right = [decision == y_true for decision in decisions]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    row |= {"only_a_right": only_a, "only_b_right": only_b}
    row["mcnemar_p"] = np.nan
    if len(y_true):
        differ = only_a + only_b
        row["mcnemar_p"] = float(binomtest(only_a, differ).pvalue) if differ else 1.0
    else:
        undefined = ["every figure: no studies"]
    few = 0 < n_patients < FEW_PATIENTS
    return row | {
        "p_holm": row["mcnemar_p"],
        "caution": f"fewer than {FEW_PATIENTS} {unit}" if few else "",
        "undefined": "; ".join(undefined),
    }


def _scored(table, name):
    """Return the rows with label and score, with a threshold each."""
    needed = ["study", "label", "score"]
    if missing := [column for column in needed if column not in table]:
        raise ValueError(
            f"expected columns {', '.join(missing)} in table {name}, got "
            f"{', '.join(map(str, table.columns))}; pass a prediction table"
        )
    found = scored_rows(table)
    repeated = found.loc[found["study"].duplicated(), "study"]
    if len(repeated):
        raise ValueError(
            f"expected each study once in table {name}, got {len(repeated)} again"
            f"{_named(repeated)}; drop the repetitions"
        )
    return found.assign(threshold=found.get("threshold", 0.5))


def _named(studies):
    """Return some of the studies in brackets."""
    return f" ({some_names(studies)})"
