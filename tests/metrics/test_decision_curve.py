import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from mura_skorch.metrics import decision_curve


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    y_true = (rng.random(500) < 0.4).astype(int)
    return y_true, np.clip(0.4 + 0.25 * (y_true - 0.4) + rng.normal(0, 0.2, 500), 0, 1)


def test_net_benefit_is_true_positives_minus_weighted_false_positives(table):
    y_true, y_score = table
    found = decision_curve(y_true, y_score, n_resamples=10)
    assert found["threshold"].tolist() == pytest.approx(np.arange(1, 100) / 100)
    for row in found.iloc[[4, 29, 49, 79]].itertuples():
        _, fp, _, tp = confusion_matrix(y_true, y_score > row.threshold).ravel()
        expected = tp / 500 - fp / 500 * row.threshold / (1 - row.threshold)
        assert row.net_benefit == pytest.approx(expected)
        treated = y_true.mean() - (1 - y_true.mean()) * row.threshold / (1 - row.threshold)
        assert row.treat_all == pytest.approx(treated)
        assert row.gain == pytest.approx(expected - max(treated, 0))


def test_treating_all_is_worth_nothing_at_the_prevalence(table):
    y_true, y_score = table
    found = decision_curve(y_true, y_score, thresholds=y_true.mean(), n_resamples=10)
    assert found["treat_all"].item() == pytest.approx(0, abs=1e-12)
    assert (found["treat_none"] == 0).all()


def test_perfect_model_gains_the_prevalence_at_every_threshold():
    y_true = np.array([1, 0, 0, 0] * 10)
    found = decision_curve(y_true, y_true * 0.998 + 0.001, n_resamples=10)
    assert found["net_benefit"].to_numpy() == pytest.approx(0.25)


def test_interval_is_that_of_a_mean_of_independent_studies(table):
    y_true, y_score = table
    found = decision_curve(y_true, y_score, thresholds=[0.3]).iloc[0]
    worth = (y_score > 0.3) * (y_true - (1 - y_true) * 0.3 / 0.7)
    reach = 1.96 * worth.std() / np.sqrt(500)
    assert found["net_benefit_low"] == pytest.approx(worth.mean() - reach, abs=0.1 * reach)
    assert found["net_benefit_high"] == pytest.approx(worth.mean() + reach, abs=0.1 * reach)


def test_interval_resamples_patients(table):
    y_true, y_score = table
    once = decision_curve(y_true, y_score, groups=np.arange(500), thresholds=[0.3]).iloc[0]
    four = [np.repeat(column, 4) for column in (y_true, y_score, np.arange(500))]
    found = decision_curve(*four[:2], groups=four[2], thresholds=[0.3]).iloc[0]
    assert found["gain_low"] == pytest.approx(once["gain_low"])
    assert found["net_benefit_high"] == pytest.approx(once["net_benefit_high"])


def test_without_studies_nothing_is_defined():
    assert decision_curve([], [], n_resamples=10)["net_benefit"].isna().all()


def test_thresholds_without_a_decision_are_refused(table):
    with pytest.raises(ValueError, match="expected thresholds between 0 and 1, got 1"):
        decision_curve(*table, thresholds=[0.5, 1])
