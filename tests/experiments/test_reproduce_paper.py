import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch

from mura_skorch import read_studies, write_phantoms
from mura_skorch.ensemble import MuraEnsemble, load_model
from mura_skorch.studies import join_labels
from mura_skorch.training.checkpoint_file import run_id_of

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "experiments" / "reproduce_paper.py"
QUICK = ["--image-size", "64", "--max-epochs", "1", "--threads", "1", "--cases", "0"]
V4 = ["--protocol", "v4", "--n-seeds", "2", "--n-members", "1"]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="reproduce_paper")["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    return write_phantoms(
        folder, n_train=8, n_valid=6, n_test=1, study_types=["XR_HAND", "XR_WRIST"]
    )


@pytest.fixture(scope="module")
def done(main, data, tmp_path_factory):
    """Folder of a run of v4 with two seeds, the better of which is the model."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("done"))
    try:
        assert main(["--data", str(data), "--out", "out", *V4, *QUICK]) == 0
        return Path("out").resolve()
    finally:
        os.chdir(before)


def runs_of(out):
    """Return the run that a report names, and its children by name."""
    about = json.loads((out / "report" / "report.json").read_text())["about"]
    parent = mlflow.get_run(about["MLflow run"])
    children = mlflow.search_runs(
        [parent.info.experiment_id],
        filter_string=f"tags.mlflow.parentRunId = '{parent.info.run_id}'",
        output_format="list",
    )
    return parent, {run.info.run_name: run for run in children}


def test_report_table_2_and_competition_file_use_the_same_predictions(done, data):
    valid = read_studies(data).query("split == 'valid'")
    predictions = pd.read_csv(done / "report" / "predictions.csv")
    expected = load_model(done / "model").predict_proba(valid)[:, 1]
    np.testing.assert_allclose(predictions["score"], expected, atol=1e-6)
    assert predictions["study"].tolist() == valid["study"].tolist()
    lines = (done / "predictions.csv").read_text().splitlines()
    assert lines[0].startswith("phantoms/valid/XR_HAND/patient")
    decided = join_labels(valid, done / "predictions.csv")["label"]
    assert decided.tolist() == (predictions["score"] > 0.5).astype(int).tolist()
    table = pd.read_csv(done / "report" / "table_2.csv").set_index("study_type")
    metrics = pd.read_csv(done / "report" / "metrics.csv").query("level == 'study'")
    assert table.index.tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    np.testing.assert_allclose(table["this_model"], metrics["kappa"])
    assert not [name for name in table if name.startswith(("paper", "radiologist"))]
    page = (done / "report" / "report.html").read_text()
    assert "patients, held out" in page
    assert "phantoms: no clinical meaning" in page


def test_model_with_the_lowest_loss_is_logged(done, data):
    parent, by_name = runs_of(done)
    assert parent.info.run_name == "paper_v4"
    children = [by_name["seed_0"], by_name["seed_1"]]
    losses = [run.data.metrics["valid/loss"] for run in children]
    best = int(np.argmin(losses))
    assert parent.data.params["members"] == str(best)
    assert parent.data.tags["member_run_ids"] == children[best].info.run_id
    assert {run.info.status for run in [parent, *children]} == {"FINISHED"}
    assert "test/kappa" in parent.data.metrics
    valid = read_studies(data).query("split == 'valid'")
    of_parent, of_child = (
        load_model(run.info.run_id).predict_proba(valid) for run in (parent, children[best])
    )
    assert np.array_equal(of_parent, of_child)
    logged = mlflow.MlflowClient().list_artifacts(parent.info.run_id, "report")
    assert {"report/table_2.csv", "report/report.html"} <= {item.path for item in logged}


def test_departures_from_the_protocol_are_reported(done, main):
    page = (done / "report" / "report.html").read_text()
    assert "protocol v4 (shortened)" in page
    about = json.loads((done / "report" / "report.json").read_text())["about"]
    assert {
        "n_seeds 2 instead of 10",
        "n_members 1 instead of 5",
        "image_size 64 instead of 320",
    } <= {*about["Departures"].split(", ")}
    assert "degrees" not in about["Departures"]


def test_single_view_training_has_view_level_metric_names(done):
    _, children = runs_of(done)
    metrics = children["seed_0"].data.metrics
    assert {"valid_view_kappa", "valid/view_kappa"} <= set(metrics)
    assert not [name for name in metrics if "valid_kappa" in name]
    assert children["seed_0"].data.tags["level"] == "view"


def test_training_follows_the_paper(done):
    params = runs_of(done)[1]["seed_0"].data.params
    assert params["level"] == "view"
    assert params["count"] == "views"
    assert params["batch_size"] == "8"
    assert params["augment"] == "Augment(degrees=30, flip=0.5)"
    assert params["threshold"] == "0.5"


def test_second_call_reuses_finished_models(main, data, done, tmp_path):
    out = shutil.copytree(done, tmp_path / "again")
    weights = out / "models" / "seed_0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    both = [*V4[:-1], "2", *QUICK]
    assert main(["--data", str(data), "--out", str(out), *both]) == 0
    assert weights.stat().st_mtime_ns == before
    ensemble = load_model(out / "model")
    assert isinstance(ensemble, MuraEnsemble)
    assert len(ensemble.estimators_) == 2
    rows = json.loads((out / "model" / "ensemble.json").read_text())["members"]
    assert rows[0]["valid_loss"] <= rows[1]["valid_loss"]
    trained = {run.info.run_id for run in runs_of(done)[1].values()}
    assert {row["run_id"] for row in rows} == trained
    assert runs_of(out)[1] == {}
    with pytest.raises(SystemExit, match="different max_epochs; pass another --out"):
        main(["--data", str(data), "--out", str(out), *both, "--max-epochs", "2"])


def test_selection_does_not_read_labels_of_the_valid_split(main, data, done, tmp_path):
    flipped = shutil.copytree(data, tmp_path / "phantoms", ignore=shutil.ignore_patterns("*.csv"))
    names = {"positive": "negative", "negative": "positive"}
    for folder in sorted((flipped / "valid").glob("XR_*/*/*")):
        stem, label = folder.name.split("_")
        folder.rename(folder.with_name(f"{stem}_{names[label]}"))
    assert main(["--data", str(flipped), "--out", "out", *V4, *QUICK]) == 0
    models = [load_model(folder) for folder in (done / "model", Path("out") / "model")]
    assert models[0].seed_ == models[1].seed_
    assert models[0].threshold_ == models[1].threshold_
    states = [model.module_.state_dict() for model in models]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    n_abnormal = [
        pd.read_csv(out / "report" / "predictions.csv")["label"].sum()
        for out in (done, Path("out"))
    ]
    assert sum(n_abnormal) == 12


def test_selection_on_the_valid_split_is_reported(main, data, capsys):
    assert main(["--data", str(data), "--out", "out", *QUICK, "--select-on-valid"]) == 0
    loudly = "ON THE VALID SPLIT THAT IS REPORTED"
    assert loudly in capsys.readouterr().out
    assert loudly in Path("out/report/report.html").read_text()
    seed = runs_of(Path("out"))[1]["seed_0"]
    text = mlflow.artifacts.load_text(f"{seed.info.artifact_uri}/valid_predictions.csv")
    assert "\ntrain/" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--n-members", "3"], "--n-members from 1 to --n-seeds"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_invalid_arguments_exit_with_one_message(main, data, arguments, message):
    with pytest.raises(SystemExit, match=message):
        main(["--data", str(data), *arguments])
    assert not Path("results").exists()


@pytest.mark.faults
def test_killed_call_resumes_after_its_last_epoch_in_the_same_run(main, data):
    call = ["--data", str(data), "--out", "out", *QUICK, "--max-epochs", "3"]
    script = subprocess.Popen([sys.executable, SCRIPT, *call], stdout=subprocess.PIPE, text=True)
    for line in script.stdout:
        if "epoch  2/3" in line:
            break
    script.kill()
    script.communicate()
    (found,) = Path("out/state").glob("*.safetensors")
    run_id = run_id_of(found)
    assert main(call) == 0
    points = mlflow.MlflowClient().get_metric_history(run_id, "train_loss")
    assert [point.step for point in points] == [1, 2, 3]
    assert mlflow.get_run(run_id).info.status == "FINISHED"
    assert load_model("out/model").run_id_ == run_id
    assert not Path("out/state").exists()
