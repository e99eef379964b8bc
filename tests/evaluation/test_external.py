import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mura_skorch.evaluation import case_mix, known_training, performance_change


def sample(n, seed, *, shift=1.5, study_type="XR_WRIST", per_patient=1):
    """A prediction table; the scores of abnormal studies are `shift` standard deviations higher."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    score = 1 / (1 + np.exp(-(rng.normal(0, 1, n) + shift * (label - 0.5))))
    return pd.DataFrame(
        {
            "study": [f"{seed}-{k}" for k in range(n)],
            "study_type": study_type,
            "patient": [f"p{k // per_patient}" for k in range(n)],
            "label": label,
            "score": score,
            "threshold": 0.5,
        }
    )


def hanley_mcneil(auroc, n_abnormal, n_normal):
    """Return the variance of an AUROC by the formula of Hanley and McNeil, Radiology 143, 1982."""
    first, second = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    rest = (n_abnormal - 1) * (first - auroc**2) + (n_normal - 1) * (second - auroc**2)
    return (auroc * (1 - auroc) + rest) / (n_abnormal * n_normal)


def test_change_is_the_difference_of_the_figures_of_each_sample():
    own, other = sample(80, 0), sample(60, 1, shift=0.5)
    row = performance_change(own, other, n_resamples=20).iloc[-1]
    kappas = [cohen_kappa_score(t["label"], t["score"] > 0.5) for t in (own, other)]
    areas = [roc_auc_score(t["label"], t["score"]) for t in (own, other)]
    assert row["kappa_change"] == pytest.approx(kappas[1] - kappas[0])
    assert row["auroc_change"] == pytest.approx(areas[1] - areas[0])
    assert (row["n_reference"], row["n_external"]) == (80, 60)


def test_interval_has_the_width_of_two_independent_samples():
    own, other = sample(300, 0), sample(200, 1, shift=1.0)
    row = performance_change(own, other).iloc[-1]
    variance = 0.0
    for table in (own, other):
        n_abnormal = int(table["label"].sum())
        area = roc_auc_score(table["label"], table["score"])
        variance += hanley_mcneil(area, n_abnormal, len(table) - n_abnormal)
    width = row["auroc_change_high"] - row["auroc_change_low"]
    assert width == pytest.approx(2 * 1.96 * variance**0.5, rel=0.1)


@pytest.mark.slow
def test_interval_covers_the_true_change_as_often_as_promised():
    big = [
        roc_auc_score(t["label"], t["score"])
        for t in (sample(200_000, 8), sample(200_000, 9, shift=0.8))
    ]
    truth, n_covered, n = big[1] - big[0], 0, 200
    for seed in range(n):
        own, other = sample(120, 2 * seed), sample(120, 2 * seed + 1, shift=0.8)
        row = performance_change(own, other, n_resamples=400, random_state=seed).iloc[-1]
        n_covered += row["auroc_change_low"] <= truth <= row["auroc_change_high"]
    # Three standard errors of 200 draws around .95.
    assert abs(n_covered / n - 0.95) < 3 * (0.95 * 0.05 / n) ** 0.5


def test_patients_are_the_units_of_resampling():
    own, other = sample(100, 0), sample(100, 1)
    copies = [pd.concat([table] * 4, ignore_index=True) for table in (own, other)]
    once = performance_change(own, other).iloc[-1]
    four = performance_change(*copies).iloc[-1]
    studies = performance_change(*(table.drop(columns="patient") for table in copies)).iloc[-1]

    def width(row):
        return row["kappa_change_high"] - row["kappa_change_low"]

    assert width(four) == pytest.approx(width(once), rel=0.1)
    assert width(studies) == pytest.approx(width(once) / 2, rel=0.15)


def test_order_of_rows_changes_nothing():
    own, other = sample(50, 0), sample(40, 1)
    expected = performance_change(own, other, n_resamples=50)
    found = performance_change(own[::-1], other.sample(frac=1, random_state=0), n_resamples=50)
    pd.testing.assert_frame_equal(found, expected)


def test_types_of_both_are_compared_and_pooled():
    own = pd.concat([sample(40, 0), sample(40, 1, study_type="XR_HAND")])
    other = pd.concat([sample(40, 2), sample(40, 3, study_type="XR_KNEE")])
    found = performance_change(own, other, n_resamples=10)
    assert found["study_type"].tolist() == ["XR_WRIST", "types of both", "overall"]
    assert found["n_external"].tolist() == [40, 40, 80]
    same = performance_change(own, own, n_resamples=10)
    assert same["study_type"].tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    assert (same["kappa_change"] == 0).all()
    assert (same["kappa_change_low"] < 0).all()  # not paired


def test_undefined_changes_say_why():
    own = sample(60, 0)
    row = performance_change(own, own.assign(label=1, score=0.9), n_resamples=10).iloc[-1]
    assert np.isnan(row["auroc_change"])
    assert "auroc: only one class" in row["undefined"]
    few = performance_change(own, own[:20], n_resamples=10).iloc[-1]
    assert few["caution"] == "fewer than 50 patients"
    with pytest.raises(ValueError, match="expected columns score"):
        performance_change(own, own.drop(columns="score"))


def studies_of(n, study_type="XR_WRIST", **columns):
    return pd.DataFrame(
        {
            "study_type": study_type,
            "patient": [f"p{k // 2}" for k in range(n)],
            "views": [tuple(f"{k}-{v}.png" for v in range(1 + k % 3)) for k in range(n)],
            "label": pd.array([k % 2 for k in range(n)], dtype="Int8"),
            **columns,
        }
    )


def test_case_mix_stands_beside_that_of_the_training_data():
    own = pd.concat([studies_of(6), studies_of(4, "XR_HAND")])
    here = studies_of(10, age=range(10), sex=["F", "M"] * 5)
    mix = case_mix(here, own).set_index("characteristic")
    assert mix.loc["studies"].tolist() == ["10", "10"]
    assert mix.loc["patients"].tolist() == ["3", "5"]  # p0 and p1 occur in both types
    assert mix.loc["XR_WRIST: studies"].tolist() == ["6 (60 %)", "10 (100 %)"]
    assert mix.loc["XR_HAND: studies"].tolist() == ["4 (40 %)", "0 (0 %)"]
    assert mix.loc["sex: F"].tolist() == ["", "5 (50 %)"]
    assert case_mix(here).columns.tolist() == ["characteristic", "here"]


def test_model_has_the_counts_of_its_training_part_on_record(fitted):
    known = known_training(fitted)
    mix = case_mix(studies_of(4, "XR_KNEE"), known=known).set_index("characteristic")
    assert mix.loc["studies"].tolist() == [f"{known['studies']:,}", "4"]
    assert mix.loc["XR_KNEE: studies", "training"] == "0 (0 %)"
    assert mix.loc["XR_HAND: studies", "here"] == "0 (0 %)"
