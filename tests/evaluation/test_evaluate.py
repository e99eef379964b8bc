import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from mura_skorch.evaluation import (
    add_pooled_scores,
    evaluate,
    final_metrics,
    reader_kappas,
    score_predictions,
)
from mura_skorch.evaluation.formatting import POOL, format_scores
from mura_skorch.evaluation.published import FOOTNOTE
from mura_skorch.metrics import METRICS, study_scores

# A model of 60 studies does not beat chance by far: whether a shortcut is as good is not the point.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def test_failed_types_have_a_row_with_the_reason(predictions):
    scores = score_predictions(predictions, failed={"XR_ELBOW": "FAILED: no such file"})
    names = ["XR_ELBOW", "XR_HAND", "XR_WRIST", "overall"]
    assert scores["study_type"].tolist() == names
    assert "FAILED: no such file" in format_scores(scores).splitlines()[2]
    assert (
        evaluate(predictions, failed={"XR_ELBOW": "FAILED: x"}).alerts[0] == "XR_ELBOW: FAILED: x"
    )


def test_only_failed_types_give_a_table():
    failed = {"XR_HAND": "FAILED: a", "XR_WRIST": "FAILED: b"}
    found = evaluate(add_pooled_scores([]), failed=failed)
    assert found.studies["study_type"].tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    assert "FAILED: b" in format_scores(found.studies)
    assert np.isnan(final_metrics(found.studies)["test/kappa"])


def test_pooled_model_has_its_own_column(predictions):
    perfect = predictions.assign(pooled_score=predictions["label"] * 0.8)
    scores = score_predictions(perfect)
    assert scores["pooled_model"].tolist() == [1, 1, 1]
    assert "pooled" in format_scores(scores).splitlines()[0]
    assert FOOTNOTE.split()[0] not in format_scores(scores)


def test_studies_of_failed_types_have_pooled_scores(predictions):
    hands = predictions[predictions.study_type == "XR_HAND"]
    both = add_pooled_scores([hands], predictions)
    assert both["pooled_score"].notna().all()
    assert both["score"].notna().sum() == len(hands)
    assert add_pooled_scores([], predictions)["score"].isna().all()


def test_published_kappas_have_a_footnote(predictions):
    text = format_scores(score_predictions(predictions, published=True))
    assert "paper*" in text
    assert " ".join(text.split()).endswith(" ".join(FOOTNOTE.split()))


def test_decisions_use_the_threshold_of_their_row(predictions):
    moved = predictions.assign(
        threshold=np.where(predictions.study_type == "XR_HAND", 0.3, 0.6),
    )
    scores = score_predictions(moved).set_index("study_type")
    hands = moved[moved.study_type == "XR_HAND"]
    assert scores.loc["XR_HAND", "tp"] == ((hands.label == 1) & (hands.score > 0.3)).sum()
    decided = (moved.score > moved.threshold) == moved.label
    assert scores.loc["overall", "accuracy"] == decided.mean()


def test_unlabelled_studies_are_ignored_and_counted(predictions):
    partly = predictions.assign(label=predictions["label"].astype("Int8"))
    partly.loc[:9, "label"] = pd.NA
    found = evaluate(partly)
    assert found.studies.iloc[-1]["n"] == 50
    assert (
        "10 of 60 studies have no label or no score: they are left out of the scores"
        in found.alerts
    )


def test_view_predictions_are_scored_at_view_level(predictions):
    views = predictions.loc[predictions.index.repeat(2)].assign(view=[1, 2] * 60)
    found = evaluate(predictions, views)
    assert set(found.views["level"]) == {"view"}
    assert found.views.iloc[-1]["n"] == 120
    assert set(found.studies["level"]) == {"study"}


