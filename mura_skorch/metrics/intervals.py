"""Confidence intervals: analytic and bootstrap, from confusion counts or ranked scores.

Confusion tables are arrays of shape (..., 4) in scikit-learn's order tn, fp, fn, tp.
"""

from statistics import NormalDist

import numpy as np

METHODS = ("analytic", "bootstrap", "as-printed")
CONFIDENCE = 0.95
N_RESAMPLES = 2000  # default of every figure with a bootstrap interval
MIN_DEFINED = 0.5  # share of resamples that must be defined for a percentile interval
CHUNK_CELLS = 2**20  # cells of the largest temporary array of the bootstrap: 8 MiB


def confusion_counts(y_true, y_pred, groups, n_groups=None):
    """Return the counts of each group, an int array of shape (n_groups, 4)."""
    if n_groups is None:
        n_groups = int(groups.max(initial=-1)) + 1
    cell = 4 * groups + 2 * y_true + y_pred
    return np.bincount(cell, minlength=4 * n_groups).reshape(n_groups, 4)


def kappa_of(counts):
    """Return Cohen's kappa.

    Numerator and denominator of the textbook formula are multiplied by n squared. Both are then
    sums of products of integers, so the denominator is exactly 0 where kappa is undefined.
    """
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts, dtype=float), -1, 0)
    divisor = (tp + fp) * (fp + tn) + (tp + fn) * (fn + tn)
    return _divide(2 * (tp * tn - fn * fp), divisor)


def accuracy_of(counts):
    """Return the share of correct decisions."""
    tn, fp, fn, tp = np.moveaxis(np.asarray(counts), -1, 0)
    return _divide(tn + tp, tn + fp + fn + tp)


def f1_of(counts):
    """Return the harmonic mean of sensitivity and positive predictive value."""
    _, fp, fn, tp = np.moveaxis(np.asarray(counts), -1, 0)
    return _divide(2 * tp, 2 * tp + fp + fn)


def share_of(hit, missed):
    """Return hit / (hit + missed), such as the sensitivity from tp and fn."""
    return _divide(hit, hit + missed)


def wilson(part, total):
    """Return Wilson's interval of a share of independent cases; `part` need be no whole number."""
    if not total:
        return np.nan, np.nan
    share, z = part / total, NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    middle = share + z**2 / (2 * total)
    reach = z * np.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    low, high = (middle - reach) / (1 + z**2 / total), (middle + reach) / (1 + z**2 / total)
    return max(0.0, float(low)), min(1.0, float(high))


def ratio_interval(first, n_first, second, n_second):
    """Return the interval of a ratio of two shares of independent cases; the second is not 0.

    MOVER-R from Wilson's intervals: Newcombe, Statistical Methods in Medical Research 25, 2016.
    """
    low_1, high_1 = wilson(first * n_first, n_first)
    low_2, high_2 = wilson(second * n_second, n_second)
    product = first * second

    def end(sign, of_first, of_second):
        divisor = of_second * (2 * second - of_second)
        root = np.sqrt(max(0.0, product**2 - of_first * (2 * first - of_first) * divisor))
        # The same quotient in two forms: neither cancels nor divides by 0 where the other does.
        if sign > 0:
            return float((product + root) / divisor)
        return float(of_first * (2 * first - of_first) / (product + root)) if first else 0.0

    return end(-1, low_1, high_2), end(1, high_1, low_2)


def kappa_with_ends(counts, method, confidence, n_resamples, random_state):
    """Return kappa and its interval from counts of shape (n_groups, 4); NaN if undefined."""
    total = counts.sum(axis=0)
    kappa = float(kappa_of(total))
    if np.isnan(kappa):
        return np.nan, np.nan, np.nan
    if method == "bootstrap":
        values = bootstrap_counts(kappa_of, counts, n_resamples, random_state)
        return kappa, *percentiles(values, n_resamples, confidence)
    tn, fp, fn, tp = (int(cell) for cell in total)
    n = tn + fp + fn + tp
    agreement = (tn + tp) / n
    chance = ((tp + fp) * (tp + fn) + (fn + tn) * (fp + tn)) / n**2
    error = agreement * (1 - agreement) / (n * (1 - chance) ** 2)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    if method == "as-printed":
        return kappa, kappa - z * error, kappa + z * error
    reach = z * error**0.5
    return kappa, max(kappa - reach, -1.0), min(kappa + reach, 1.0)


