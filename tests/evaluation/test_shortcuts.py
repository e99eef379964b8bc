import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from mura_skorch.data import read_view, view_statistics
from mura_skorch.evaluation import SHORTCUTS, shortcut_alert, shortcut_scores
from mura_skorch.evaluation.shortcuts import FoldedScores
from mura_skorch.metrics import study_scores


def table(n=300, seed=0, n_patients=120):
    """Predictions of a good model; nothing else depends on the label."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, n)
    return pd.DataFrame(
        {
            "study": [f"s{i:04d}" for i in range(n)],
            "study_type": np.array(["XR_WRIST", "XR_HAND"])[rng.integers(0, 2, n)],
            "patient": [f"p{i}" for i in rng.integers(0, n_patients, n)],
            "label": label,
            "n_views": rng.integers(1, 5, n),
            "score": np.clip(0.3 + 0.4 * label + 0.2 * rng.normal(size=n), 0, 1),
            "mean_intensity": rng.uniform(20, 90, n),
            "height": rng.integers(300, 512, n).astype(float),
            "width": rng.integers(300, 512, n).astype(float),
        }
    )


def row_of(scores, shortcut, study_type="overall"):
    return scores.set_index(["study_type", "shortcut"]).loc[(study_type, shortcut)]


def quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return shortcut_scores(*args, **{"n_resamples": 200} | kwargs)


def test_available_shortcuts_have_a_row_per_type_and_overall():
    scores = quietly(table())
    within = [name for name in SHORTCUTS if name != "study_type"]
    assert scores.shortcut.tolist() == [*within, *within, *SHORTCUTS]
    assert scores.study_type.unique().tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    untyped = quietly(table()[["label", "score", "n_views", "height"]])
    assert untyped[["study_type", "shortcut"]].to_numpy().tolist() == [["overall", "n_views"]]
    assert quietly(table()[["label", "score"]]).empty


def test_row_of_a_type_uses_only_its_studies():
    pd.testing.assert_frame_equal(
        quietly(table()).query("study_type == 'XR_HAND'").reset_index(drop=True),
        quietly(table().query("study_type == 'XR_HAND'")).query("study_type == 'XR_HAND'"),
    )


def test_shortcut_within_types_is_found_even_if_it_cancels_overall():
    """More views mean abnormal in one type, and normal in the other."""
    hands = table()["study_type"] == "XR_HAND"
    shortcut = table().assign(n_views=lambda t: 2 + np.where(hands, t["label"], 1 - t["label"]))
    with pytest.warns(UserWarning, match="the number of views alone in XR_") as caught:
        scores = shortcut_scores(shortcut)
    (message,) = {str(warning.message) for warning in caught}
    assert "Nor is it clearly better than the number of views (in XR_" in message
    assert message.count(". ") == 2, "three sentences"
    assert message.count("in XR_HAND") == message.count("in XR_WRIST") == 1
    assert [row_of(scores, "n_views", name).auroc for name in ("XR_HAND", "XR_WRIST")] == [1, 1]
    assert row_of(scores, "n_views").auroc < 0.6


@pytest.mark.slow
def test_unrelated_columns_have_auroc_near_half():
    rows = [quietly(table(seed=seed), n_resamples=10) for seed in range(8)]
    means = pd.concat(rows).groupby(["study_type", "shortcut"])["auroc"].mean()
    assert means.between(0.45, 0.55).all(), means


@pytest.mark.parametrize("seed", range(3))
def test_constant_has_auroc_of_exactly_half(seed):
    constant = table(97, seed).assign(
        n_views=3, study_type="XR_HAND", mean_intensity=0.1, height=0.3, width=512.7
    )
    scores = quietly(constant, random_state=seed)
    assert (scores[["auroc", "low", "high"]] == 0.5).all(axis=None)


def test_number_of_views_as_shortcut_warns_once():
    shortcut = table().assign(n_views=lambda t: 1 + t["label"])
    with pytest.warns(
        UserWarning,
        match=r"worse than the number of views alone: AUROC [.\d]+ against 1\.000 on 300 studies",
    ) as caught:
        scores = shortcut_scores(shortcut)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    row = row_of(scores, "n_views")
    assert row.auroc == row.low == row.high == 1
    assert row.difference == row.model_auroc - 1
    assert row.difference_low < row.difference < row.difference_high < 0
    assert row.includes_zero is np.False_
    assert str(caught[0].message) == shortcut_alert(scores)


def test_warning_names_the_study_type_of_a_shortcut():
    hands = table()["study_type"] == "XR_HAND"
    shortcut = table().assign(height=lambda t: np.where(hands, 300 + 9 * t["label"], t["height"]))
    with pytest.warns(
        UserWarning, match=r"the size of the views alone in XR_HAND: AUROC"
    ) as caught:
        shortcut_scores(shortcut)
    assert len(caught) == 1


def test_warning_omits_shortcuts_that_the_model_exceeds():
    shortcut = table().assign(n_views=lambda t: 1 + t["label"])
    with pytest.warns(UserWarning, match="number of views") as caught:
        shortcut_scores(shortcut)
    (message,) = {str(warning.message) for warning in caught}
    assert not any(word in message for word in ("intensity", "size", "the study type"))
    assert shortcut_alert(quietly(table())) is None


def test_auroc_below_half_counts_as_half():
    for seed in range(20):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # too few studies to tell
            scores = shortcut_scores(table(60, seed, n_patients=60), n_resamples=50)
        below = scores[scores["auroc"] < 0.4]
        assert (below["difference"] == below["model_auroc"] - 0.5).all()
        assert (scores["difference"] <= scores["model_auroc"] - 0.5).all()
        assert (scores["difference_high"] <= 0.5).all()
        if len(below):
            return
    pytest.fail("no seed gave an AUROC below .4")


def few_views(n, rng):
    """Studies with an AUROC of .652, in the long run, for the number of views."""
    label = (rng.random(n) < 0.45).astype(int)
    score = np.clip(0.3 + 0.4 * label + 0.3 * rng.normal(size=n), 0, 1)
    n_views = 1 + rng.binomial(5, 0.3 + 0.12 * label)
    return pd.DataFrame({"label": label, "n_views": n_views, "score": score})


@pytest.mark.slow
def test_auroc_is_unbiased_in_small_tables():
    """Ranking the studies of all folds together would lower it by .027."""
    rng = np.random.default_rng(0)
    missed = []
    for _ in range(40):
        drawn = few_views(160, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = shortcut_scores(drawn, n_resamples=1)["auroc"].iloc[0]
        missed.append(found - roc_auc_score(drawn["label"], drawn["n_views"]))
    assert abs(np.mean(missed)) < 0.012


def test_auroc_counts_each_pair_within_a_fold_once():
    rng = np.random.default_rng(0)
    y_true, y_score = rng.integers(0, 2, 50), rng.random(50).round(1)
    fold, groups = rng.integers(0, 3, 50), rng.integers(0, 20, 50)
    folds = FoldedScores(y_true, y_score, groups, fold)
    for weights in (np.ones(20), rng.integers(0, 3, 20)):
        drawn = weights[groups]
        right = pairs = 0.0
        for i in np.flatnonzero(y_true == 1):
            for j in np.flatnonzero((y_true == 0) & (fold == fold[i])):
                won = (y_score[i] > y_score[j]) + 0.5 * (y_score[i] == y_score[j])
                right += drawn[i] * drawn[j] * won
                pairs += drawn[i] * drawn[j]
        assert folds.auroc(weights[None].astype(float))[0] == pytest.approx(right / pairs)
    # A fold's scores may be on any scale.
    other = FoldedScores(y_true, y_score + 10 * fold, groups, fold)
    assert other.auroc(np.ones((1, 20))) == folds.auroc(np.ones((1, 20)))


@pytest.mark.parametrize("worse", [True, False])
def test_alert_distinguishes_worse_from_not_clearly_better(worse):
    shortcut = table().assign(n_views=lambda t: 1 + t["label"])
    rng = np.random.default_rng(0)
    shortcut["score"] = rng.random(300) if worse else 0.2 + 0.6 * shortcut["label"]
    with pytest.warns(UserWarning, match="number of views"):
        alert = shortcut_alert(shortcut_scores(shortcut, n_resamples=200)[lambda t: t["low"] > 0.9])
    assert ("predicts worse than" in alert) == worse
    assert ("is not clearly better than" in alert) == (not worse)
    assert "may rest on" not in alert
    assert alert.endswith(".")


def test_constants_give_no_alert():
    alike = table().assign(n_views=2, study_type="XR_HAND", score=np.random.default_rng(1).random())
    alike = alike.drop(columns=["mean_intensity", "height", "width"])
    assert shortcut_alert(quietly(alike)) is None


def test_random_model_is_not_better_than_any_shortcut():
    random = table().assign(score=np.random.default_rng(1).random(300))
    with pytest.warns(UserWarning, match="is not clearly better than") as caught:
        scores = shortcut_scores(random)
    assert len(caught) == 1
    assert row_of(scores, "mean_intensity").includes_zero


def test_non_monotonic_dependence_is_found():
    middle = table().assign(
        mean_intensity=lambda t: np.where(t["label"], 50, np.where(t.index % 2, 20, 80))
    )
    with pytest.warns(UserWarning, match="mean intensity"):
        assert row_of(shortcut_scores(middle), "mean_intensity").auroc > 0.95


def test_study_type_is_a_shortcut_if_prevalence_differs():
    skewed = table(600, n_patients=300)
    rng = np.random.default_rng(0)
    many = np.where(rng.random(600) < 0.85, skewed["label"], 1 - skewed["label"])
    skewed = skewed.assign(study_type=np.where(many, "XR_A", "XR_B"))
    row = row_of(shortcut_scores(skewed), "study_type")
    assert row.auroc == pytest.approx(0.85, abs=0.05)


def test_model_auroc_and_difference_have_intervals():
    good = table()
    row = row_of(quietly(good), "n_views")
    own = study_scores(good["label"], good["score"], groups=good["patient"]).iloc[0]
    assert row.model_auroc == own.auroc
    assert row.difference == row.model_auroc - max(row.auroc, 0.5)
    assert row.difference_low < row.difference < row.difference_high
    assert row.low < row.auroc < row.high


def test_patients_are_not_memorised():
    """Each patient has one height and one label: only a leak could use them."""
    rng = np.random.default_rng(0)
    codes = np.repeat(np.arange(60), 5)
    heights, labels = rng.uniform(300, 500, 60), rng.permutation(np.arange(60) % 2)
    leaky = table().assign(patient=codes, label=labels[codes], height=heights[codes])
    leaky["score"] = 0.2 + 0.6 * leaky["label"]
    assert row_of(quietly(leaky), "size").auroc < 0.7


def test_permuting_the_studies_changes_nothing():
    pd.testing.assert_frame_equal(quietly(table()), quietly(table().sample(frac=1, random_state=0)))


def test_rows_without_a_value_are_ignored_for_that_shortcut():
    some = table()
    some.loc[:49, "mean_intensity"] = np.nan
    some.loc[:9, "label"] = None
    scores = quietly(some)
    assert row_of(scores, "mean_intensity").n == 250
    assert row_of(scores, "n_views").n == 290


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"label": 1}, "auroc: only one class"),
        ({"patient": "p"}, "fewer than two patients with either label"),
        ({"n_views": np.nan}, "auroc: no studies"),
    ],
)
def test_undefined_figures_are_nan_with_a_reason(change, reason):
    row = row_of(quietly(table().assign(**change)), "n_views")
    assert np.isnan(row.auroc)
    assert np.isnan(row.difference_low)
    assert row.includes_zero is pd.NA
    assert reason in row.undefined


def test_few_patients_reduce_folds_and_empty_table_is_undefined():
    few = table(12).assign(patient=[*"aabbccddeeff"], label=[0, 1] * 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        scores = shortcut_scores(few, n_splits=10)
    assert scores[scores["study_type"] == "overall"].auroc.notna().all()
    assert quietly(table()[:0]).undefined.eq("auroc: no studies").all()
    assert len(quietly(table()[:0])) == len(SHORTCUTS)


def test_shortcut_scores_refuses_invalid_input():
    with pytest.raises(ValueError, match="expected columns label"):
        shortcut_scores(table().drop(columns="label"))
    with pytest.raises(ValueError, match="at least 2 folds"):
        shortcut_scores(table(), n_splits=1)
    with pytest.raises(ValueError, match="score to be probabilities"):
        shortcut_scores(table().assign(score=3.0))
    with pytest.raises(ValueError, match="study_type without missing values"):
        shortcut_scores(table().assign(study_type=None))


def test_auroc_of_number_of_views_is_close_to_direct_ranking():
    """For a monotonic dependence, cross-validation hardly changes the AUROC."""
    rng = np.random.default_rng(0)
    more = table(1200, n_patients=800)
    more["n_views"] = 1 + rng.binomial(5, 0.3 + 0.15 * more["label"])
    row = row_of(quietly(more.assign(score=0.2 + 0.6 * more["label"])), "n_views")
    assert row.auroc == pytest.approx(roc_auc_score(more["label"], more["n_views"]), abs=0.02)


def test_view_statistics_are_means_over_views(studies):
    found = view_statistics(studies[:4])
    assert found.index.equals(studies[:4].index)
    views = [read_view(path) for path in studies["views"].iloc[1]]
    expected = np.mean([[view.mean(), *view.shape] for view in views], axis=0)
    np.testing.assert_allclose(found.iloc[1], expected)


def test_unreadable_view_is_named(studies, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no image")
    broken = pd.DataFrame({"views": [(tmp_path / "a.png", tmp_path / "b.png")]})
    with pytest.raises(ValueError, match="b.png"):
        view_statistics(broken)
    assert view_statistics(studies[:0]).empty
