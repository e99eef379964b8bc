import numpy as np
import pandas as pd
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from mura_skorch.metrics import calibration_line


@pytest.fixture
def table():
    """Probabilities that are too extreme and too high, of 400 studies of 200 patients."""
    rng = np.random.default_rng(0)
    truth = expit(rng.normal(-0.5, 1.2, 400))
    y_score = expit(1.7 * logit(truth) + 0.4)
    return (rng.random(400) < truth).astype(int), y_score, np.repeat(np.arange(200), 2)


def values(*args, **kwargs):
    found = calibration_line(*args, **kwargs)
    return dict(zip(found["measure"], found["value"], strict=True))


def test_line_equals_the_unpenalised_fit_of_scikit_learn(table):
    y_true, y_score, _ = table
    x = logit(y_score)[:, None]
    fit = LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(x, y_true)
    found = values(y_true, y_score, n_resamples=10)
    assert found["slope"] == pytest.approx(fit.coef_[0, 0], rel=1e-4)
    assert found["intercept"] == pytest.approx(fit.intercept_[0], abs=1e-4)


def test_intercept_at_slope_1_makes_the_expected_number_the_observed_one(table):
    y_true, y_score, _ = table
    root = brentq(lambda a: expit(a + logit(y_score)).sum() - y_true.sum(), -9, 9)
    assert values(y_true, y_score)["intercept_at_slope_1"] == pytest.approx(root, abs=1e-8)
    ratio = values(y_true, y_score)["observed_expected"]
    assert ratio == pytest.approx(y_true.sum() / y_score.sum())


def test_line_of_recalibrated_probabilities_is_the_diagonal(table):
    y_true, y_score, _ = table
    line = values(y_true, y_score)
    again = values(y_true, expit(line["slope"] * logit(y_score) + line["intercept"]))
    assert again["slope"] == pytest.approx(1, abs=1e-6)
    for name in ("intercept", "intercept_at_slope_1"):
        assert again[name] == pytest.approx(0, abs=1e-6)
    assert again["observed_expected"] == pytest.approx(1, abs=1e-6)


def test_interval_has_the_width_of_the_likelihood(table):
    """For independent studies, standard errors come from Fisher's information, too."""
    y_true, y_score, _ = table
    found = calibration_line(y_true, y_score).set_index("measure")
    design = np.column_stack([np.ones(len(y_true)), logit(y_score)])
    p = expit(design @ found["value"][["intercept", "slope"]].to_numpy())
    errors = np.sqrt(np.diag(np.linalg.inv((design.T * (p * (1 - p))) @ design)))
    for name, error in zip(("intercept", "slope"), errors, strict=True):
        width = found.loc[name, "high"] - found.loc[name, "low"]
        assert width == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_copies_of_a_study_within_its_patient_leave_the_interval_unchanged(table):
    y_true, y_score, patients = table
    once = calibration_line(y_true, y_score, groups=patients, n_resamples=200)
    triple = [np.repeat(column, 3) for column in (y_true, y_score, patients)]
    found = calibration_line(*triple[:2], groups=triple[2], n_resamples=200)
    pd.testing.assert_frame_equal(found, once, rtol=1e-6)


def test_order_of_studies_does_not_matter(table):
    y_true, y_score, patients = table
    order = np.random.default_rng(1).permutation(len(y_true))
    once = calibration_line(y_true, y_score, groups=patients, n_resamples=100)
    found = calibration_line(y_true[order], y_score[order], groups=patients[order], n_resamples=100)
    pd.testing.assert_frame_equal(found, once, rtol=1e-9)


@pytest.mark.parametrize(
    ("y_true", "y_score", "why"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], "the scores separate the classes"),
        ([0, 1, 1, 1], [0.1, 0.1, 0.8, 0.9], "the scores separate the classes"),
        ([0, 1, 0, 1], [0.5] * 4, "the scores separate the classes"),
        ([1, 1, 1], [0.5, 0.7, 0.2], "only one class"),
        ([], [], "no studies"),
    ],
)
def test_slope_without_a_finite_value_is_nan_with_a_reason(y_true, y_score, why):
    slope = calibration_line(y_true, y_score, n_resamples=20).iloc[0]
    assert np.isnan([slope["value"], slope["low"], slope["high"]]).all()
    assert slope["undefined"] == why


def test_probabilities_of_0_and_1_keep_the_fit_finite():
    y_true = np.array([0, 1, 0, 1, 1, 0] * 20)
    y_score = np.array([0.0, 1.0, 1.0, 0.0, 0.7, 0.3] * 20)
    found = calibration_line(y_true, y_score, n_resamples=50)
    assert np.isfinite(found[["value", "low", "high"]]).all(axis=None)