def bootstrap_counts(statistic, counts, n_resamples, random_state):
    """Return a statistic of confusion tables for each resample of the groups: (n_resamples, ...).

    Groups with equal tables are interchangeable, so it suffices to draw how often each *distinct*
    table occurs. That multinomial has a few dozen cells instead of 100,000. Sorting by table also
    makes the result independent of the order of the studies.
    """
    if len(counts) < 2:
        return np.empty(0)
    distinct, times = np.unique(counts, axis=0, return_counts=True)
    distinct = distinct.astype(float)
    rng = np.random.default_rng(random_state)
    step = max(1, CHUNK_CELLS // len(distinct))
    return np.concatenate(
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


def draw_groups(n_groups, n_resamples, random_state, *, n_rows):
    """Yield how often each group is drawn, in chunks of shape (n_chunk, n_groups), float64.

    `n_rows` limits the chunks, since callers make arrays of shape (n_chunk, n_rows) from them.
    """
    rng = np.random.default_rng(random_state)
    step = max(1, CHUNK_CELLS // max(n_groups, n_rows))
    for start in range(0, n_resamples, step):
        n = min(step, n_resamples - start)
        drawn = rng.integers(n_groups, size=(n, n_groups)) + n_groups * np.arange(n)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=n * n_groups)
        yield counts.reshape(n, n_groups).astype(float)


class RankedScores:
    """Scores sorted once, to compute AUROC and average precision for many weights of the groups.

    `areas` takes weights of shape (n_resamples, n_groups) and returns AUROC and average precision,
    each of shape (n_resamples,), NaN without both classes. Equal scores are one step of the curves,
    as in scikit-learn.
    """

    def __init__(self, y_true, y_score, groups):
        order = np.argsort(-y_score, kind="stable")
        self.abnormal = y_true[order].astype(float)
        self.groups = groups[order]
        self.ends = np.flatnonzero(np.diff(y_score[order], append=-1.0))

    def areas(self, weights):
        """Return AUROC and average precision under each row of weights."""
        drawn = weights[:, self.groups]
        called = np.cumsum(drawn, axis=1)[:, self.ends]
        tp = np.cumsum(np.multiply(drawn, self.abnormal, out=drawn), axis=1)[:, self.ends]
        fp = called - tp
        n_abnormal, n_normal = tp[:, -1], fp[:, -1]
        before = np.zeros((len(tp), 1))
        gained = np.diff(tp, axis=1, prepend=before)
        # Trapezoidal rule: the mean of the true positives at both ends of a step.
        under = np.sum(np.diff(fp, axis=1, prepend=before) * (tp - gained / 2), axis=1)
        precision = np.divide(tp, called, out=np.zeros_like(tp), where=called > 0)
        precise = np.where(n_normal > 0, np.sum(gained * precision, axis=1), np.nan)
        return _divide(under, n_abnormal * n_normal), _divide(precise, n_abnormal)


def percentiles(values, n_resamples, confidence=CONFIDENCE):
    """Return the percentile interval of resampled values, NaN if too few are defined."""
    values = values[~np.isnan(values)]
    if not len(values) or len(values) < MIN_DEFINED * n_resamples:
        return np.nan, np.nan
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _divide(a, b):
    """Return the quotient as floats, NaN if the divisor is 0."""
    a, b = np.broadcast_arrays(np.asarray(a, dtype=float), np.asarray(b, dtype=float))
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)
