"""Scores of studies or views: true labels and probabilities in, a table with intervals out."""

import warnings
from typing import NamedTuple

import numpy as np

from mura_skorch._checks import check_binary, check_lengths, encode
from mura_skorch._intervals import METHODS, confusion_counts, kappa_of, kappa_with_ends
from mura_skorch._tables import ECE_BINS, METRICS, OVERALL, score_table

__all__ = [
    "ECE_BINS",
    "METHODS",
    "METRICS",
    "OVERALL",
    "KappaInterval",
    "kappa_interval",
    "kappa_score",
    "study_scores",
    "view_scores",
]


class KappaInterval(NamedTuple):
    """Cohen's kappa, with the ends of its interval.

    Unpacks into three; `zero_width` flags an interval without extent, which studies that all agree
    or all disagree give, and which must not be read as certainty.
    """

    kappa: float
    low: float
    high: float

    @property
    def zero_width(self):
        """Whether the interval is defined but is a single point."""
        return bool(self.low == self.high)


def kappa_score(y_true, y_pred):
    """Cohen's kappa of binary predictions.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_pred : array-like of shape (n_studies,)
        Predicted labels, 0 or 1.

    Returns
    -------
    float
        Kappa in [-1, 1]; NaN, silently, where it is undefined: without studies, and where both
        sides hold the same single class.

    Raises
    ------
    ValueError
        If lengths differ or labels are not 0 or 1.

    Examples
    --------
    >>> from mura_skorch.metrics import kappa_score
    >>> kappa_score([1, 1, 0, 0], [1, 0, 0, 0])
    0.5
    >>> kappa_score([0, 0], [0, 0])
    nan
    """
    y_true = check_binary(y_true, "y_true")
    y_pred = check_binary(y_pred, "y_pred")
    check_lengths(y_true=y_true, y_pred=y_pred)
    return float(kappa_of(confusion_counts(y_true, y_pred, np.arange(len(y_true))).sum(axis=0)))


def kappa_interval(
    y_true,
    y_pred,
    *,
    method="analytic",
    groups=None,
    confidence=0.95,
    n_resamples=2000,
    random_state=0,
):
    r"""Cohen's kappa of binary predictions, with its confidence interval.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_pred : array-like of shape (n_studies,)
        Predicted labels, 0 or 1. Kappa is symmetric: a second reader serves as well.
    method : {"analytic", "bootstrap", "as-printed"}, default="analytic"
        Where the interval comes from, see Notes.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, which the bootstrap draws as a whole. None makes each study its own patient. The
        other methods take studies for independent whatever stands here.
    confidence : float in (0, 1), default=0.95
        Coverage that the interval aims at.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int, numpy Generator or None, default=0
        Source of the resamples; None takes fresh entropy, so that no two calls agree.

    Returns
    -------
    KappaInterval
        `(kappa, low, high)`, with the property `zero_width`. All three are NaN where kappa is
        undefined: without studies, and where both sides hold the same single class.

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a patient is missing, or a parameter is out of
        range.

    Warns
    -----
    RuntimeWarning
        If the interval has no width.

    Notes
    -----
    With n studies, :math:`p_a` the observed and :math:`p_e` the chance agreement, and z the normal
    quantile of the coverage:

    "analytic"
        :math:`\kappa \pm z \sqrt{p_a (1 - p_a) / (n (1 - p_e)^2)}` [1]_, clipped to [-1, 1]. Chance
        agreement is taken as fixed and studies as independent.
    "bootstrap"
        Percentiles of kappa over resamples of whole patients, so that studies of one patient may
        be as alike as they are. Patients with equal confusion tables are drawn together, which is
        the same distribution at a fraction of the cost. Resamples without a kappa are dropped; the
        ends are NaN when fewer than half remain, or with fewer than two patients.
    "as-printed"
        :math:`\kappa \pm z\, p_a (1 - p_a) / (n (1 - p_e)^2)`: the official MURA scorer leaves out
        the square root. Far too narrow, unclipped, and only there to match published tables [2]_.

    References
    ----------
    .. [1] McHugh, "Interrater reliability: the kappa statistic", Biochemia Medica 22, 2012.
    .. [2] Rajpurkar et al., "MURA: Large Dataset for Abnormality Detection in Musculoskeletal
       Radiographs", arXiv:1712.06957v4, Table 2.

    Examples
    --------
    The paper's model on its 207 test studies, and the interval that was printed for it:

    >>> from mura_skorch.metrics import kappa_interval
    >>> y_true = [1] * 92 + [0] * 115
    >>> y_pred = [1] * 75 + [0] * 17 + [1] * 13 + [0] * 102
    >>> kappa, low, high = kappa_interval(y_true, y_pred)
    >>> print(f"{kappa:.3f} ({low:.3f}, {high:.3f})")
    0.705 (0.608, 0.803)
    >>> kappa, low, high = kappa_interval(y_true, y_pred, method="as-printed")
    >>> print(f"{kappa:.3f} ({low:.3f}, {high:.3f})")
    0.705 (0.700, 0.710)
    """
    if method not in METHODS:
        raise ValueError(f"expected method to be one of {METHODS}, got {method!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"expected confidence between 0 and 1, got {confidence!r}; 95 % is 0.95")
    if n_resamples < 1:
        raise ValueError(f"expected at least one resample, got n_resamples={n_resamples!r}")
    y_true = check_binary(y_true, "y_true")
    y_pred = check_binary(y_pred, "y_pred")
    check_lengths(y_true=y_true, y_pred=y_pred, groups=groups)
    codes = np.arange(len(y_true))
    if groups is not None and method == "bootstrap":
        codes = encode(groups, "groups")[0]
    counts = confusion_counts(y_true, y_pred, codes)
    found = KappaInterval(*kappa_with_ends(counts, method, confidence, n_resamples, random_state))
    if found.zero_width:
        _warn("")
    return found


def study_scores(
    y_true,
    y_score,
    *,
    study_type=None,
    groups=None,
    threshold=0.5,
    interval="auto",
    n_resamples=2000,
    random_state=0,
):
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
    y_true,
    y_score,
    *,
    study_type=None,
    groups=None,
    threshold=0.5,
    interval="auto",
    n_resamples=2000,
    random_state=0,
):
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
        _warn(f" of {', '.join(map(str, pointlike))}", stacklevel=4)


def _warn(rows, stacklevel=3):
    """Warn a public function's caller of an interval that looks like certainty."""
    warnings.warn(
        f"zero width of the interval of kappa{rows}, as when all studies agree, all disagree or "
        "all are called alike; it says nothing about certainty: report the number of studies "
        "beside it or score more studies",
        RuntimeWarning,
        stacklevel=stacklevel,
    )
