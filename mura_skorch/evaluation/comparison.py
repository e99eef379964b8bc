"""Compare two models on the same studies: differences in kappa and AUROC, McNemar's test."""

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

# Why a figure is undefined.
REASONS = {"kappa": "labels and decisions all of one class", "auroc": "only one class"}
STUDY_COLUMNS = ["study", "study_type", "patient", "label"]


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
    """Return differences in kappa and AUROC of two models, B minus A, and McNemar's test.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score_a, y_score_b : array-like of shape (n_studies,)
        Probabilities of abnormality from models A and B for the same studies.
    study_type : array-like of shape (n_studies,) or None, default=None
        Study types. None gives only the row over all studies.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, the units of resampling. None treats each study as its own patient.
    threshold : float, array of shape (n_studies,) or pair, default=0.5
        A study is called abnormal if its probability is strictly greater. A pair, given as tuple
        or list `(a, b)`, has one entry per model: a float or array-like of shape (n_studies,).
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        One row per study type, sorted, and a last one "overall": `study_type`, `n`, `n_patients`;
        `kappa_a`, `kappa_b`, `kappa_difference` (positive: B is better) with `_low` and `_high`;
        the same for `auroc`; `only_a_right` and `only_b_right`, the numbers of studies that only
        one model classifies correctly; `mcnemar_p`, and `p_holm`, the same adjusted for the number
        of study types; `caution`, such as "fewer than 50 patients", if intervals are likely to be
        too narrow, else ""; `undefined`, the reasons for NaN, else "".

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a score or threshold is not in [0, 1], a type or
        a patient is missing, or a type is called "overall".

    Notes
    -----
    Intervals are 95 % percentiles of the difference in a paired bootstrap over patients: both
    models are scored on the same resamples. They describe the sampling of patients, not the random
    seed of the training.

    McNemar's test [1]_ is exact and two-sided. Among the studies that only one model classifies
    correctly, it tests whether each model has half. It assumes independent studies. If patients
    have several similar studies, its p values are too small [2]_. With four similar studies per
    patient, two equal models differ "significantly" (p < .05) in 29 % of comparisons; with 300
    studies of 250 patients, in 14 %. With the patients of MURA's valid split the rate is right, 3
    to 4 %. The intervals resample patients and hold in both cases: if they disagree with the test,
    trust the intervals.

    The row "overall" is one planned comparison; the rows of the study types are several. The more
    there are, the more often one of them differs by chance. For two equal models on studies like
    MURA's valid split, at least one interval of the difference in kappa excludes 0 in 34 to 42 % of
    comparisons, and at least one `mcnemar_p` is below .05 in 18 to 27 %. `p_holm` is adjusted over
    the study types by Holm's method [3]_: for equal models, at least one is below .05 in at most
    5 %. Neither the overall row nor any interval is adjusted.

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
        y_true=y_true,
        y_score_a=scores[0],
        y_score_b=scores[1],
        study_type=study_type,
        groups=groups,
    )
    decisions = [
        (score > check_threshold(limit, len(y_true))).astype(np.int64)
        for score, limit in zip(scores, threshold_pair(threshold), strict=True)
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
    """Adjust p values for multiple tests by Holm's method.

    Parameters
    ----------
    p_values : array-like of shape (n_tests,)
        NaN for a missing test: it stays NaN and is not counted.

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
    """Join the predictions of two models on the same studies.

    Parameters
    ----------
    table_a, table_b : DataFrame
        Prediction tables. Studies without a label or a score are ignored.
    common : bool, default=False
        Use only the studies of both tables. False raises if one table has others.

    Returns
    -------
    DataFrame
        One row per study, in the order of A: the columns of A that describe the study, then
        `score_a`, `threshold_a`, `score_b`, `threshold_b`. A table without thresholds gets 0.5.
        `note` joins the notes of both tables, if any.

    Raises
    ------
    ValueError
        A column is missing, a study occurs twice, the labels of a study differ, the tables share
        no study, or they have different studies and `common` is False.

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
    a, b = tables
    in_a, in_b = set(a["study"]), set(b["study"])
    if in_a != in_b and not common:
        only = {"A": sorted(in_a - in_b, key=str), "B": sorted(in_b - in_a, key=str)}
        parts = [f"{len(keys)} only in {name}{_named(keys)}" for name, keys in only.items() if keys]
        raise ValueError(
            f"expected the same labelled studies in both tables, got {', '.join(parts)}, and "
            f"{len(in_a & in_b)} in both; compare on these with common=True (--common)"
        )
    if not in_a & in_b:
        raise ValueError("expected studies that are in both tables, got none; compare other runs")
    columns = ["study", "label", "score", "threshold"]
    both = a.merge(b[columns], on="study", suffixes=("_a", "_b"))
    differ = both["label_a"].astype(int) != both["label_b"].astype(int)
    if differ.any():
        raise ValueError(
            f"expected one label for each study, got different ones for {int(differ.sum())} of "
            f"{len(both)} studies{_named(both.loc[differ, 'study'])}; use one table of labels"
        )
    both = both.rename(columns={"label_a": "label"}).drop(columns="label_b")
    named = [name for name in STUDY_COLUMNS if name in both]
    both = both[[*named, "score_a", "threshold_a", "score_b", "threshold_b"]]
    note = join_notes(*tables)
    return both.assign(note=note) if note else both


def model_figures(y_true, scores, decisions, codes, n_resamples, random_state):
    """Return kappa and AUROC of several models, on the studies and on resamples of the patients.

    Returns
    -------
    points : dict of "kappa" and "auroc" to list of n_models float
        NaN where undefined.
    drawn : dict of "kappa" and "auroc" to ndarray of shape (n_models, n_resamples)
        All models on the same resamples. No resamples of fewer than two patients.
    """
    n_patients = int(codes.max(initial=-1)) + 1
    counts = [confusion_counts(y_true, decision, codes) for decision in decisions]
    both = 0 < y_true.sum() < len(y_true)
    points = {
        "kappa": [float(kappa_of(count.sum(axis=0))) for count in counts],
        "auroc": [float(roc_auc_score(y_true, s)) if both else np.nan for s in scores],
    }
    kappas, areas = [np.empty((len(counts), 0))], [np.empty((len(counts), 0))]
    if n_patients > 1:
        ranked = [RankedScores(y_true, score, codes) for score in scores]
        for weights in draw_groups(n_patients, n_resamples, random_state, n_rows=len(y_true)):
            kappas.append(np.stack([kappa_of(weights @ count) for count in counts]))
            areas.append(np.stack([of.areas(weights)[0] for of in ranked]))
    return points, {"kappa": np.hstack(kappas), "auroc": np.hstack(areas)}


def threshold_pair(threshold):
    """Return the thresholds of A and B, of a pair or of one for both."""
    pair = threshold if isinstance(threshold, (tuple, list)) else (threshold, threshold)
    if len(pair) != 2:
        raise ValueError(
            f"expected one threshold or a pair of them, one for each model, got {len(pair)}"
        )
    return pair


def why_undefined(name, difference, low, n_patients):
    """Return the reason why a difference or its interval is NaN, in a list; else none."""
    if np.isnan(difference):
        return [f"{name}: {REASONS[name]}"]
    if np.isnan(low):
        why = "only one patient" if n_patients < 2 else "too few resamples have one"
        return [f"interval of the difference in {name}: {why}"]
    return []


def caution_of(n_patients, unit):
    """Return what to know of a row of few patients, or an empty text."""
    return f"fewer than {FEW_PATIENTS} {unit}" if 0 < n_patients < FEW_PATIENTS else ""


def _row(part, n_resamples, random_state, unit):
    """Compare the models on one study type."""
    y_true, score_a, score_b, decision_a, decision_b, codes = part
    decisions = (decision_a, decision_b)
    points, drawn = model_figures(
        y_true, (score_a, score_b), decisions, codes, n_resamples, random_state
    )
    n_patients = int(codes.max(initial=-1)) + 1
    row: dict[str, Any] = {"n": len(y_true), "n_patients": n_patients}
    undefined = []
    for name, (a, b) in points.items():
        low, high = percentiles(drawn[name][1] - drawn[name][0], n_resamples)
        if np.isnan(b - a):
            low, high = np.nan, np.nan
        row |= {f"{name}_a": a, f"{name}_b": b, f"{name}_difference": b - a}
        row |= {f"{name}_difference_low": low, f"{name}_difference_high": high}
        if not len(y_true):
            continue
        undefined += why_undefined(name, b - a, low, n_patients)
    right = [decision == y_true for decision in decisions]
    only_a, only_b = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    row |= {"only_a_right": only_a, "only_b_right": only_b}
    row["mcnemar_p"] = np.nan
    if len(y_true):
        differ = only_a + only_b
        row["mcnemar_p"] = float(binomtest(only_a, differ).pvalue) if differ else 1.0
    else:
        undefined = ["every figure: no studies"]
    return row | {
        "p_holm": row["mcnemar_p"],
        "caution": caution_of(n_patients, unit),
        "undefined": "; ".join(undefined),
    }


def _scored(table, name):
    """Return the rows with label and score, and add a threshold if missing."""
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
            f"expected each study once in table {name}, got {len(repeated)} repeated"
            f"{_named(repeated)}; drop the repeated rows"
        )
    return found.assign(threshold=found.get("threshold", 0.5))


def _named(studies):
    """Return some of the studies in brackets."""
    return f" ({some_names(studies)})"
