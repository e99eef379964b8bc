"""Scores of studies: true labels and probabilities in, a table of figures with intervals out.

Everything that is a function of a confusion table lives in `COUNT_METRICS`, and the intervals take
any function of a confusion table: another metric, or the interval of another metric, is one line.
"""

import warnings
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

METHODS = ("analytic", "bootstrap", "as-printed")
OVERALL = "overall"
MIN_DEFINED = 0.5  # share of resamples that must be defined for their percentiles to mean anything
CHUNK_CELLS = 2**21  # cells of the largest temporary array of the bootstrap: 16 MiB


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
    y_true = _check_binary(y_true, "y_true")
    y_pred = _check_binary(y_pred, "y_pred")
    _check_lengths(y_true=y_true, y_pred=y_pred)
    return float(_kappa(_group_counts(y_true, y_pred, None).sum(axis=0)))


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
    y_true = _check_binary(y_true, "y_true")
    y_pred = _check_binary(y_pred, "y_pred")
    _check_lengths(y_true=y_true, y_pred=y_pred, groups=groups)
    counts = _group_counts(y_true, y_pred, groups if method == "bootstrap" else None)
    found = _kappa_interval(counts, method, confidence, n_resamples, random_state)
    if found.zero_width:
        _warn_zero_width("")
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
    """Table of scores: one row per study type and a last one over all studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    study_type : array-like of shape (n_studies,) or None, default=None
        Study types, any strings. None gives the row over all studies alone.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients. A patient's studies, of whatever type, are resampled together.
    threshold : float in [0, 1], default=0.5
        A study is called abnormal if its probability is strictly greater.
    interval : {"auto", "bootstrap", "analytic", "as-printed"}, default="auto"
        Method of the 95 % interval, see :func:`kappa_interval`. "auto" is the bootstrap over
        patients where `groups` is given and "analytic" where it is not.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int, numpy Generator or None, default=0
        Source of the resamples. With an int each row has the interval that it would have alone.

    Returns
    -------
    DataFrame
        Columns `study_type`, `n`, `n_abnormal`, `tp`, `fn`, `fp`, `tn` (studies), `kappa`,
        `kappa_low`, `kappa_high`, `auroc`, `sensitivity`, `specificity`, `accuracy`. Rows in the
        sorted order of the types, then "overall", which pools the studies and averages nothing. An
        undefined figure is NaN: AUROC of a single class, sensitivity without abnormal studies.

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a score is NaN or outside [0, 1], a type or a
        patient is missing, a type is called "overall", or `interval` is unknown.

    Warns
    -----
    RuntimeWarning
        If the interval of a row has no width; the rows are named.

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
    """
    if interval not in ("auto", *METHODS):
        raise ValueError(f"expected interval to be one of {('auto', *METHODS)}, got {interval!r}")
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a threshold in [0, 1], got {threshold!r}")
    y_true = _check_binary(y_true, "y_true")
    y_score = _check_scores(y_score)
    _check_lengths(y_true=y_true, y_score=y_score, study_type=study_type, groups=groups)
    patients = None if groups is None else _codes(groups, "groups")[0]
    parts = {OVERALL: np.ones(len(y_true), dtype=bool)}
    if study_type is not None:
        codes, types = _codes(study_type, "study_type")
        if OVERALL in types:
            raise ValueError(
                f"expected study types other than {OVERALL!r}, which names the pooled row, "
                "got it as a study type; rename that type"
            )
        order = np.argsort(types.astype(str))
        parts = {types[code]: codes == code for code in order} | parts
    if interval == "auto":
        interval = "analytic" if groups is None else "bootstrap"

    def row(name, part):
        counts = _group_counts(
            y_true[part],
            y_score[part] > threshold,
            patients[part] if patients is not None and interval == "bootstrap" else None,
        )
        tn, fp, fn, tp = total = counts.sum(axis=0)
        found = _kappa_interval(counts, interval, 0.95, n_resamples, random_state)
        figures = {metric: float(of(total)) for metric, of in COUNT_METRICS.items()}
        return {
            "study_type": name,
            **{"n": total.sum(), "n_abnormal": fn + tp, "tp": tp, "fn": fn, "fp": fp, "tn": tn},
            **{"kappa": found.kappa, "kappa_low": found.low, "kappa_high": found.high},
            "auroc": _auroc(y_true[part], y_score[part]),
            **{metric: figures[metric] for metric in ("sensitivity", "specificity", "accuracy")},
        }

    scores = pd.DataFrame([row(name, part) for name, part in parts.items()])
    pointlike = scores.study_type[scores.kappa_low == scores.kappa_high]
    if len(pointlike):
        _warn_zero_width(f" of {', '.join(map(str, pointlike))}")
    return scores


