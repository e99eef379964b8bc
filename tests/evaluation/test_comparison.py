import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mura_skorch.evaluation import compare_models, holm, match_predictions
from mura_skorch.metrics import intervals


@pytest.fixture(scope="module")
def scored():
    """Labels, scores of a good and of a poor model, study types, patients of 300 studies."""
    rng = np.random.default_rng(0)
    y_true, patient = rng.integers(0, 2, 300), rng.integers(0, 120, 300)
    shared = rng.normal(size=300)
    scores = [
        np.clip(0.5 + gain * (2 * y_true - 1) + 0.2 * shared + 0.1 * rng.normal(size=300), 0, 1)
        for gain in (0.1, 0.25)
    ]
    study_type = np.array(["XR_WRIST", "XR_HAND"])[rng.integers(0, 2, 300)]
    return y_true, *scores, study_type, patient


def options(scored):
    return {"study_type": scored[3], "groups": scored[4]}


def test_rows_are_the_sorted_types_and_overall(scored):
    found = compare_models(*scored[:3], **options(scored))
    assert found.study_type.tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    assert found.n.iloc[:2].sum() == found.n.iloc[2] == 300
    assert found.n_patients.iloc[2] == len(np.unique(scored[4]))
    assert (found.undefined == "").all()


def test_figures_equal_scikit_learn(scored):
    y_true, a, b, *_ = scored
    row = compare_models(y_true, a, b, threshold=(0.5, 0.6)).iloc[0]
    assert row.kappa_a == pytest.approx(cohen_kappa_score(y_true, a > 0.5))
    assert row.kappa_b == pytest.approx(cohen_kappa_score(y_true, b > 0.6))
    assert row.auroc_difference == pytest.approx(
        roc_auc_score(y_true, b) - roc_auc_score(y_true, a)
    )
    right = ((a > 0.5) == y_true), ((b > 0.6) == y_true)
    assert row.only_a_right == (right[0] & ~right[1]).sum()
    assert row.only_b_right == (right[1] & ~right[0]).sum()
    n = row.only_a_right + row.only_b_right
    assert row.mcnemar_p == binomtest(row.only_a_right, n).pvalue


def test_threshold_pair_accepts_scalar_and_array(scored):
    y_true, a, b, *_ = scored
    mixed = compare_models(y_true, a, b, threshold=(0.5, np.full(300, 0.6)))
    pd.testing.assert_frame_equal(mixed, compare_models(y_true, a, b, threshold=[0.5, 0.6]))
    shared = compare_models(y_true[:2], a[:2], b[:2], threshold=np.array([0.4, 0.6]))
    limits = np.array([0.4, 0.6])
    pair = compare_models(y_true[:2], a[:2], b[:2], threshold=(limits, limits))
    pd.testing.assert_frame_equal(shared, pair)


def test_better_model_is_detected(scored):
    row = compare_models(*scored[:3], **options(scored)).iloc[-1]
    assert row.kappa_difference_low > 0
    assert row.auroc_difference_low > 0
    assert row.mcnemar_p < 0.05


def test_swapping_the_models_swaps_the_signs(scored):
    y_true, a, b, *_ = scored
    there = compare_models(y_true, a, b, **options(scored))
    back = compare_models(y_true, b, a, **options(scored))
    for name in ("kappa", "auroc"):
        np.testing.assert_allclose(there[f"{name}_difference"], -back[f"{name}_difference"])
        ends = [f"{name}_difference_{end}" for end in ("low", "high")]
        # Rows are sorted by their scores, not by patient: the resamples are the same.
        np.testing.assert_allclose(there[ends], -back[ends[::-1]].to_numpy(), atol=1e-9)
    np.testing.assert_allclose(there.mcnemar_p, back.mcnemar_p)


def test_p_values_of_types_are_adjusted_but_not_the_overall_one(scored):
    y_true, a, b, study_type, patient = scored
    four = np.char.add(study_type, np.array(["_L", "_R"])[patient % 2])
    found = compare_models(y_true, a, b, study_type=four, groups=patient)
    raw = found["mcnemar_p"].to_numpy()
    order = np.argsort(raw[:4])
    expected = np.minimum(np.maximum.accumulate(raw[:4][order] * [4, 3, 2, 1]), 1)
    np.testing.assert_allclose(found["p_holm"].to_numpy()[order], expected)
    assert found["p_holm"].iloc[4] == raw[4]
    assert (found["p_holm"] >= found["mcnemar_p"]).all()


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # the second of three is no less than the first
        ([0.5, 0.9], [1, 1]),
        ([np.nan, 0.02, 0.03], [np.nan, 0.04, 0.04]),
        ([0.2], [0.2]),
        ([], []),
    ],
)
def test_holm_adjusts_p_values(raw, adjusted):
    np.testing.assert_allclose(holm(raw), adjusted)


def test_few_patients_give_a_caution(scored):
    y_true, a, b, _, patient = scored
    assert set(compare_models(y_true, a, b, **options(scored))["caution"]) == {""}
    few = compare_models(y_true, a, b, groups=patient % 49)
    assert few["caution"].tolist() == ["fewer than 50 patients"]
    assert compare_models([0, 1], [0.1, 0.9], [0.2, 0.7])["caution"][0] == "fewer than 50 studies"
    assert compare_models([], [], [])["caution"].tolist() == [""]


def test_model_does_not_differ_from_itself(scored):
    y_true, a, *_ = scored
    row = compare_models(y_true, a, a, groups=scored[4]).iloc[0]
    for name in ("kappa", "auroc"):
        assert row[[f"{name}_difference{end}" for end in ("", "_low", "_high")]].tolist() == [0] * 3
    assert row.mcnemar_p == 1


