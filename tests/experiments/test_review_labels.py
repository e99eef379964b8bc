import runpy
from argparse import Namespace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from real_weights import EFFICIENTNET, write_real_weights
from sklearn.metrics import cohen_kappa_score

from mura_skorch import write_phantoms
from mura_skorch.commands import review_labels

SCRIPT = Path(__file__).parents[2] / "experiments" / "review_labels.py"
SMALL = ["--backbone", "mobilenet_v2", "--image-size", 32, "--folds", 2, "--threads", 1]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="review_labels")["main"]


def call(main, root, *options):
    options = ["--data", root, "--out", "out", "--cache", "cache", *SMALL, *options]
    return main(list(map(str, options)))


@pytest.mark.slow
def test_review_writes_ranked_labels_and_a_page(main, phantom_root, train, capsys):
    assert call(main, phantom_root, "--shown", 5) == 0
    assert "Label review: 32 labels" in capsys.readouterr().out
    suspects = pd.read_csv("out/suspects.csv")
    assert sorted(suspects["study"]) == sorted(train["study"])
    assert suspects["rank"].tolist() == list(range(1, 33))
    np.testing.assert_allclose(suspects["p_normal"] + suspects["p_abnormal"], 1)
    page = Path("out/review.html").read_text()
    assert page.count("<article data-study=") == 5
    assert suspects["study"][0] in page
    assert "none: random ones" in page
    assert "under its activation map" in page
    assert "phantoms: no clinical meaning" in page
    run = mlflow.last_active_run()
    assert run.data.metrics["review/n_reviewed"] == 32


class Recorder:
    """A learner that notes which patients it was fitted on."""

    def __init__(self):
        self.seen = []

    def fit(self, studies):
        self.seen.append(set(studies["patient"]))
        return len(self.seen) - 1

    def predict(self, model, studies):
        assert not self.seen[model] & set(studies["patient"])
        return np.linspace(0.1, 0.9, len(studies))

    def describe(self):
        return "nothing"


def test_no_model_predicts_a_patient_that_it_was_fitted_on(train):
    learner = Recorder()
    args = Namespace(folds=3, random_state=0)
    y_score, fold, models = review_labels.out_of_fold(args, train, learner)
    assert len(models) == 3
    assert not np.isnan(y_score).any()
    assert set(fold) == {0, 1, 2}


def test_folds_of_too_few_patients_are_refused(train):
    few = train[train["patient"].isin(train["patient"].unique()[:5])]
    with pytest.raises(ValueError, match="at least 4 patients of each label outside of every fold"):
        review_labels.out_of_fold(Namespace(folds=2, random_state=0), few, Recorder())


@pytest.mark.slow
def test_verdicts_change_a_copy_and_kappa_is_compared(main, phantom_root, train, valid, capsys):
    before = {path: path.read_bytes() for path in phantom_root.rglob("*.csv")}
    rows = train.iloc[:3]
    verdicts = rows[["study", "label"]].assign(verdict=["wrong", "right", "unsure"])
    verdicts.to_csv("verdicts.csv", index=False)
    assert call(main, phantom_root, "--verdicts", "verdicts.csv") == 0
    printed = capsys.readouterr().out
    assert "1 right, 1 wrong, 1 unsure; 1 labels changed in a copy" in printed
    copy = pd.read_csv("out/labels_reviewed.csv")
    changed = copy[copy["label"] != copy["label_before"]]
    assert changed["study"].tolist() == [rows["study"].iloc[0]]
    assert {path: path.read_bytes() for path in phantom_root.rglob("*.csv")} == before
    found = pd.read_csv("out/comparison.csv")
    overall = found[found["study_type"] == "overall"].iloc[0]
    assert overall["n"] == len(valid)
    assert f"change {overall['kappa_difference']:+.3f}" in printed
    run = mlflow.last_active_run()
    assert run.data.metrics["review/kappa_difference"] == pytest.approx(overall["kappa_difference"])