def test_views_without_patients_are_resampled_by_study(predictions):
    """Eight views that are all alike say no more than their study."""
    unknown = predictions.drop(columns="patient")
    views = unknown.loc[unknown.index.repeat(8)]
    found = evaluate(unknown, views)
    ends = [f"{name}_{end}" for name in ("kappa", "auroc", "brier") for end in ("low", "high")]
    pd.testing.assert_frame_equal(found.views[ends], found.studies[ends], atol=0.03, rtol=0)
    known = evaluate(predictions, predictions.loc[predictions.index.repeat(8)])
    pd.testing.assert_frame_equal(known.views[ends], known.studies[ends], atol=0.03, rtol=0)
    assert found.views["caution"].tolist() == ["fewer than 50 studies"] * 2 + [""]


def by_two_models(predictions):
    tables = [part for _, part in predictions.groupby("study_type")]
    return add_pooled_scores(tables)


def test_several_models_add_n_models_and_mean_of_types(predictions):
    scores = score_predictions(by_two_models(predictions)).set_index("study_type")
    assert scores.index.tolist() == ["XR_HAND", "XR_WRIST", "mean of types", "overall"]
    assert scores["n_models"].tolist() == [1, 1, 2, 2]
    for name in METRICS:
        assert scores.loc["mean of types", name] == pytest.approx(scores[name].iloc[:2].mean())
    alone = score_predictions(predictions.assign(scored_by="one"))
    assert "n_models" not in alone
    assert "mean of types" not in set(alone["study_type"])


def test_printed_table_marks_figures_pooled_over_models(predictions):
    lines = format_scores(score_predictions(by_two_models(predictions))).splitlines()
    assert [line.split("  ")[0] for line in lines[5:7]] == ["mean of types", "overall"]
    assert [POOL in line for line in lines[2:7]] == [False] * 4 + [True]
    (note,) = [line for line in lines if line.startswith(POOL)]
    assert "pools the scores of 2 models, each on its own scale" in note
    assert POOL not in format_scores(score_predictions(predictions))


def test_final_metrics_of_several_models_include_mean_of_types(predictions):
    scores = score_predictions(by_two_models(predictions))
    metrics, rows = final_metrics(scores), scores.set_index("study_type")
    assert metrics["test/auroc"] == rows.loc["overall", "auroc"]
    assert metrics["test/auroc_mean_of_types"] == rows.loc["mean of types", "auroc"]
    assert not any("mean" in name for name in final_metrics(score_predictions(predictions)))


def test_several_models_combine_with_views_failures_and_pooled_model(predictions):
    both = add_pooled_scores(
        [part for _, part in predictions.groupby("study_type")],
        predictions.assign(score=predictions["label"] * 0.8, threshold=0.5, decision=0),
    )
    found = evaluate(both, predictions, failed={"XR_ELBOW": "FAILED: x"})
    names = ["XR_ELBOW", "XR_HAND", "XR_WRIST", "mean of types", "overall"]
    assert found.studies["study_type"].tolist() == names
    assert found.studies["pooled_model"].tolist()[1:] == [1, 1, 1, 1]
    assert found.views["study_type"].tolist() == names[1:]
    lines = format_scores(found.studies).splitlines()
    assert "FAILED: x" in lines[2]


def test_shortcut_as_good_as_the_model_is_an_alert(predictions):
    useless = predictions.assign(score=0.5, n_views=1 + predictions["label"])
    with pytest.warns(UserWarning, match="n_views|number of views"):
        found = evaluate(useless)
    assert any("views" in alert for alert in found.alerts)


def test_warnings_of_other_packages_are_not_alerts(predictions, monkeypatch):
    hasty = partial(LogisticRegression, max_iter=1)
    monkeypatch.setattr("mura_skorch.evaluation.shortcuts.LogisticRegression", hasty)
    varied = predictions.assign(score=predictions["label"] * 0.8, n_views=np.arange(60) % 7)
    with pytest.warns(ConvergenceWarning):
        found = evaluate(varied)
    assert found.alerts == []