def test_pairing_narrows_the_interval(scored):
    """Both models see the same hard studies; drawing apart for each would ignore it."""
    y_true, a, b, _, patient = scored
    row = compare_models(y_true, a, b, groups=patient).iloc[0]
    codes = np.unique(patient, return_inverse=True)[1]
    areas = []
    for seed, score in enumerate((a, b)):
        ranked = intervals.RankedScores(y_true, score, codes)
        chunks = intervals.draw_groups(codes.max() + 1, 1000, seed, n_rows=300)
        areas.append(np.concatenate([ranked.areas(weights)[0] for weights in chunks]))
    apart = np.subtract(*np.quantile(areas[1] - areas[0], [0.975, 0.025]))
    assert row.auroc_difference_high - row.auroc_difference_low < 0.8 * apart


def test_permuting_the_studies_changes_nothing(scored):
    order = np.random.default_rng(1).permutation(300)
    permuted = [column[order] for column in scored]
    pd.testing.assert_frame_equal(
        compare_models(*scored[:3], **options(scored)),
        compare_models(*permuted[:3], **options(permuted)),
    )


def test_repeating_studies_does_not_narrow_intervals(scored):
    names = [
        f"{name}_difference{end}" for name in ("kappa", "auroc") for end in ("", "_low", "_high")
    ]
    once = compare_models(*scored[:3], groups=scored[4])
    again = [np.repeat(column, 3) for column in scored]
    found = compare_models(*again[:3], groups=again[4])
    np.testing.assert_allclose(found[names], once[names])
    assert found.n.iloc[0] == 3 * once.n.iloc[0]


@pytest.mark.parametrize(
    ("y_true", "groups", "reason"),
    [
        ([0, 0, 0], None, "auroc: only one class"),
        ([0, 1, 0], ["p"] * 3, "interval of the difference in auroc: only one patient"),
        ([], None, "every figure: no studies"),
    ],
)
def test_undefined_figures_are_nan_with_a_reason(y_true, groups, reason):
    a, b = np.linspace(0.1, 0.7, len(y_true)), np.linspace(0.4, 0.9, len(y_true))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = compare_models(y_true, a, b, groups=groups).iloc[0]
    assert np.isnan(row.auroc_difference_low)
    assert reason in row.undefined


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"y_score_b": [0.1, np.nan, 0.4]}, "y_score_b to be probabilities .* nan in row 1"),
        ({"y_score_b": [0.1, 0.2]}, "y_score_b 2"),
        ({"threshold": (0.1, 0.2, 0.3)}, "a pair of them"),
        ({"threshold": (0.1, 2)}, "threshold in .0, 1., got 2"),
        ({"study_type": ["a", "b", "overall"]}, "rename that type"),
        ({"n_resamples": 0}, "at least one resample"),
    ],
)
def test_compare_models_refuses_invalid_input(kwargs, message):
    given = {"y_true": [0, 1, 1], "y_score_a": [0.1, 0.9, 0.4], "y_score_b": [0.2, 0.3, 0.4]}
    with pytest.raises(ValueError, match=message):
        compare_models(**given | kwargs)


# ---- matching


@pytest.fixture
def tables():
    a = pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(6)],
            "patient": [*"ppqqrr"],
            "label": pd.array([0, 1, 0, 1, 0, None], dtype="Int8"),
            "score": [0.1, 0.8, 0.3, 0.6, 0.4, 0.5],
            "threshold": 0.4,
        }
    )
    return a, a.sample(frac=1, random_state=0).assign(score=0.9, threshold=0.7)


def test_tables_are_matched_by_study_with_their_thresholds(tables):
    both = match_predictions(*tables)
    assert both["study"].tolist() == ["s0", "s1", "s2", "s3", "s4"]  # s5 has no label
    assert both["score_a"].tolist() == [0.1, 0.8, 0.3, 0.6, 0.4]
    assert set(both["threshold_a"]) == {0.4}
    assert set(both["threshold_b"]) == {0.7}
    assert both["patient"].tolist() == [*"ppqqr"]


def test_different_studies_are_named_unless_common_is_set(tables):
    a, b = tables
    fewer = b[~b["study"].isin(["s0", "s3"])]
    with pytest.raises(ValueError, match=r"2 only in A \(s0, s3\), and 3 in both; .*--common"):
        match_predictions(a, fewer)
    assert match_predictions(a, fewer, common=True)["study"].tolist() == ["s1", "s2", "s4"]
    with pytest.raises(ValueError, match="got none"):
        match_predictions(a[:1], b[b["study"] == "s3"], common=True)


def test_conflicting_labels_are_refused(tables):
    a, b = tables
    wrong = b.assign(label=b["label"].mask(b["study"] == "s1", 0))
    with pytest.raises(ValueError, match=r"different ones for 1 of 5 studies \(s1\)"):
        match_predictions(a, wrong, common=True)


@pytest.mark.parametrize(
    ("note_a", "note_b", "joined"),
    [("one", "two", "one; two"), ("one", "one", "one"), (None, "two", "two")],
)
def test_notes_of_both_tables_are_joined(tables, note_a, note_b, joined):
    a, b = (
        table.assign(note=note) if note else table
        for table, note in zip(tables, (note_a, note_b), strict=True)
    )
    assert set(match_predictions(a, b)["note"]) == {joined}
    assert "note" not in match_predictions(*tables)


def test_duplicate_studies_are_refused(tables):
    a, b = tables
    with pytest.raises(ValueError, match=r"once in table B, got 1 repeated \(s0\)"):
        match_predictions(a, pd.concat([b, b[b["study"] == "s0"]]))
    with pytest.raises(ValueError, match="expected columns score in table A"):
        match_predictions(a.drop(columns="score"), b)
