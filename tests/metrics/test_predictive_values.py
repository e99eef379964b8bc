import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import binom
from sklearn.metrics import precision_score

from mura_skorch.metrics import predictive_values
from mura_skorch.metrics.intervals import ratio_interval


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


def coverage(sensitivity, specificity, n_abnormal=30, n_normal=50, prevalence=0.1):
    """Return in which share of samples the intervals hold PPV and NPV: all samples, weighted."""
    hits, passes = np.arange(18, n_abnormal + 1), np.arange(40, n_normal + 1)
    miss, alarm = 1 - sensitivity, 1 - specificity
    true = {
        "ppv": sensitivity * prevalence / (sensitivity * prevalence + alarm * (1 - prevalence)),
        "npv": specificity
        * (1 - prevalence)
        / (specificity * (1 - prevalence) + miss * prevalence),
    }
    covered = dict.fromkeys(true, 0.0)
    y_true = np.repeat([1, 0], [n_abnormal, n_normal])
    for hit in hits:
        for right in passes:
            weight = binom.pmf(hit, n_abnormal, sensitivity) * binom.pmf(
                right, n_normal, specificity
            )
            if weight < 1e-4:
                continue
            counts = [hit, n_abnormal - hit, n_normal - right, right]
            found = predictive_values(
                y_true, np.repeat([0.9, 0.1, 0.9, 0.1], counts), prevalence, n_resamples=500
            ).iloc[0]
            for name, value in true.items():
                is_in = found[f"{name}_low"] <= value + 1e-12 and value <= found[f"{name}_high"]
                covered[name] += weight * is_in
    return covered


@pytest.mark.parametrize("specificity", [1, 0.99])
def test_interval_covers_values_near_1(specificity):
    found = coverage(0.9, specificity)
    assert found["ppv"] > 0.95
    assert found["npv"] > 0.95


def test_value_of_0_or_1_has_an_interval_that_narrows_with_patients():
    widths = []
    for times in (1, 4):
        y_true = np.repeat([1, 0], [10 * times, 20 * times])
        found = predictive_values(y_true, y_true * 0.8 + 0.1, 0.1).iloc[0]
        assert (found["ppv"], found["ppv_high"], found["npv_high"]) == (1, 1, 1)
        widths.append([found["ppv_high"] - found["ppv_low"], found["npv_high"] - found["npv_low"]])
    assert np.all(np.array(widths[1]) < widths[0])
    assert np.all(np.array(widths) > 0)
    none_right = predictive_values([1] * 10 + [0] * 10, [0.1] * 10 + [0.9] * 2 + [0.1] * 8, 0.1)
    assert none_right["ppv"][0] == none_right["ppv_low"][0] == 0
    assert 0 < none_right["ppv_high"][0] < 1


def test_interval_at_1_counts_patients_and_not_studies():
    y_true = np.repeat([1, 0], [10, 20])
    once = predictive_values(y_true, y_true * 0.8 + 0.1, 0.1)
    twice = [np.repeat(column, 2) for column in (y_true, y_true * 0.8 + 0.1, np.arange(30))]
    pd.testing.assert_frame_equal(predictive_values(*twice[:2], 0.1, groups=twice[2]), once)


def test_model_that_calls_all_studies_alike_has_an_interval():
    found = predictive_values([1] * 10 + [0] * 10, [0.1] * 20, 0.3).iloc[0]
    assert found["npv"] == pytest.approx(0.7)
    assert found["npv_low"] < 0.7 < found["npv_high"]


def test_ratio_agrees_with_the_delta_method_on_the_logarithm():
    """Katz' interval, to which all agree where cases are many."""
    low, high = ratio_interval(0.3, 4000, 0.6, 5000)
    reach = 1.96 * np.sqrt(0.7 / (0.3 * 4000) + 0.4 / (0.6 * 5000))
    assert (low, high) == pytest.approx((0.5 * np.exp(-reach), 0.5 * np.exp(reach)), rel=2e-3)
    inverse = ratio_interval(0.6, 5000, 0.3, 4000)
    assert (1 / high, 1 / low) == pytest.approx(inverse, rel=2e-3)


def test_swapped_labels_swap_ppv_and_npv_at_1():
    y_true, y_score = np.repeat([1, 0], [10, 20]), np.repeat([0.9, 0.1], [8, 22])
    found = predictive_values(y_true, y_score, 0.1).iloc[0]
    swapped = predictive_values(1 - y_true, 1 - y_score, 0.9).iloc[0]
    assert found["ppv_low"] == pytest.approx(swapped["npv_low"])


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
