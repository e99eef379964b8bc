"""How far the best of many settings is optimistic, because the same studies chose it."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.metrics.checks import (
    check_binary,
    check_lengths,
    check_scores,
    check_threshold,
    encode,
)
from mura_skorch.metrics.intervals import kappa_of

__all__ = ["choice_optimism"]

# Of a probability in a logarithm: those of float32 may be exactly 0 or 1.
SMALLEST = 1e-7


def choice_optimism(
    y_true: ArrayLike,
    y_scores: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    by: str = "log_loss",
    threshold: ArrayLike = 0.5,
    n_resamples: int = 500,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return the figures of the best of many settings, as they look and as they are on others.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_scores : array-like of shape (n_settings, n_studies)
        Probabilities of abnormality. No setting may have been trained on these studies.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, the units of resampling. None treats each study as its own patient.
    by : {"log_loss", "kappa"}, default="log_loss"
        What chooses the best setting: the lowest log loss, or the highest kappa.
    threshold : float or array-like of shape (n_settings,), default=0.5
        A study is called abnormal if its probability is strictly greater.
    n_resamples : int, default=500
        Resamples of the patients.
    random_state : int or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame
        Rows ``log_loss`` and ``kappa``. Columns: ``best``, the figure of the chosen setting on the
        studies that chose it; ``corrected``, what to expect on other studies; ``optimism``, how
        much better the first is (positive in both rows). NaN where kappa is undefined.

    Raises
    ------
    ValueError
        If shapes differ, labels are not 0 or 1, a score is not in [0, 1], or `by` is unknown.

    Notes
    -----
    The choice is repeated on resamples of the patients, each time among all settings. The setting
    that a resample chooses is scored on the patients that the resample left out. ``corrected`` is
    the mean of these scores where they are defined [1]_. No setting is trained again. It remains
    optimistic where the epochs were chosen on these studies, too.

    References
    ----------
    .. [1] Tsamardinos, Greasidou and Borboudakis, "Bootstrapping the out-of-sample predictions for
       efficient and accurate cross-validation", Machine Learning 107, 2018.

    Examples
    --------
    >>> scores = np.random.default_rng(0).uniform(size=(40, 60))  # forty settings that know nothing
    >>> found = choice_optimism([0, 1] * 30, scores, by="kappa")
    >>> bool(found.loc["kappa", "best"] > 0.2 > found.loc["kappa", "corrected"])
    True
    """
    if by not in ("log_loss", "kappa"):
        raise ValueError(f"expected by='log_loss' or by='kappa', got {by!r}")
    y_true = check_binary(y_true, "y_true")
    scores = np.asarray(y_scores, dtype=float)
    if scores.ndim != 2 or not len(scores):
        raise ValueError(
            f"expected y_scores of shape (n_settings, n_studies), got {scores.shape}; pass one row "
            "of probabilities for each setting"
        )
    scores = np.stack([check_scores(row, "y_scores") for row in scores])
    check_lengths(y_true=y_true, y_scores=scores[0], groups=groups)
    codes = np.arange(len(y_true)) if groups is None else encode(groups, "groups")[0]
    decisions = scores > check_threshold(threshold, len(scores))[:, None]
    loss = -np.log(np.clip(np.where(y_true, scores, 1 - scores), SMALLEST, None))

    def figures(weight):
        """Return what is better when greater, one row per figure and one column per setting."""
        counts = [
            (decisions if is_abnormal else ~decisions) @ (weight * (y_true == label))
            for label in (0, 1)
            for is_abnormal in (False, True)
        ]
        return np.stack([-(loss @ weight) / weight.sum(), kappa_of(np.stack(counts, axis=-1))])

    row = ("log_loss", "kappa").index(by)
    best = _chosen(figures(np.ones(len(y_true))), row)
    n_patients = int(codes.max(initial=-1)) + 1
    rng = np.random.default_rng(random_state)
    found = []
    for _ in range(n_resamples):
        drawn = np.bincount(rng.integers(n_patients, size=n_patients), minlength=n_patients)[codes]
        left_out = (drawn == 0).astype(float)
        if not left_out.any():
            continue
        inside = figures(drawn.astype(float))[row]
        if not np.isnan(inside).all():
            found.append(figures(left_out)[:, int(np.nanargmax(inside))])
    columns = np.array(found).reshape(-1, 2).T
    corrected = np.array([pd.Series(values).mean() for values in columns])  # without NaN
    sign = np.array([-1.0, 1.0])  # a log loss is better when it is smaller
    return pd.DataFrame(
        {"best": sign * best, "corrected": sign * corrected, "optimism": best - corrected},
        index=["log_loss", "kappa"],
    )


def _chosen(values, row):
    """Return the figures of the setting that is best in a row."""
    if np.isnan(values[row]).all():
        return np.full(len(values), np.nan)
    return values[:, int(np.nanargmax(values[row]))]
