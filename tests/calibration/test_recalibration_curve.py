import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss

from mura_skorch.calibration import enough_studies, recalibration_curve
from mura_skorch.calibration.recalibration_curve import _halves


def scores(n, seed=0, *, slope=1.0, intercept=0.0):
    """Return labels and probabilities whose true line on the logit is given."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0, 2, n)
    return (rng.random(n) < expit(slope * logit + intercept)).astype(int), expit(logit)


def test_line_and_gain_are_found_where_probabilities_are_wrong():
    curve = recalibration_curve(*scores(2000, slope=0.5, intercept=-1.0), n_draws=40)
    last = curve.iloc[-1]
    assert last["slope"] == pytest.approx(0.5, abs=0.08)
    assert last["intercept"] == pytest.approx(-1.0, abs=0.15)
    assert last["share_better"] == 1
    assert last["log_loss_change_high"] < 0
    assert last["mean_error"] < curve["mean_error"].iloc[0] / 3
    assert enough_studies(curve) in curve["n_studies"].tolist()[1:6]


def test_calibrated_probabilities_need_no_recalibration():
    curve = recalibration_curve(*scores(2000), n_draws=40)
    assert enough_studies(curve) is None
    small = curve.set_index("n_studies").loc[20]
    assert small["log_loss_change"] > 0  # a line of few studies does harm


def test_first_row_is_no_recalibration():
    y_true, y_score = scores(300, slope=0.5)
    first = recalibration_curve(y_true, y_score, n_draws=200).iloc[0]
    assert first["n_studies"] == first["log_loss_change"] == first["share_better"] == 0
    assert np.isnan(first["slope"])
    assert first["log_loss"] == pytest.approx(log_loss(y_true, y_score), rel=0.02)


def test_bands_narrow_with_more_studies():
    curve = recalibration_curve(*scores(1000, slope=0.5, intercept=-1.0), n_draws=60)
    width = curve["slope_high"] - curve["slope_low"]
    assert width.iloc[1] > 2 * width.iloc[-1]


def test_no_patient_is_fitted_and_scored_in_one_draw():
    codes = np.repeat(np.arange(15), np.arange(15) % 4 + 1)
    for scored, pool in _halves(codes, 20, np.random.default_rng(0)):
        assert not set(codes[scored]) & set(codes[pool])
        assert set(codes[scored]) | set(codes[pool]) == set(codes)
        changes = np.flatnonzero(np.diff(codes[pool]))
        assert len(changes) + 1 == len(set(codes[pool]))  # a patient's studies stay together


def test_same_seed_gives_the_same_curve_and_sizes_can_be_chosen():
    y_true, y_score = scores(200)
    given = {"groups": np.arange(200) // 2, "sizes": [5, 40], "n_draws": 10}
    curve = recalibration_curve(y_true, y_score, **given)
    assert curve["n_studies"].tolist() == [0, 5, 40]
    pd.testing.assert_frame_equal(recalibration_curve(y_true, y_score, **given), curve)


def test_draws_without_a_line_keep_the_probabilities():
    y_true = np.array([1, *[0] * 79])
    curve = recalibration_curve(y_true, scores(80)[1], sizes=[10], n_draws=50)
    row = curve.iloc[1]
    assert row["n_fitted"] < 50  # most draws of ten hold no abnormal study
    assert row["share_better"] <= row["n_fitted"] / 50


def test_too_few_studies_are_refused():
    with pytest.raises(ValueError, match="at least four patients"):
        recalibration_curve([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], groups=[1, 1, 2, 3])
    with pytest.raises(ValueError, match="expected a size from 1 to 4"):
        recalibration_curve(*scores(10))


def test_number_is_enough_only_if_all_larger_ones_are():
    curve = pd.DataFrame({"n_studies": [0, 10, 20, 50], "share_better": [0, 0.95, 0.8, 0.9]})
    assert enough_studies(curve) == 50
    assert enough_studies(curve, share=0.95) is None
