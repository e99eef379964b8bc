import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mura_skorch.evaluation import compare_models, compare_seeds

N = 200


@pytest.fixture(scope="module")
def scored():
    """Labels, scores of three seeds of a poor and of a good setting, types, patients."""
    rng = np.random.default_rng(0)
    y_true, patient = rng.integers(0, 2, N), rng.integers(0, 90, N)
    scores = [
        np.clip(0.5 + gain * (2 * y_true - 1) + 0.2 * rng.normal(size=(3, N)), 0, 1)
        for gain in (0.1, 0.25)
    ]
    return y_true, *scores, np.array(["XR_WRIST", "XR_HAND"])[rng.integers(0, 2, N)], patient


def test_one_seed_is_the_comparison_of_two_models(scored):
    y_true, a, b, study_type, patient = scored
    options = {"study_type": study_type, "groups": patient, "threshold": (0.5, 0.6)}
    seeds = compare_seeds(y_true, a[:1], b[:1], **options)
    models = compare_models(y_true, a[0], b[0], **options)
    common = [name for name in seeds if name in models]
    assert {"kappa_difference_low", "auroc_difference_high", "caution"} <= set(common)
    pd.testing.assert_frame_equal(seeds[common], models[common])
    assert seeds["kappa_difference_sd"].isna().all()


def test_figures_are_means_over_seeds_of_those_of_scikit_learn(scored):
    y_true, a, b, *_ = scored
    limits = [0.4, 0.5, 0.6]
    row = compare_seeds(y_true, a, b, threshold=(limits, 0.5)).iloc[0]
    kappas = [cohen_kappa_score(y_true, own > t) for own, t in zip(a, limits, strict=True)]
    others = [cohen_kappa_score(y_true, own > 0.5) for own in b]
    assert row.kappa_a == pytest.approx(np.mean(kappas))
    assert row.kappa_difference == pytest.approx(np.mean(others) - np.mean(kappas))
    assert row.kappa_difference_sd == pytest.approx(np.std(np.subtract(others, kappas), ddof=1))
    assert row.auroc_b == pytest.approx(np.mean([roc_auc_score(y_true, own) for own in b]))


def test_the_same_models_twice_have_no_difference_and_no_interval(scored):
    y_true, a, _, _, patient = scored
    row = compare_seeds(y_true, a, a, groups=patient).iloc[0]
    assert row[["kappa_difference", "kappa_difference_low", "kappa_difference_high"]].eq(0).all()


def test_settings_change_sides_with_the_sign(scored):
    y_true, a, b, _, patient = scored
    there, back = (
        compare_seeds(y_true, *pair, groups=patient).iloc[0] for pair in ((a, b), (b, a))
    )
    assert there.kappa_difference == pytest.approx(-back.kappa_difference)
    assert there.kappa_difference_low == pytest.approx(-back.kappa_difference_high)


def test_order_of_studies_and_seeds_changes_nothing(scored):
    y_true, a, b, study_type, patient = scored
    found = compare_seeds(y_true, a, b, study_type=study_type, groups=patient)
    order = np.random.default_rng(1).permutation(N)
    again = compare_seeds(
        y_true[order], a[:, order], b[:, order],
        study_type=study_type[order], groups=patient[order],
    )  # fmt: skip
    pd.testing.assert_frame_equal(found, again)
    turned = compare_seeds(y_true, a[::-1], b[::-1], groups=patient).iloc[-1]
    assert turned.kappa_difference == pytest.approx(found.iloc[-1].kappa_difference)


def test_more_seeds_narrow_the_interval_and_resampled_patients_widen_it(scored):
    y_true, a, b, *_ = scored

    def width(**options):
        row = compare_seeds(y_true, **options).iloc[0]
        return row.kappa_difference_high - row.kappa_difference_low

    one, three = (width(y_scores_a=a[:n], y_scores_b=b[:n]) for n in (1, 3))
    assert three < one
    twice = np.repeat(np.arange(N // 4), 4)
    few = [
        np.tile(own[:, ::4], 4).reshape(len(own), 4, -1).swapaxes(1, 2).reshape(len(own), -1)
        for own in (a, b)
    ]
    labels = np.repeat(y_true[::4], 4)
    by_patient, by_study = (
        compare_seeds(labels, *few, groups=groups).iloc[0] for groups in (twice, None)
    )
    widths = [
        row.kappa_difference_high - row.kappa_difference_low for row in (by_patient, by_study)
    ]
    assert widths[0] > 1.5 * widths[1]


def test_undefined_figures_have_reasons():
    row = compare_seeds([0, 0, 0], np.full((2, 3), 0.2), np.full((2, 3), 0.3)).iloc[0]
    assert np.isnan(row.kappa_difference)
    assert "auroc: only one class" in row.undefined
    assert row.caution == "fewer than 50 studies"


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([0.5, 0.5], [[0.5, 0.5]], r"y_scores_a of shape \(n_seeds, n_studies\), got \(2,\)"),
        ([[0.5, 0.5]] * 2, [[0.5, 0.5]], "same seeds, got 2 and 1 rows"),
        ([[0.5, 1.5]], [[0.5, 0.5]], r"y_scores_a to be probabilities in \[0, 1\], got 1.5"),
        ([[0.5]], [[0.5, 0.5]], "one entry per study"),
    ],
)
def test_wrong_input_is_refused(a, b, message):
    with pytest.raises(ValueError, match=message):
        compare_seeds([0, 1], a, b)
