import runpy
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from mura_skorch import MuraClassifier
from mura_skorch.commands import features
from mura_skorch.features.heads import fit_head

SCRIPT = Path(__file__).parents[2] / "experiments" / "features.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="features")["main"]


def test_sizes_double_up_to_all_patients():
    assert features.sizes(110) == [25, 50, 100, 110]
    assert features.sizes(25) == [25]
    assert features.sizes(9) == [9]


def test_head_finds_what_separates_the_classes():
    rng = np.random.default_rng(0)
    label = np.arange(60) % 2
    table = rng.normal(size=(60, 5)) + 3 * label[:, None]
    head = fit_head(table, label, np.arange(60) // 2)
    assert head.score(table, label) > 0.95


def test_too_few_patients_of_a_class_are_noticed():
    label = np.array([0, 0, 0, 0, 1, 1, 1])
    assert not features.has_both_classes(label, np.arange(7))
    assert features.has_both_classes(np.tile(label, 2), np.arange(14))
    assert not features.has_both_classes(np.tile(label, 2), np.tile(np.arange(7), 2))


def test_train_split_without_enough_patients_is_refused_before_embedding(train):
    few = train[train["patient"].isin(train["patient"].unique()[:3])]
    with pytest.raises(ValueError, match="at least 4 patients of each class, got . with normal"):
        features.check_enough(few)
    features.check_enough(train)


@pytest.mark.slow
def test_report_and_run_hold_the_learning_curve_and_the_comparison(
    main, phantom_root, train, tmp_path, capsys, mlflow_store
):
    settings = {"module__backbone": "mobilenet_v2", "module__weights": None, "random_state": 1}
    clf = MuraClassifier(dataset__image_size=32, callbacks__mlflow=None, **settings).initialize()
    clf.update_record(study_types=["XR_HAND", "XR_WRIST"])
    clf.save(tmp_path / "model")
    options = ["--data", phantom_root, "--backbone", "mobilenet_v2", "--image-size", 32]
    options += ["--out", tmp_path / "out", "--cache", tmp_path / "cache", "--draws", 2]
    options += ["--run", tmp_path / "model", "--threads", 1, "--experiment", "frozen"]
    assert main(list(map(str, options))) == 0
    printed = capsys.readouterr().out
    assert "Trained network minus frozen features" in printed
    curve = pd.read_csv(tmp_path / "out" / "learning_curve.csv")
    assert curve["n_patients"].iloc[-1] == train["patient"].nunique()
    assert (curve["kappa_low"] <= curve["kappa_high"]).all()
    for name in ("report.html", "comparison.csv", "learning_curve.png", "predictions.csv"):
        assert (tmp_path / "out" / name).is_file()
    (run,) = mlflow.search_runs(experiment_names=["frozen"], output_format="list")
    assert run.data.metrics["test/n"] == 16
    assert "curve/kappa" in run.data.metrics
    assert run.data.params["backbone"] == "mobilenet_v2"
