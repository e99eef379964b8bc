"""Tables of scores with confidence intervals, at study or view level."""

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
    mean_of_types: bool = False,
) -> pd.DataFrame:
    """Return a table of scores: one row per study type and a last one over all studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    study_type : array-like of shape (n_studies,) or None, default=None
        Study types, any strings. None gives only the row over all studies.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, the units of resampling. None treats each study as its own patient.
    threshold : float in [0, 1] or array-like of shape (n_studies,), default=0.5
        A study is called abnormal if its probability is strictly greater.
    interval : {"auto", "bootstrap", "analytic", "as-printed"}, default="auto"
        Method of the 95 % interval of kappa, see :func:`kappa_interval`. "auto" is the bootstrap
        over patients with `groups`, and "analytic" without.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int, numpy Generator or None, default=0
        Seed of the resamples. With an int, the interval of a row does not depend on other rows.
    mean_of_types : bool, default=False
        Add a row "mean of types" above "overall" if there are two types or more: the unweighted
        mean over study types.

    Returns
    -------
    DataFrame
        One row per study type (sorted), then "overall", which pools all studies:

        - `study_type`, `level` ("study"), `n`, `n_abnormal`, `tp`, `fn`, `fp`, `tn` (studies);
        - each metric of `METRICS` and, except for the calibration error, the ends of its 95 %
          interval in `<metric>_low` and `<metric>_high`;
        - `caution`, such as "fewer than 50 patients", if the intervals of kappa and AUROC are
          likely to be too narrow, else "";
        - `undefined`, the metrics that are NaN with the reason, such as "auroc: only one class;
          ppv: none called abnormal", else "".

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a score is NaN or outside [0, 1], a type or a
        patient is missing, a type is called "overall" or "mean of types", or a parameter is out of
        range.

    Warns
    -----
    RuntimeWarning
        The interval of a kappa has zero width; the rows are named.

    Notes
    -----
    Sensitivity, specificity, PPV and NPV have Wilson's interval [1]_, which assumes independent
    studies. Accuracy, F1, AUROC, average precision (the step-wise area under precision and recall)
    and the Brier score have percentile intervals of a bootstrap over patients, as have all metrics
    in the row "mean of types".

    The expected calibration error puts the probabilities in `ECE_BINS` bins of equal width, see
    :func:`mura_skorch.metrics.calibration_bins`. It averages the distance between mean probability
    and share of abnormal studies, weighted by the size of the bins [2]_. It is above 0 by chance
    even for perfectly calibrated probabilities [3]_. Resampling adds to this bias, so a percentile
    interval would often lie above the estimate itself; therefore there is none.

    The row "overall" ranks studies of all types against each other. If the prevalence differs
    between types, its AUROC, average precision and calibration error reward a model that merely
    recognises the type. If different models scored the types, each on its own scale, the pooled
    ranking says little about any of them. The mean of types has neither problem.

    With fewer than 50 patients, intervals of kappa and AUROC tend to be too narrow. In simulated
    tables of 30 studies, 95 % intervals covered a kappa of .92 in 68 %, a kappa of .70 in 93 % and
    an AUROC of .93 in 87 %. From 160 studies, coverage was 93 to 96 %.

    References
    ----------
    .. [1] Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22,
       1927.
    .. [2] Guo et al., "On calibration of modern neural networks", arXiv:1706.04599, 2017.
    .. [3] Kumar, Liang and Ma, "Verified uncertainty calibration", arXiv:1909.10155, 2019.

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
    scores = score_table(
        "study", *columns, threshold, interval, n_resamples, random_state, mean_of_types
    )
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
    mean_of_types: bool = False,
) -> pd.DataFrame:
    """Return a table of scores of single views, each with the label of its study.

    These scores are not comparable with the MURA paper, since a study with more views counts more.
    `level` is "view" in every row, so that the two levels cannot be confused.

    Parameters
    ----------
    y_true : array-like of shape (n_views,)
        Labels of the views' studies, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_views,)
        Probabilities of abnormality, in [0, 1].
    study_type, groups, threshold, interval, n_resamples, random_state, mean_of_types
        As for :func:`study_scores`, with one entry per view. Without known patients, pass the
        studies as `groups`, since views of one study resemble each other. Without `groups`, and
        always in Wilson's intervals, views are assumed independent: intervals are too narrow.

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
    scores = score_table(
        "view", *columns, threshold, interval, n_resamples, random_state, mean_of_types
    )
    _warn_zero_width(scores)
    return scores


def _warn_zero_width(scores):
    """Warn about intervals of kappa with zero width, and name the rows."""
    rows = scores.study_type[scores.kappa_low == scores.kappa_high]
    if len(rows):
        warn_zero_width(f" of {', '.join(map(str, rows))}", stacklevel=4)
