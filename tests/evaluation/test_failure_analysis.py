import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mura_skorch.evaluation import error_groups, failure_analysis, smallest_groups


@pytest.fixture
def predictions():
    """600 studies of 300 patients; the site "south" has twice the errors."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 600)
    site = np.array(["north", "south", None], dtype=object)[rng.integers(0, 3, 600)]
    noise = np.where(site == "south", 0.35, 0.2)
    return pd.DataFrame(
        {
            "study_type": np.array(["XR_WRIST", "XR_HAND"])[rng.integers(0, 2, 600)],
            "patient": np.arange(600) // 2,
            "label": label,
            "score": np.clip(0.3 + 0.4 * label + noise * rng.normal(size=600), 0, 1),
            "threshold": 0.45,
            "n_views": rng.integers(1, 8, 600),
            "site": site,
        }
    )


@pytest.fixture
def found(predictions):
    return error_groups(predictions, ["site"]).set_index(["by", "value"])


def test_groups_are_types_numbers_of_views_score_bands_and_columns(found):
    assert found.index.get_level_values("by").unique().tolist() == [
        "study type", "views", "score", "site",
    ]  # fmt: skip
    assert found.loc["views"].index.tolist() == ["1", "2", "3", "4", "5 or more"]
    assert found.loc["score"].index.tolist()[0] == "0 to .2"
    assert found.loc["site"].index.tolist() == ["north", "south", "missing"]
    assert found.groupby("by")["n"].sum().eq(600).all()


def test_figures_and_gaps_are_those_of_group_and_rest(predictions, found):
    is_in = (predictions["site"] == "south").to_numpy()
    sides = []
    for part in (predictions[is_in], predictions[~is_in]):
        called = (part["score"] > 0.45).astype(int)
        wrong = called != part["label"]
        sides.append(
            {
                "error_rate": wrong.mean(),
                "fn_rate": wrong[part["label"] == 1].mean(),
                "fp_rate": wrong[part["label"] == 0].mean(),
                "kappa": cohen_kappa_score(part["label"], called),
                "auroc": roc_auc_score(part["label"], part["score"]),
            }
        )
    row = found.loc[("site", "south")]
    for name, value in sides[0].items():
        assert row[name] == pytest.approx(value)
        assert row[f"{name}_gap"] == pytest.approx(value - sides[1][name])
        assert row[f"{name}_gap_low"] < row[f"{name}_gap"] < row[f"{name}_gap_high"]
    assert row["fn"] + row["fp"] == round(row["n"] * row["error_rate"])


def test_gap_of_a_site_with_more_errors_excludes_0_and_of_a_random_type_does_not(found):
    assert found.loc[("site", "south"), "error_rate_gap_low"] > 0
    row = found.loc[("study type", "XR_HAND")]
    assert row["error_rate_gap_low"] < 0 < row["error_rate_gap_high"]


def test_interval_of_a_gap_is_that_of_two_independent_shares(predictions):
    table = predictions.assign(patient=np.arange(600))
    row = error_groups(table, ["site"]).set_index(["by", "value"]).loc[("site", "south")]
    p = np.array([row["error_rate"], row["error_rate"] - row["error_rate_gap"]])
    n = np.array([row["n"], 600 - row["n"]])
    width = row["error_rate_gap_high"] - row["error_rate_gap_low"]
    assert width == pytest.approx(2 * 1.96 * np.sqrt((p * (1 - p) / n).sum()), rel=0.1)


def test_copies_of_studies_within_patients_leave_intervals_unchanged(predictions):
    once = error_groups(predictions, ["site"], n_resamples=100)
    copies = pd.concat([predictions] * 3, ignore_index=True)
    found = error_groups(copies, ["site"], n_resamples=100)
    ends = [name for name in once if name.endswith(("_low", "_high"))]
    pd.testing.assert_frame_equal(found[ends], once[ends])


def test_score_bands_have_an_error_rate_alone(found):
    bands = found.loc["score"]
    assert bands["error_rate"].notna().all()
    assert bands[["fn_rate", "fp_rate", "kappa", "auroc"]].isna().all(axis=None)
    assert (bands["undefined"] == "").all()


def test_small_groups_are_flagged_and_the_smallest_is_named(predictions):
    table = predictions.assign(scanner=["old"] * 20 + ["new"] * 580)
    found = error_groups(table, ["scanner"], n_resamples=50)
    flagged = found[found["by"] == "scanner"].set_index("value")["caution"]
    assert flagged["old"] == "fewer than 50 patients"
    small = smallest_groups(found).set_index("by").loc["scanner"]
    assert small[["value", "n", "n_patients", "n_small"]].tolist() == ["old", 20, 10, 1]


def test_single_group_has_no_gap(predictions):
    row = error_groups(predictions.assign(site="north"), ["site"], n_resamples=20).iloc[-1]
    assert row["error_rate"] > 0
    assert np.isnan(row["error_rate_gap"])
    assert "there is no other group" in row["undefined"]


def test_group_of_one_class_has_reasons(predictions):
    table = predictions.assign(site=predictions["label"].map({0: "a", 1: "b"}))
    found = error_groups(table, ["site"], n_resamples=20).set_index("value")
    assert found.loc["a", "undefined"].startswith("fn_rate: no abnormal studies")
    assert "auroc: only one class" in found.loc["b", "undefined"]


def test_order_of_studies_does_not_change_an_interval(predictions):
    once = error_groups(predictions, ["site"], n_resamples=50)
    mixed = predictions.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(error_groups(mixed, ["site"], n_resamples=50), once)


def test_predictive_values_start_at_the_prevalence_of_the_data(predictions):
    found = failure_analysis(predictions, prevalence=[0.05], n_resamples=50).predictive_values
    assert found["of"].tolist() == ["these studies", "chosen"]
    assert found["prevalence"].tolist() == pytest.approx([predictions["label"].mean(), 0.05])


def test_empty_table_has_no_groups(predictions):
    found = failure_analysis(predictions[:0], n_resamples=5)
    assert found.groups.empty
    assert found.predictive_values.empty
    assert found.calibration["value"].isna().all()


def test_few_cases_or_a_figure_of_0_or_1_have_no_interval():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    score = np.clip(label * 0.4 + rng.random(200) * 0.6, 0, 1)
    score[191:], label[191:] = 0.9, [1, 0] * 4 + [1]
    table = pd.DataFrame({"label": label, "score": score, "site": ["large"] * 191 + ["few"] * 9})
    found = error_groups(table, ["site"]).query("by == 'site'").set_index("value")
    ends = [f"{name}_gap_low" for name in ("error_rate", "fn_rate", "kappa")]
    assert found[ends].isna().all(axis=None)
    assert found["error_rate_gap"].notna().all()
    assert "interval of error_rate: fewer than 10 cases" in found.loc["few", "undefined"]
    more = table.assign(site=["large"] * 150 + ["few"] * 50)
    found = error_groups(more, ["site"]).query("by == 'site'")
    assert found["error_rate_gap_low"].notna().all()
