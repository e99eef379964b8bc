"""Compare two settings, each trained with several seeds, on the same studies."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.evaluation.comparison import (
    caution_of,
    model_figures,
    threshold_pair,
    why_undefined,
)
from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores, check_threshold
from mura_skorch.metrics.intervals import percentiles
from mura_skorch.metrics.tables import ordered_parts

__all__ = ["compare_seeds"]


def compare_seeds(
    y_true: ArrayLike,
    y_scores_a: ArrayLike,
    y_scores_b: ArrayLike,
    *,
    study_type: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    threshold: ArrayLike | tuple[ArrayLike, ArrayLike] = 0.5,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return differences in kappa and AUROC of two settings, B minus A, as means over seeds.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_scores_a, y_scores_b : array-like of shape (n_seeds, n_studies)
        Probabilities of abnormality from the models of settings A and B. Row k of both is of the
        same seed.
    study_type : array-like of shape (n_studies,) or None, default=None
        Study types. None gives only the row over all studies.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, the units of resampling. None treats each study as its own patient.
    threshold : float or pair, default=0.5
        A study is called abnormal if its probability is strictly greater. A pair `(a, b)` has one
        entry per setting: a float, or an array-like of shape (n_seeds,).
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        One row per study type, sorted, and a last one "overall": `study_type`, `n`, `n_patients`,
        `n_seeds`; `kappa_a`, `kappa_b`, means over seeds; `kappa_difference` (positive: B is
        better) with `_low` and `_high`, and `_sd`, the standard deviation over seeds of the
        difference of one seed, NaN for one seed; the same for `auroc`; `caution`, such as "fewer
        than 50 patients", else ""; `undefined`, the reasons for NaN, else "".

    Raises
    ------
    ValueError
        If shapes differ, labels are not 0 or 1, a score or threshold is not in [0, 1], or a type or
        a patient is missing.

    Notes
    -----
    On each resample of the patients, kappa is computed for every model, averaged over the seeds of
    a setting, and subtracted. Intervals are 95 % percentiles of that difference: they describe the
    sampling of patients for these trainings. How much the trainings themselves vary is what `_sd`
    says; the mean over n seeds varies by about ``_sd / sqrt(n)``.

    See Also
    --------
    mura_skorch.evaluation.compare_models : Two models, with McNemar's test.

    Examples
    --------
    >>> found = compare_seeds(
    ...     [1, 1, 0, 0], [[0.9, 0.4, 0.2, 0.6], [0.8, 0.7, 0.6, 0.1]],
    ...     [[0.9, 0.8, 0.2, 0.1], [0.7, 0.6, 0.2, 0.3]],
    ... )
    >>> found[["study_type", "kappa_a", "kappa_b", "kappa_difference"]]
      study_type  kappa_a  kappa_b  kappa_difference
    0    overall     0.25      1.0              0.75
    """
    if n_resamples < 1:
        raise ValueError(f"expected at least one resample, got n_resamples={n_resamples!r}")
    y_true = check_binary(y_true, "y_true")
    scores = [_checked(y_scores_a, "y_scores_a"), _checked(y_scores_b, "y_scores_b")]
    n_seeds = len(scores[0])
    if len(scores[1]) != n_seeds:
        raise ValueError(
            f"expected both settings with the same seeds, got {n_seeds} and {len(scores[1])} rows "
            "of scores; leave out seeds that only one has"
        )
    check_lengths(
        y_true=y_true,
        y_scores_a=scores[0][0],
        y_scores_b=scores[1][0],
        study_type=study_type,
        groups=groups,
    )
    models = [row for own in scores for row in own]
    pair = threshold_pair(threshold)
    thresholds = np.concatenate([check_threshold(own, n_seeds) for own in pair])
    decisions = [
        (score > limit).astype(np.int64) for score, limit in zip(models, thresholds, strict=True)
    ]
    unit = "studies" if groups is None else "patients"
    return pd.DataFrame(
        {"study_type": name} | _row(part, n_seeds, n_resamples, random_state, unit)
        for name, part in ordered_parts(study_type, groups, y_true, *models, *decisions)
    )


def _checked(scores, name):
    """Return scores as a list of one array per seed, at least one."""
    array = np.asarray(scores, dtype=float)
    if array.ndim != 2 or not len(array):
        raise ValueError(
            f"expected {name} of shape (n_seeds, n_studies), got {array.shape}; pass one row of "
            "probabilities for each seed"
        )
    return [check_scores(row, name) for row in array]


def _row(part, n_seeds, n_resamples, random_state, unit):
    """Compare the settings on one study type."""
    y_true, *columns, codes = part
    scores, decisions = columns[: 2 * n_seeds], columns[2 * n_seeds :]
    points, drawn = model_figures(y_true, scores, decisions, codes, n_resamples, random_state)
    n_patients = int(codes.max(initial=-1)) + 1
    row: dict[str, Any] = {"n": len(y_true), "n_patients": n_patients, "n_seeds": n_seeds}
    undefined: list[str] = []
    for name, values in points.items():
        a, b = np.split(np.array(values), 2)
        differences = b - a
        resampled = drawn[name][n_seeds:].mean(axis=0) - drawn[name][:n_seeds].mean(axis=0)
        low, high = percentiles(resampled, n_resamples)
        if np.isnan(differences).any():
            low, high = np.nan, np.nan
        undefined += why_undefined(name, differences.mean(), low, n_patients)
        key = f"{name}_difference"
        row |= {f"{name}_a": a.mean(), f"{name}_b": b.mean(), key: differences.mean()}
        row |= {f"{key}_low": low, f"{key}_high": high}
        row[f"{key}_sd"] = differences.std(ddof=1) if n_seeds > 1 else np.nan
    row["caution"] = caution_of(n_patients, unit)
    return row | {"undefined": "; ".join(undefined)}
