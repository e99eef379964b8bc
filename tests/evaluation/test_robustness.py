import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from mura_skorch.evaluation import compare_models, robustness_scores, worst_moves


@pytest.fixture
def moved(predictions):
    rng = np.random.default_rng(1)
    parts = []
    for name, spread in (("inverted", 0.4), ("contrast x 0.75", 0.01)):
        score = np.clip(predictions["score"] + rng.normal(0, spread, 60), 0, 1)
        parts.append(
            predictions.assign(
                perturbation=name,
                score_unchanged=predictions["score"],
                score=score,
                threshold=0.55,
            )
        )
    return pd.concat(parts, ignore_index=True)


def test_rows_follow_the_order_of_the_changes_and_hold_both_figures(moved):
    found = robustness_scores(moved)
    assert found["perturbation"].tolist() == ["inverted", "contrast x 0.75"]
    own = moved[moved["perturbation"] == "inverted"]
    row = found.iloc[0]
    for column, end in (("score_unchanged", "_unchanged"), ("score", "")):
        assert row[f"kappa{end}"] == pytest.approx(
            cohen_kappa_score(own["label"], own[column] > 0.55)
        )
        assert row[f"auroc{end}"] == pytest.approx(roc_auc_score(own["label"], own[column]))
    assert row["kappa_difference"] == pytest.approx(row["kappa"] - row["kappa_unchanged"])
    assert row["n_changed"] == ((own["score"] > 0.55) != (own["score_unchanged"] > 0.55)).sum()


def test_intervals_are_the_paired_ones_of_two_models(moved):
    own = moved[moved["perturbation"] == "inverted"]
    expected = compare_models(
        own["label"], own["score_unchanged"], own["score"], groups=own["patient"], threshold=0.55
    ).iloc[-1]
    row = robustness_scores(moved).iloc[0]
    for name in ("kappa_difference", "auroc_difference"):
        for end in ("_low", "_high"):
            assert row[name + end] == expected[name + end]


def test_unlabelled_studies_are_left_out(moved):
    some = moved.assign(label=moved["label"].astype("Int8").mask(moved.index % 60 < 20))
    assert robustness_scores(some)["n"].tolist() == [40, 40]
    assert robustness_scores(moved.assign(label=pd.NA)).empty


def test_worst_moves_are_to_the_wrong_side(moved):
    found = worst_moves(moved)
    assert found["perturbation"].tolist() == ["inverted", "contrast x 0.75"]
    assert (np.sign(found["move"]) == np.where(found["label"] == 1, -1, 1)).all()
    assert len(worst_moves(moved, 1)) == 1
