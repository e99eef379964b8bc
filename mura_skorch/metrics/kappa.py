"""Cohen's kappa with its confidence interval."""

import warnings
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mura_skorch.metrics.checks import check_binary, check_lengths
from mura_skorch.metrics.intervals import METHODS, confusion_counts, kappa_of, kappa_with_ends
from mura_skorch.utils.identity import patient_codes

__all__ = ["KappaInterval", "kappa_interval", "kappa_score", "warn_zero_width"]


class KappaInterval(NamedTuple):
    """Cohen's kappa, with the ends of its interval.

    Unpacks into three values. `zero_width` flags an interval of a single point, which occurs if all
    studies agree or all disagree. It does not mean certainty.
    """

    kappa: float
    low: float
    high: float

    @property
    def zero_width(self) -> bool:
        """Whether the interval is defined but is a single point."""
        return bool(self.low == self.high)


def kappa_score(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Return Cohen's kappa of binary predictions.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_pred : array-like of shape (n_studies,)
        Predicted labels, 0 or 1.

    Returns
    -------
    float
        Kappa in [-1, 1]. NaN, without a warning, if undefined: no studies, or labels and
        predictions of one and the same class.

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
    y_true: ArrayLike,
    y_pred: ArrayLike,
    *,
    method: Literal["analytic", "bootstrap", "as-printed"] = "analytic",
    groups: ArrayLike | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> KappaInterval:
    r"""Return Cohen's kappa of binary predictions with its confidence interval.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_pred : array-like of shape (n_studies,)
        Predicted labels, 0 or 1. Kappa is symmetric: a second reader's labels work as well.
    method : {"analytic", "bootstrap", "as-printed"}, default="analytic"
        Method of the interval, see Notes.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, the units of the bootstrap. None treats each study as its own patient. The other
        methods ignore `groups` and assume independent studies.
    confidence : float in (0, 1), default=0.95
        Nominal coverage of the interval.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int, numpy Generator or None, default=0
        Seed of the resamples. None gives different resamples in each call.

    Returns
    -------
    KappaInterval
        `(kappa, low, high)`, with the property `zero_width`. All three are NaN if kappa is
        undefined: no studies, or labels and predictions of one and the same class.

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a patient is missing, or a parameter is out of
        range.

    Warns
    -----
    RuntimeWarning
        The interval has zero width.

    Notes
    -----
    With n studies, :math:`p_a` the observed and :math:`p_e` the chance agreement, and z the normal
    quantile of the coverage:

    "analytic"
        :math:`\kappa \pm z \sqrt{p_a (1 - p_a) / (n (1 - p_e)^2)}` [1]_, clipped to [-1, 1]. Chance
        agreement is assumed fixed and studies independent.
    "bootstrap"
        Percentiles of kappa over resamples of patients, which allows for the similarity of studies
        of one patient. Resamples with undefined kappa are dropped. The ends are NaN if fewer than
        half remain, or with fewer than two patients.
    "as-printed"
        :math:`\kappa \pm z\, p_a (1 - p_a) / (n (1 - p_e)^2)`, as in the official MURA scorer,
        which omits the square root. Far too narrow and not clipped: use it only to reproduce
        published tables [2]_.

    References
    ----------
    .. [1] McHugh, "Interrater reliability: the kappa statistic", Biochemia Medica 22, 2012.
    .. [2] Rajpurkar et al., "MURA: Large Dataset for Abnormality Detection in Musculoskeletal
       Radiographs", arXiv:1712.06957v4, Table 2.

    Examples
    --------
    The paper's model on its 207 test studies, and the interval printed in the paper:

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
        codes = patient_codes(groups, "groups")
    counts = confusion_counts(y_true, y_pred, codes)
    found = KappaInterval(*kappa_with_ends(counts, method, confidence, n_resamples, random_state))
    if found.zero_width:
        warn_zero_width("")
    return found


def warn_zero_width(rows: str, stacklevel: int = 3) -> None:
    """Warn the caller of a public function about an interval of zero width."""
    warnings.warn(
        f"zero width of the interval of kappa{rows}: all studies agree, all disagree or all have "
        "the same decision. This does not mean certainty; report the number of studies with it, or "
        "score more studies",
        RuntimeWarning,
        stacklevel=stacklevel,
    )
