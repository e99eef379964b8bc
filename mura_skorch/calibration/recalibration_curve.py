"""How many local studies a recalibration needs: a learning curve over draws of patients."""

import warnings

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.calibration.operating_point import apply_platt, fit_platt
from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores
from mura_skorch.utils.identity import patient_codes

__all__ = ["enough_studies", "recalibration_curve"]

SIZES = (10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000)
BAND = (0.05, 0.95)  # of the draws
EPS = 1e-7  # keeps the log loss of probabilities 0 and 1 finite


def recalibration_curve(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    sizes: ArrayLike | None = None,
    n_draws: int = 200,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Return what recalibration by slope and intercept gains from more and more local studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality from a model that was trained elsewhere, in [0, 1].
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, the units of drawing. None treats each study as its own patient.
    sizes : array-like of int, optional
        Numbers of local studies to fit on. None takes 10, 20, 30, 50, 75, 100 and so on, up to 90 %
        of half the studies.
    n_draws : int, default=200
        Draws of patients.
    random_state : int, numpy Generator or None, default=0
        Source of the draws.

    Returns
    -------
    DataFrame
        One row per size, and a first one for 0 studies, which is no recalibration: `n_studies`;
        `n_fitted`, the draws in which a line could be fitted; `slope` and `intercept`, their
        median over these draws; `log_loss`, `log_loss_change` (negative is better) and
        `mean_error` (the distance between the mean probability and the share of abnormal studies),
        their means over all draws; each with `_low` and `_high`, the 5 % and 95 % quantiles over
        the draws; and `share_better`, the share of draws with a lower log loss than without
        recalibration.

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a score is not in [0, 1], there are fewer than
        four patients, or no size fits into half of the studies.

    Notes
    -----
    Each draw divides the patients at random into two halves. One half scores. From the other half
    patients are taken until they have as many studies as the size says, and `fit_platt` is fitted
    on these. All sizes of a draw share the scoring half. So no patient is fitted and scored in one
    draw. A draw in which no line can be fitted, for example because all its studies are normal,
    keeps the probabilities as they are.

    The bands show how much the result depends on which local patients happen to come, for a
    hospital like this one. They are not intervals for another hospital.

    Examples
    --------
    >>> from scipy.special import expit
    >>> rng = np.random.default_rng(0)
    >>> logit = rng.normal(0, 3, 400)
    >>> y_true = rng.random(400) < expit(0.5 * logit - 1)  # scores are too extreme and too high
    >>> curve = recalibration_curve(y_true, expit(logit), n_draws=50)
    >>> bool(curve["log_loss_change"].iloc[-1] < 0)
    True
    """
    y_true = check_binary(y_true, "y_true")
    y_score = check_scores(y_score)
    check_lengths(y_true=y_true, y_score=y_score, groups=groups)
    if n_draws < 1:
        raise ValueError(f"expected at least one draw, got n_draws={n_draws!r}")
    codes = np.arange(len(y_true)) if groups is None else patient_codes(groups, "groups")
    n_patients = len(np.unique(codes))
    if n_patients < 4:
        raise ValueError(
            f"expected at least four patients to divide, got {n_patients}; add studies"
        )
    chosen = _sizes(sizes, len(y_true))
    rng = np.random.default_rng(random_state)
    found = [
        _draw(y_true, y_score, scored, pool, codes, chosen)
        for scored, pool in _halves(codes, n_draws, rng)
    ]
    # Draws, sizes, measures.
    values = np.array(found)
    before = values[:, 0, 2][:, None]
    rows = []
    for k, size in enumerate([0, *chosen]):
        slope, intercept, log_loss, mean_error = values[:, k].T
        is_fitted = ~np.isnan(slope)
        row = {"n_studies": size, "n_fitted": int(is_fitted.sum()) if size else 0}
        row |= _summary("slope", slope[is_fitted], np.median)
        row |= _summary("intercept", intercept[is_fitted], np.median)
        row |= _summary("log_loss", log_loss, np.mean)
        row |= _summary("log_loss_change", log_loss - before[:, 0], np.mean)
        row |= _summary("mean_error", mean_error, np.mean)
        row["share_better"] = float((log_loss < before[:, 0]).mean())
        rows.append(row)
    return pd.DataFrame(rows)


def enough_studies(curve: pd.DataFrame, *, share: float = 0.9) -> int | None:
    """Return how many local studies a recalibration needs to be an improvement.

    Parameters
    ----------
    curve : DataFrame
        What `recalibration_curve` returns.
    share : float, default=0.9
        Share of draws that must have a lower log loss than without recalibration.

    Returns
    -------
    int or None
        The smallest size of the curve from which on, at this size and at all larger ones, at least
        that share of draws is better. None if there is none: the probabilities may be calibrated
        as they are, or more studies are needed than the curve has.

    Examples
    --------
    >>> curve = pd.DataFrame({"n_studies": [0, 10, 20, 50], "share_better": [0, 0.7, 0.92, 1]})
    >>> enough_studies(curve)
    20
    """
    rows = curve[curve["n_studies"] > 0].sort_values("n_studies", ascending=False)
    found = None
    for size, better in zip(rows["n_studies"].tolist(), rows["share_better"].tolist(), strict=True):
        if better < share:
            break
        found = int(size)
    return found


def _sizes(sizes, n_studies):
    """Return the sizes that fit into half of the studies."""
    largest = int(0.9 * (n_studies // 2))
    given = sorted({int(size) for size in (SIZES if sizes is None else np.asarray(sizes))})
    chosen = [size for size in given if 0 < size <= largest]
    if not chosen:
        raise ValueError(
            f"expected a size from 1 to {largest}, which is 90 % of half the {n_studies} studies, "
            f"got {', '.join(map(str, given))}; add studies or pass smaller sizes"
        )
    return chosen


def _halves(codes, n_draws, rng):
    """Yield the rows that score and the rows to fit on, in the order of their patients."""
    patients = np.unique(codes)
    for _ in range(n_draws):
        order = rng.permutation(patients)
        scoring, fitting = np.array_split(order, 2)
        place = np.full(codes.max() + 1, -1)
        place[fitting] = np.arange(len(fitting))
        rows = np.flatnonzero(place[codes] >= 0)
        yield np.isin(codes, scoring), rows[np.argsort(place[codes[rows]], kind="stable")]


def _draw(y_true, y_score, scored, pool, codes, sizes):
    """Return slope, intercept, log loss and error of the mean without and with recalibration."""
    label, score = y_true[scored], y_score[scored]
    found = [(np.nan, np.nan, *_errors(label, score))]
    ends = np.flatnonzero(np.diff(codes[pool], append=-1)) + 1  # rows up to the end of a patient
    for size in sizes:
        rows = pool[: ends[min(np.searchsorted(ends, size), len(ends) - 1)]]
        slope, intercept = _fit(y_true[rows], y_score[rows])
        after = score if np.isnan(slope) else apply_platt(score, slope, intercept)
        found.append((slope, intercept, *_errors(label, after)))
    return found


def _fit(y_true, y_score):
    """Return the line, NaN where there is none to fit."""
    if len(np.unique(y_true)) < 2 or len(np.unique(y_score)) < 2:
        return np.nan, np.nan
    with warnings.catch_warnings():
        # Of scores in the wrong order, as a few studies may have: it is one draw of many.
        warnings.simplefilter("ignore", UserWarning)
        return fit_platt(y_true, y_score)


def _errors(y_true, y_score):
    """Return the log loss, and the distance of the mean probability from the share of abnormal."""
    score = np.clip(y_score, EPS, 1 - EPS)
    log_loss = -np.mean(np.where(y_true == 1, np.log(score), np.log1p(-score)))
    return float(log_loss), float(abs(score.mean() - y_true.mean()))


def _summary(name, values, middle):
    """Return the middle and the band of values over the draws; NaN without any."""
    if not len(values):
        return {name: np.nan, f"{name}_low": np.nan, f"{name}_high": np.nan}
    low, high = np.quantile(values, BAND)
    return {name: float(middle(values)), f"{name}_low": float(low), f"{name}_high": float(high)}
