import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation import subgroup_scores
from mura_skorch.metrics import study_scores


@pytest.fixture
def predictions():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 200)
    return pd.DataFrame(
        {
            "study_type": np.array(["XR_WRIST", "XR_HAND"])[rng.integers(0, 2, 200)],
            "patient": [f"p{i}" for i in rng.integers(0, 90, 200)],
            "label": label,
            "score": np.clip(label * 0.4 + 0.3 + 0.2 * rng.normal(size=200), 0, 1),
            "threshold": 0.4,
            "site": np.array(["north", "south", None], dtype=object)[rng.integers(0, 3, 200)],
            "age": rng.uniform(1, 90, 200),
        }
    )


def test_subgroup_scores_equal_scores_of_each_site(predictions):
    found = subgroup_scores(predictions, "site", n_resamples=100)
    assert found["value"].unique().tolist() == ["north", "south", "missing"]
    assert set(found["by"]) == {"site"}
    part = predictions[predictions["site"].isna()]
    expected = study_scores(
        part["label"],
        part["score"],
        study_type=part["study_type"],
        groups=part["patient"],
        threshold=0.4,
        n_resamples=100,
    )
    block = found[found["value"] == "missing"].drop(columns=["by", "value"])
    pd.testing.assert_frame_equal(block.reset_index(drop=True), expected)


def test_subgroup_counts_sum_to_all_labelled_studies(predictions):
    banded = predictions.assign(age_group=pd.cut(predictions["age"], [0, 18, 65, 120]))
    banded.loc[:9, "label"] = pd.NA
    found = subgroup_scores(banded, "age_group", n_resamples=50)
    assert found["value"].unique().tolist() == ["(0, 18]", "(18, 65]", "(65, 120]"]
    assert found.loc[found.study_type == "overall", "n"].sum() == 190


def test_too_many_values_are_refused(predictions):
    with pytest.raises(ValueError, match=r"at most 20 different values of age .* got 200; .*cut"):
        subgroup_scores(predictions, "age")
    with pytest.raises(ValueError, match="map the rare ones"):
        subgroup_scores(predictions, "patient")
    with pytest.raises(ValueError, match="expected columns sex in the predictions"):
        subgroup_scores(predictions, "sex")


def test_empty_column_is_one_group(predictions):
    found = subgroup_scores(predictions.assign(site=None), "site", n_resamples=50)
    assert found["value"].unique().tolist() == ["missing"]
    assert subgroup_scores(predictions[:0], "site")["n"].tolist() == [0]
