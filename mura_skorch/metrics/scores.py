"""Scores of studies or views: true labels and probabilities in, a table with intervals out."""

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.metrics.kappa import warn_zero_width
from mura_skorch.metrics.tables import score_table

__all__ = ["study_scores", "view_scores"]


def study_scores(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    study_type: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    threshold: ArrayLike = 0.5,
    interval: Literal["auto", "bootstrap", "analytic", "as-printed"] = "auto",
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Table of scores of studies: one row per study type and a last one over all studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    study_type : array-like of shape (n_studies,) or None, default=None
        Study types, any strings. None gives the row over all studies alone.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients. A patient's studies, of whatever type, are resampled together. None makes each
        study its own patient.
    threshold : float in [0, 1] or array-like of shape (n_studies,), default=0.5
        A study is called abnormal if its probability is strictly greater.
    interval : {"auto", "bootstrap", "analytic", "as-printed"}, default="auto"
        Method of the 95 % interval of kappa, see :func:`kappa_interval`. "auto" is the bootstrap
        over patients where `groups` is given and "analytic" where it is not.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int, numpy Generator or None, default=0
        Source of the resamples. With an int each row has the interval that it would have alone.

    Returns
    -------
    DataFrame
        Columns `study_type`, `level` ("study"), `n`, `n_abnormal`, `tp`, `fn`, `fp`, `tn`
        (studies); for each metric of `METRICS` the figure and, with `_low` and `_high` after its
        name, the ends of its 95 % interval; `undefined`, which names the figures that are NaN with
        the reason, such as "auroc: only one class; ppv: none called abnormal", and is "" where all
        stand. Rows in the sorted order of the types, then "overall", which pools the studies and
        averages nothing.

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a score is NaN or outside [0, 1], a type or a
        patient is missing, a type is called "overall", or a parameter is out of range.

    Warns
    -----
    RuntimeWarning
        If the interval of a row's kappa has no width; the rows are named.

    Notes
    -----
    Sensitivity, specificity, PPV and NPV are shares of cases and have Wilson's interval [1]_, which
    takes the cases for independent. Accuracy, F1, AUROC, average precision (the step-wise area
    under precision and recall), the Brier score and the expected calibration error have the
    percentiles of a bootstrap over patients.

    The expected calibration error puts the probabilities in `ECE_BINS` bins of equal width, closed
    on the left, the last on both sides, and averages the distance between mean probability and
    share of abnormal studies, weighted by the bins' sizes [2]_. Chance alone makes it greater than
    0, and resampling adds chance: with few studies its interval lies high.

    References
    ----------
    .. [1] Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22,
       1927.
    .. [2] Guo et al., "On calibration of modern neural networks", arXiv:1706.04599, 2017.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> scores = study_scores(
    ...     [1, 1, 0, 0, 1, 0],
    ...     [0.9, 0.4, 0.2, 0.1, 0.7, 0.8],
    ...     study_type=["XR_WRIST"] * 4 + ["XR_HAND"] * 2,
    ... )
    >>> scores[["study_type", "n", "kappa", "auroc", "sensitivity"]].round(2)
      study_type  n  kappa  auroc  sensitivity
    0    XR_HAND  2   0.00   0.00         1.00
    1   XR_WRIST  4   0.50   1.00         0.50
    2    overall  6   0.33   0.78         0.67
    >>> scores["undefined"].tolist()
    ['npv: none called normal', '', '']
    """
    columns = y_true, y_score, study_type, groups
    scores = score_table("study", *columns, threshold, interval, n_resamples, random_state)
    _warn_zero_width(scores)
    return scores


def view_scores(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    study_type: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    threshold: ArrayLike = 0.5,
    interval: Literal["auto", "bootstrap", "analytic", "as-printed"] = "auto",
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    """Table of scores of single views, each judged by the label of its study.

    Not what the MURA paper reports, and not to be set beside it: a study counts as often as it has
    views. `level` is "view" in every row, so that the two cannot be taken for each other.

    Parameters
    ----------
    y_true : array-like of shape (n_views,)
        Labels of the views' studies, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_views,)
        Probabilities of abnormality, in [0, 1].
    study_type, groups, threshold, interval, n_resamples, random_state
        As for :func:`study_scores`, with one entry per view. Without `groups`, and in Wilson's
        intervals always, views of one study count as independent, which is too narrow.

    Returns
    -------
    DataFrame
        As :func:`study_scores`; counts are views.

    Raises
    ------
    ValueError
        As :func:`study_scores`.

    Examples
    --------
    >>> from mura_skorch.metrics import view_scores
    >>> scores = view_scores([1, 1, 0], [0.9, 0.3, 0.2], groups=["a", "a", "b"])
    >>> scores[["level", "n", "tp", "fn"]].to_dict("records")
    [{'level': 'view', 'n': 3, 'tp': 1, 'fn': 1}]
    """
    columns = y_true, y_score, study_type, groups
    scores = score_table("view", *columns, threshold, interval, n_resamples, random_state)
    _warn_zero_width(scores)
    return scores


def _warn_zero_width(scores):
    """Warn, naming the rows, of intervals of kappa without width."""
    pointlike = scores.study_type[scores.kappa_low == scores.kappa_high]
    if len(pointlike):
        warn_zero_width(f" of {', '.join(map(str, pointlike))}", stacklevel=4)