class Oracle(Recorder):
    """A learner that predicts the labels of its training, wrongly if one of them was wrong."""

    def __init__(self, right):
        super().__init__()
        self.right = right

    def fit(self, studies):
        return (studies["label"] == self.right.loc[studies.index]).all()

    def predict(self, model, studies):
        score = self.right.loc[studies.index].to_numpy(dtype=float)
        return 0.1 + 0.8 * (score if model else np.roll(score, 1))


def test_change_of_kappa_is_the_paired_difference_of_both_fits(train, valid):
    studies = pd.concat([train, valid], ignore_index=True)
    right = studies["label"].astype(int)
    noisy = studies.assign(label=right.where(studies.index != 0, 1 - right))
    Path("out").mkdir()
    args = Namespace(out=Path("out"), reported_split=False, flip=None)
    logged = {}
    text = review_labels.compare(
        args,
        noisy,
        studies,
        {"wrong": 1},
        Oracle(right),
        Namespace(log_metrics=logged.update),
    )
    label = valid["label"].to_numpy(dtype=int)
    worse = cohen_kappa_score(label, np.roll(label, 1))
    assert logged["review/kappa_difference"] == pytest.approx(1 - worse)
    assert f"kappa {worse:.3f} -> 1.000, change +" in text


def test_verdicts_on_the_reported_split_need_the_flag(main, phantom_root, valid):
    valid.iloc[:1][["study", "label"]].assign(verdict="wrong").to_csv("v.csv", index=False)
    with pytest.raises(SystemExit, match="expected verdicts on the train split alone, got 1"):
        call(main, phantom_root, "--verdicts", "v.csv")


@pytest.mark.slow
def test_reported_split_is_named_in_every_title(main, phantom_root, valid, capsys):
    assert call(main, phantom_root, "--reported-split", "--shown", 2) == 0
    assert "Label review, with the labels of the reported split" in capsys.readouterr().out
    assert set(pd.read_csv("out/suspects.csv")["split"]) == {"train", "valid"}
    page = Path("out/review.html").read_text()
    assert "<title>Label review, with the labels of the reported split</title>" in page
    valid.iloc[:1][["study", "label"]].assign(verdict="wrong").to_csv("v.csv", index=False)
    assert call(main, phantom_root, "--reported-split", "--verdicts", "v.csv") == 0
    assert "its labels after the review: kappa" in capsys.readouterr().out


@pytest.mark.slow
def test_fine_tuned_networks_rank_and_have_maps(main, phantom_root):
    options = ["--fine-tune", "--max-epochs", 1, "--shown", 2, "--valid-share", 0.3]
    assert call(main, phantom_root, *options) == 0
    assert "under its activation map" in Path("out/review.html").read_text()
    assert len(pd.read_csv("out/suspects.csv")) == 32


@pytest.mark.slow
def test_four_of_five_first_suspects_are_flipped_labels(main, tmp_path, capsys):
    weights = write_real_weights(EFFICIENTNET, tmp_path)
    root = write_phantoms(
        tmp_path / "p", n_train=300, n_valid=2, n_test=0, study_types=["XR_WRIST"]
    )
    own = {"--data": root, "--backbone": EFFICIENTNET, "--weights": weights, "--image-size": 224}
    own |= {"--flip": 0.05, "--shown": 15, "--threads": 1, "--out": "out"}
    assert main([str(part) for pair in own.items() for part in pair]) == 0
    curve = pd.read_csv("out/curve.csv")
    assert len(curve) == 300
    assert curve["precision"][14] >= 0.8
    assert curve["recall"][29] > 0.8
    assert curve["random_recall"][29] == pytest.approx(0.1)
    assert "in random order" in capsys.readouterr().out
    assert (
        "<h1>Label review, a test with flipped labels</h1>" in Path("out/review.html").read_text()
    )