def test_readers_and_subgroups_have_tables(predictions):
    rng = np.random.default_rng(1)
    more = predictions.assign(
        site=np.where(np.arange(60) < 30, "north", "south"),
        **{f"reader_{i}": (predictions["label"] + (rng.random(60) < 0.1)) % 2 for i in (1, 2, 3)},
    )
    found = evaluate(more, readers=["reader_1", "reader_2", "reader_3"], by=["site"])
    assert {"reader_1", "reader_2", "reader_3"} <= set(found.readers["reader"])
    assert (found.readers[found.readers["study_type"] == "overall"]["n"] > 0).all()
    site = found.by["site"].set_index(["value", "study_type"])["n"]
    assert site["north", "overall"] == site["south", "overall"] == 30


def read_by_three(predictions):
    rng = np.random.default_rng(1)
    marks = {name: (predictions["label"] + (rng.random(60) < 0.1)) % 2 for name in "abc"}
    return predictions.assign(decision=(predictions["score"] > 0.5).astype(int), **marks)


def test_readers_are_compared_on_unlabelled_studies(predictions):
    read = read_by_three(predictions)
    partly = read.assign(label=read["label"].astype("Int8").mask(read.index < 40))
    direct = reader_kappas(read, [*"abc"])
    pd.testing.assert_frame_equal(evaluate(partly, readers="abc").readers, direct)
    gold = evaluate(partly, readers="ab", gold="c").readers
    assert set(gold.loc[gold["study_type"] == "overall", "n"]) == {60}


@pytest.mark.parametrize("labels", ["none", "missing"])
def test_readers_are_compared_without_labels(predictions, labels):
    read = read_by_three(predictions)
    bare = read.drop(columns="label") if labels == "none" else read.assign(label=None)
    views = bare.loc[bare.index.repeat(2)]
    found = evaluate(bare, views, readers=list("abc"), by=["n_views"], failed={"XR_ELBOW": "no"})
    pd.testing.assert_frame_equal(found.readers, reader_kappas(read, [*"abc"]))
    assert found.studies["n"].iloc[-1] == found.views["n"].iloc[-1] == 0
    assert (
        "60 of 60 studies have no label or no score: they are left out of the scores"
        in found.alerts
    )


@pytest.mark.parametrize(
    "broken",
    [
        lambda t: t.assign(label=0),
        lambda t: t.assign(patient="p"),
        lambda t: t.iloc[:1],
        lambda t: t.iloc[:0],
        lambda t: t.assign(study_type=["XR_ELBOW"] + ["XR_HAND"] * 59),
    ],
    ids=["one class", "one patient", "one study", "no study", "a type with one study"],
)
def test_undefined_figures_have_a_reason(predictions, broken):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        found = evaluate(broken(predictions))
    rows = found.studies[found.studies["undefined"] != ""]
    assert len(rows)
    for row in rows.to_dict("records"):
        for reason in row["undefined"].split("; "):
            assert ":" in reason


def test_final_metrics_have_the_same_names_in_every_run(predictions):
    metrics = final_metrics(score_predictions(predictions))
    direct = study_scores(predictions.label, predictions.score, groups=predictions.patient)
    assert metrics["test/kappa"] == direct["kappa"].iloc[0]
    assert {"test/n", "test/auroc_low", "test/brier_high", "test/ece"} <= set(metrics)
    assert "test/ece_high" not in metrics


def test_duplicate_study_is_refused(predictions):
    with pytest.raises(
        ValueError, match="each study once in the predictions, got 1 more than once"
    ):
        evaluate(pd.concat([predictions, predictions.head(1)]))


def test_constant_decision_is_an_alert(predictions):
    found = evaluate(predictions.assign(threshold=0.0, score=predictions["score"].clip(0.01)))
    assert "the model calls all 60 studies abnormal" in found.alerts


def test_alerts_of_the_caller_come_first(predictions):
    assert evaluate(predictions, alerts=["look here"]).alerts[0] == "look here"
