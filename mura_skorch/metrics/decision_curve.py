"""Net benefit of acting on a model's probabilities, by the threshold that a reader would choose."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores
from mura_skorch.metrics.intervals import draw_groups, percentiles
from mura_skorch.metrics.tables import ordered_parts

__all__ = ["decision_curve"]

THRESHOLDS = np.arange(1, 100) / 100


def decision_curve(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    thresholds: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    n_resamples: int = 2000,
    random_state: int | np.random.Generator | None = 0,
) -> pd.DataFrame:
    r"""Return the net benefit of the model, and of treating all or none, by threshold.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    thresholds : array-like of shape (n_thresholds,) or None, default=None
        Probabilities above which a study is acted upon, between 0 and 1. None is .01 to .99.
    groups : array-like of shape (n_studies,) or None, default=None
        Patients, the units of resampling. None treats each study as its own patient.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int, numpy Generator or None, default=0
        Source of the resamples.

    Returns
    -------
    DataFrame of n_thresholds rows
        `threshold`; `net_benefit`, `treat_all` and `treat_none` in true positives per study;
        `gain`, the net benefit minus that of the better of treating all and none. `net_benefit` and
        `gain` have 95 % intervals, `_low` and `_high`.

    Raises
    ------
    ValueError
        If lengths differ, labels are not 0 or 1, a score is not in [0, 1], or a threshold is not
        between 0 and 1.

    Notes
    -----
    With n studies and the threshold t, the net benefit [1]_ is

    .. math:: \frac{TP}{n} - \frac{FP}{n} \cdot \frac{t}{1 - t}.

    Whoever acts at t accepts (1 - t) / t false positives for one true positive. Treating all has
    the net benefit :math:`q - (1 - q)\,t / (1 - t)` for a share q of abnormal studies; treating
    none has 0. A curve holds for the share of abnormal studies in the data, and is only as good as
    the calibration of the probabilities. Intervals are percentiles over resamples of patients, one
    threshold at a time.

    References
    ----------
    .. [1] Vickers and Elkin, "Decision curve analysis: a novel method for evaluating prediction
       models", Medical Decision Making 26, 2006.

    Examples
    --------
    >>> from mura_skorch.metrics import decision_curve
    >>> y_true, y_score = [1, 1, 0, 0], [0.9, 0.4, 0.6, 0.1]
    >>> columns = ["threshold", "net_benefit", "treat_all", "treat_none"]
    >>> decision_curve(y_true, y_score, thresholds=[0.2, 0.5])[columns]
       threshold  net_benefit  treat_all  treat_none
    0        0.2       0.4375      0.375         0.0
    1        0.5       0.0000      0.000         0.0
    """
    labels, scores = check_binary(y_true, "y_true"), check_scores(y_score)
    check_lengths(y_true=labels, y_score=scores, groups=groups)
    given = THRESHOLDS if thresholds is None else np.atleast_1d(np.asarray(thresholds, float))
    if wrong := [value for value in given.tolist() if not 0 < value < 1]:
        raise ValueError(
            f"expected thresholds between 0 and 1, got {wrong[0]:g}; at 0 and 1 there is no "
            "decision to make"
        )
    ((_, (labels, scores, codes)),) = ordered_parts(None, groups, labels, scores)
    n_patients = int(codes.max(initial=-1)) + 1
    odds = given / (1 - given)
    of_all = labels[:, None] - (1 - labels)[:, None] * odds  # what each study adds if acted upon
    of_model = np.where(scores[:, None] > given, of_all, 0)
    # Sums per patient: of the model, of treating all, and the number of studies.
    sums = np.zeros((n_patients, 2 * len(given) + 1))
    np.add.at(sums, codes, np.hstack([of_model, of_all, np.ones((len(codes), 1))]))
    model, everyone, gain = _benefits(sums.sum(axis=0, keepdims=True))
    drawn = [np.empty((0, len(given)))] * 3
    if n_patients > 1:
        weights = draw_groups(n_patients, n_resamples, random_state, n_rows=sums.shape[1])
        chunks = [_benefits(chunk @ sums) for chunk in weights]
        drawn = [np.concatenate(part) for part in zip(*chunks, strict=True)]
    ends = {
        name: [percentiles(values, n_resamples) for values in part.T]
        for name, part in (("net_benefit", drawn[0]), ("gain", drawn[2]))
    }
    return pd.DataFrame(
        {
            "threshold": given,
            "net_benefit": model[0],
            "net_benefit_low": [low for low, _ in ends["net_benefit"]],
            "net_benefit_high": [high for _, high in ends["net_benefit"]],
            "treat_all": everyone[0],
            "treat_none": 0.0,
            "gain": gain[0],
            "gain_low": [low for low, _ in ends["gain"]],
            "gain_high": [high for _, high in ends["gain"]],
        }
    )


def _benefits(sums):
    """Return the net benefits of the model and of treating all, and the gain over the defaults."""
    n = sums[:, -1:]
    means = np.divide(sums[:, :-1], n, out=np.full((len(sums), sums.shape[1] - 1), np.nan),
                      where=n > 0)  # fmt: skip
    model, everyone = np.split(means, 2, axis=1)
    return model, everyone, model - np.maximum(everyone, 0)