def _divide(a, b):
    """Quotient of floats, NaN where the divisor is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)


def _kappa(counts):
    """Kappa of confusion tables of shape (..., 4).

    The textbook quotient times n squared, over 1: sums of products of integers, so the divisor is
    exactly 0 where kappa is undefined, and a table twice as large has the same kappa.
    """
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    divisor = (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn)
    return _divide(2 * (tp * tn - fn * fp), divisor)


def _sensitivity(counts):
    """Share of the abnormal studies that are called so."""
    _, _, fn, tp = np.moveaxis(np.asarray(counts), -1, 0)
    return _divide(tp, tp + fn)


def _specificity(counts):
    """Share of the normal studies that are called so."""
    tn, fp, _, _ = np.moveaxis(np.asarray(counts), -1, 0)
    return _divide(tn, tn + fp)


def _accuracy(counts):
    """Share of the studies that are called right."""
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts), -1, 0)
    return _divide(tn + tp, tn + fp + fn + tp)


# Functions of confusion tables (..., 4) in scikit-learn's order tn, fp, fn, tp, to values (...).
COUNT_METRICS = {
    "kappa": _kappa,
    "sensitivity": _sensitivity,
    "specificity": _specificity,
    "accuracy": _accuracy,
}


def _kappa_interval(counts, method, confidence, n_resamples, random_state):
    """Kappa and interval of checked counts of shape (n_groups, 4)."""
    total = counts.sum(axis=0)
    kappa = float(_kappa(total))
    if np.isnan(kappa):
        return KappaInterval(np.nan, np.nan, np.nan)
    if method == "bootstrap":
        ends = _bootstrap(_kappa, counts, confidence, n_resamples, random_state)
        return KappaInterval(kappa, *ends)
    tn, fp, fn, tp = (int(cell) for cell in total)
    n = tn + fp + fn + tp
    agreement = (tn + tp) / n
    chance = ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / n**2
    error = agreement * (1 - agreement) / (n * (1 - chance) ** 2)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    if method == "as-printed":
        return KappaInterval(kappa, kappa - z * error, kappa + z * error)
    reach = z * error**0.5
    return KappaInterval(kappa, max(kappa - reach, -1.0), min(kappa + reach, 1.0))


def _bootstrap(statistic, counts, confidence, n_resamples, random_state):
    """Percentile interval of a function of confusion tables, over resamples of the groups.

    Groups with equal tables are interchangeable: drawing how often each *distinct* table comes up
    is the same multinomial with its equal cells merged, and has a few dozen cells, not 100,000.
    Sorting by table also makes the result independent of the order of the studies.
    """
    if len(counts) < 2:
        return np.nan, np.nan
    distinct, times = np.unique(counts, axis=0, return_counts=True)
    distinct = distinct.astype(float)
    rng = np.random.default_rng(random_state)
    step = max(1, CHUNK_CELLS // len(distinct))
    values = np.concatenate(
        [
            statistic(
                rng.multinomial(
                    len(counts), times / len(counts), size=min(step, n_resamples - start)
                )
                @ distinct
            )
            for start in range(0, n_resamples, step)
        ]
    )
    values = values[~np.isnan(values)]
    if len(values) < MIN_DEFINED * n_resamples:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _group_counts(y_true, y_pred, groups):
    """Confusion counts (tn, fp, fn, tp) of each group: int array of shape (n_groups, 4)."""
    if groups is None:
        groups = np.arange(len(y_true))
    codes, names = _codes(groups, "groups")
    cell = 2 * y_true + y_pred
    flat = np.bincount(4 * codes + cell, minlength=4 * len(names))
    return flat.reshape(len(names), 4)


def _auroc(y_true, y_score):
    """Area under the ROC curve, NaN unless both classes are there."""
    if len(np.unique(y_true)) < 2:
        return np.nan
    return float(roc_auc_score(y_true, y_score))


def _codes(values, name):
    """Integer codes of values and the distinct values, none of which may be missing."""
    codes, distinct = pd.factorize(np.asarray(values, dtype=object))
    if (codes < 0).any():
        raise ValueError(
            f"expected {name} without missing values, got one in row {int(np.argmin(codes))}; "
            f"fill it in or leave that row out"
        )
    return codes, distinct


def _check_binary(values, name):
    """Labels as an int64 array of 0 and 1."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"expected {name} of one dimension, got shape {array.shape}")
    wrong = ~pd.Series(array, dtype=object).isin([0, 1]).to_numpy()
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected {name} to be 0 (normal) or 1 (abnormal), got {array.tolist()[row]!r} in row "
            f"{row}; leave unlabelled studies out, and put a threshold to probabilities"
        )
    return array.astype(np.int64)


def _check_scores(values):
    """Probabilities as a float64 array."""
    array = np.asarray(values, dtype=float)
    if array.ndim != 1:
        raise ValueError(
            f"expected y_score of one dimension, got shape {array.shape}; "
            "of predict_proba take the column of the abnormal class, [:, 1]"
        )
    wrong = ~((array >= 0) & (array <= 1))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ValueError(
            f"expected y_score to be probabilities in [0, 1], got {float(array[row])} in row "
            f"{row}; take predict_proba rather than logits, and look for NaN in the views"
        )
    return array


def _check_lengths(**columns):
    """One length for all that is given."""
    lengths = {name: len(column) for name, column in columns.items() if column is not None}
    if len(set(lengths.values())) > 1:
        got = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"expected one entry per study, got lengths {got}; align them first")


def _warn_zero_width(rows):
    """Warn of an interval that looks like certainty."""
    warnings.warn(
        f"zero width of the interval of kappa{rows}, as when all studies agree, all disagree or "
        "all are called alike; it says nothing about certainty: report the number of studies "
        "beside it or score more studies",
        RuntimeWarning,
        stacklevel=3,
    )
