import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.metrics import precision_score

from mura_skorch.metrics import predictive_values


@pytest.fixture
def table():
    """1,000 abnormal and 1,000 normal studies, sensitivity .9 and specificity .8."""
    y_true = np.repeat([1, 0], 1000)
    y_score = np.repeat([0.9, 0.1, 0.9, 0.1], [900, 100, 200, 800])
    return y_true, y_score


def test_values_follow_bayes_rule(table):
    found = predictive_values(*table, [0.01, 0.5], n_resamples=10)
    # A hundred thousand studies with 1 % abnormal: 900 of 1,000 and 19,800 of 99,000 are called.
    assert found["ppv"][0] == pytest.approx(900 / (900 + 19_800))
    assert found["npv"][0] == pytest.approx(79_200 / (79_200 + 100))


def test_values_at_the_own_prevalence_are_the_precisions(table):
    y_true, y_score = table
    found = predictive_values(y_true, y_score, y_true.mean(), n_resamples=10).iloc[0]
    called = y_score > 0.5
    assert found["ppv"] == pytest.approx(precision_score(y_true, called))
    assert found["npv"] == pytest.approx(precision_score(1 - y_true, ~called))


def test_interval_agrees_with_the_delta_method_on_the_logit(table):
    """Mercaldo, Lau and Zhou, Statistics in Medicine 26, 2007: logit intervals of PPV and NPV."""
    found = predictive_values(*table, 0.1).iloc[0]
    sensitivity, specificity, n = 0.9, 0.8, 1000
    errors = {
        "ppv": (1 - sensitivity) / (sensitivity * n) + specificity / ((1 - specificity) * n),
        "npv": sensitivity / ((1 - sensitivity) * n) + (1 - specificity) / (specificity * n),
    }
    for name, variance in errors.items():
        ends = expit(logit(found[name]) + 1.96 * np.sqrt(variance) * np.array([-1, 1]))
        width = ends[1] - ends[0]
        assert found[f"{name}_low"] == pytest.approx(ends[0], abs=0.1 * width)
        assert found[f"{name}_high"] == pytest.approx(ends[1], abs=0.1 * width)


def test_interval_of_two_equal_studies_a_patient_is_that_of_one(table):
    y_true, y_score = table[0][::10], table[1][::10]
    once = predictive_values(y_true, y_score, 0.1).iloc[0]
    twice = [np.repeat(column, 2) for column in (y_true, y_score, np.arange(200))]
    found = predictive_values(*twice[:2], 0.1, groups=twice[2]).iloc[0]
    assert found["ppv_low"] == pytest.approx(once["ppv_low"], abs=1e-9)
    assert found["npv_high"] == pytest.approx(once["npv_high"], abs=1e-9)


def test_undefined_values_have_a_reason():
    found = predictive_values([1, 1, 0], [0.1, 0.2, 0.1], 0.3, n_resamples=10).iloc[0]
    assert np.isnan(found["ppv"])
    assert found["undefined"].startswith("ppv: none called abnormal")
    one_class = predictive_values([1, 1], [0.1, 0.9], 0.3, n_resamples=10).iloc[0]
    assert "npv: only one class" in one_class["undefined"]
    assert predictive_values([1, 0], [0.9, 0.1]).empty


@pytest.mark.parametrize("share", [0, 1, 10, -0.1])
def test_prevalence_that_is_no_share_is_refused(share):
    with pytest.raises(ValueError, match=r"expected a prevalence between 0 and 1.*10 %"):
        predictive_values([1, 0], [0.9, 0.1], share)
