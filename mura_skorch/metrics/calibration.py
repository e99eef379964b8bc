"""Calibration bins and the expected calibration error."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores

__all__ = ["ECE_BINS", "calibration_bins", "calibration_error"]

ECE_BINS = 15  # equal-width bins of [0, 1]; Guo et al., arXiv:1706.04599
EDGES = np.arange(ECE_BINS + 1) / ECE_BINS


def calibration_bins(y_true: ArrayLike, y_score: ArrayLike) -> pd.DataFrame:
    """Count studies and average their probabilities in bins of equal width.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].

    Returns
    -------
    DataFrame of `ECE_BINS` rows
        `low` and `high`, the ends of the bin; `n_normal` and `n_abnormal`, numbers of studies;
        `mean_score` and `share_abnormal`, NaN in an empty bin. A bin includes its lower end; the
        last one also includes 1.

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, or a score is NaN or outside [0, 1].

    Examples
    --------
    >>> from mura_skorch.metrics import calibration_bins
    >>> bins = calibration_bins([0, 1, 1], [0.2, 0.25, 1.0])
    >>> bins.loc[bins.n_normal + bins.n_abnormal > 0, ["n_abnormal", "share_abnormal"]]
        n_abnormal  share_abnormal
    3            1             0.5
    14           1             1.0
    """
    y_true, y_score = check_binary(y_true, "y_true"), check_scores(y_score)
    check_lengths(y_true=y_true, y_score=y_score)
    bins = np.searchsorted(EDGES[1:-1], y_score, side="right")
    n, n_abnormal, total = (
        np.bincount(bins, weights, minlength=ECE_BINS) for weights in (None, y_true, y_score)
    )
    filled = n > 0
    return pd.DataFrame(
        {
            "low": EDGES[:-1],
            "high": EDGES[1:],
            "n_normal": n - n_abnormal.astype(int),
            "n_abnormal": n_abnormal.astype(int),
            "mean_score": np.divide(total, n, out=np.full(ECE_BINS, np.nan), where=filled),
            "share_abnormal": np.divide(n_abnormal, n, out=np.full(ECE_BINS, np.nan), where=filled),
        }
    )


def calibration_error(y_true: ArrayLike, y_score: ArrayLike) -> float:
    """Return the expected calibration error, NaN without studies; see `study_scores`."""
    bins = calibration_bins(y_true, y_score)
    n = bins["n_normal"] + bins["n_abnormal"]
    if not n.sum():
        return float("nan")
    return float((n * (bins["share_abnormal"] - bins["mean_score"]).abs()).sum() / n.sum())
