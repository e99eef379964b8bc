import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation import shortcut_scores, subgroup_scores
from mura_skorch.evaluation.formatting import (
    FEW,
    POOL,
    decision_table,
    format_scores,
    probability_table,
    shortcut_table,
    undefined_table,
)
from mura_skorch.metrics import study_scores


@pytest.mark.filterwarnings("ignore:The model is not clearly better")  # twenty studies are few
def test_shortcut_table_has_types_by_shortcuts_and_model_excess(
    predictions,
):
    good = predictions.assign(
        score=0.2 + 0.6 * predictions["label"],
        mean_intensity=np.random.default_rng(0).normal(40, 9, 60),
    )
    good.loc[:2, "mean_intensity"] = np.nan
    scores = shortcut_scores(good, n_resamples=50)
    table = shortcut_table(scores).set_index("study type")
    assert table.index.tolist() == ["XR_HAND", "XR_WRIST", "overall", table.index[-1]]
    assert table["studies"].tolist() == ["40", "20", "60", ""]
    assert table["the study type"].tolist()[:2] == ["", ""]
    row = scores[scores["shortcut"] == "n_views"].iloc[-1]
    assert table["the number of views"].tolist()[2:] == [".500 (constant)", ".500 (zero width)"]
    assert row["difference"] == 0.5
    assert table["the mean intensity"].str.split(") ", regex=False).str[1].tolist()[:3] == [
        "of 38",
        "of 19",
        "of 57",
    ]


def test_shortcut_table_without_shortcuts_is_empty():
    scores = shortcut_scores(pd.DataFrame({"label": [0, 1], "score": [0.1, 0.9]}))
    assert shortcut_table(scores).empty


def test_subgroup_table_has_the_name_of_its_column(predictions):
    scores = subgroup_scores(
        predictions.assign(site=["north", "south"] * 30), "site", n_resamples=20
    )
    pooled = scores[scores["study_type"] == "overall"]
    for table in (decision_table(pooled), probability_table(pooled)):
        assert table.columns[:2].tolist() == ["site", "studies"]
        assert table["site"].tolist() == ["north", "south"]
    assert decision_table(scores).columns[:2].tolist() == ["site", "study type"]
    assert "AUROC" in probability_table(pooled)
    assert undefined_table(pooled)["site"].unique().tolist() == ["north", "south"]


def test_marks_match_footnotes_and_figures_stay_aligned():
    rng = np.random.default_rng(0)
    study_type = ["XR_HAND"] * 40 + ["XR_WRIST"] * 60
    y_true, y_score = np.arange(100) % 2, rng.random(100)
    scores = study_scores(y_true, y_score, study_type=study_type, mean_of_types=True)
    scores["n_models"] = [1, 1, 2, 2]
    lines = format_scores(scores).splitlines()
    assert [FEW in line for line in lines] == [False, False, True, *[False] * 4, True, False]
    assert [POOL in line for line in lines] == [*[False] * 6, True, False, True]
    ends = {line.index(")") for line in lines[2:7] if ")" in line}
    assert len(ends) == 1, "figures are aligned"
    table = probability_table(scores)
    assert [FEW in text for text in table["AUROC"]] == [True, False, False, False]
    assert [FEW in text for text in table["average precision"]] == [False] * 4
    assert [POOL in text for text in table["calibration error"]] == [False, False, False, True]
    assert [POOL in text for text in table["Brier score"]] == [False] * 4
    assert [POOL in text for text in decision_table(scores)["kappa"]] == [False] * 4
    assert [FEW in text for text in decision_table(scores)["kappa"]] == [True, False, False, False]


def test_undefined_figures_are_grouped_by_reason(predictions):
    scores = study_scores([0] * 4, [0.2] * 4, study_type=["XR_HAND"] * 4, groups=[*"aabb"])
    table = undefined_table(scores)
    assert table.columns.tolist() == ["study type", "not defined", "why"]
    hands = table[table["study type"] == "XR_HAND"].set_index("why")["not defined"]
    assert hands["only one class"] == "AUROC, average precision"
    assert hands["none called abnormal"] == "PPV"
    named = set(table["not defined"].str.cat(sep=", ").split(", "))
    assert not named & {"auroc", "ppv", "f1", "average_precision"}
    assert undefined_table(study_scores([], [])).iloc[0].tolist()[1:] == [
        "every metric",
        "no studies",
    ]
    failed = scores.assign(undefined=np.nan)
    assert undefined_table(failed).empty
