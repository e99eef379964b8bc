import runpy
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from nets import TinyNet, tiny_classifier
from servers import free_port

from mura_skorch import MuraClassifier
from mura_skorch.cli.main import main
from mura_skorch.evaluation import final_metrics
from mura_skorch.report import collect_predictions, write_report
from mura_skorch.tracking import TrackedRun, fetch_predictions, log_scores, log_test_scores
from mura_skorch.utils.provenance import data_digest

COMPARE = Path(__file__).parents[2] / "experiments" / "compare_runs.py"
NOTE = "phantoms: no clinical meaning"


@pytest.fixture(scope="module")
def fitted(train, mlflow_store):
    mlflow.set_experiment("Default")
    return tiny_classifier(callbacks__mlflow__log_model=False).fit(train)


@pytest.fixture(scope="module")
def predictions(fitted, valid):
    return collect_predictions(fitted, valid, n_cases=0).predictions


@pytest.fixture(scope="module")
def logged(fitted, predictions, tmp_path_factory):
    """The run of a fit whose report is logged, and what the call returned."""
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, predictions)
    return log_test_scores(fitted, predictions, report=folder), mlflow.get_run(fitted.run_id_)


@pytest.mark.slow
def test_run_of_the_fit_has_the_scores_under_the_names_of_every_run(logged):
    scores, run = logged
    expected = final_metrics(scores)
    metrics = run.data.metrics
    assert metrics["test/kappa"] == expected["test/kappa"]
    assert metrics["test/n"] == expected["test/n"]
    assert metrics["test/decisions/sensitivity"] == expected["test/sensitivity"]
    assert metrics["test/probabilities/auroc_low"] == expected["test/auroc_low"]
    assert metrics["train_loss"] > 0
    assert run.info.status == "FINISHED"


def test_model_of_the_fit_is_listed_with_the_scores_and_the_test_set(train, valid, mlflow_store):
    clf = tiny_classifier(callbacks__mlflow__log_model=None, max_epochs=1).fit(train)
    found = collect_predictions(clf, valid, n_cases=0).predictions
    scores = log_test_scores(clf, found)
    (model,) = mlflow.search_logged_models(
        filter_string=f"source_run_id = '{clf.run_id_}'", output_format="list"
    )
    metrics = {metric.key: metric for metric in model.metrics}
    assert metrics["test/kappa"].value == final_metrics(scores)["test/kappa"]
    assert metrics["test/kappa"].dataset_digest == data_digest(found)
    assert metrics["valid/kappa"].dataset_digest != data_digest(found)
    inputs = mlflow.get_run(clf.run_id_).inputs.dataset_inputs
    assert {item.tags[0].value for item in inputs} == {"training", "validation", "test"}
    history = mlflow.MlflowClient().get_metric_history(clf.run_id_, "test/kappa")
    assert len(history) == 1
    loaded = MuraClassifier.load(model.model_uri, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), clf.predict_proba(valid))


def test_kappa_of_the_test_is_the_first_chart(logged):
    names = logged[1].data.metrics
    # As MLflow sorts them: sections by what stands before the last slash, those without one last.
    sections = sorted({name.rpartition("/")[0] for name in names} - {""})
    assert sections[0] == "test"
    assert min(name for name in names if name.rpartition("/")[0] == "test") == "test/kappa"


def test_description_has_the_test_first_and_says_where_the_report_is(logged):
    scores, run = logged
    note, test, validation = run.data.tags["mlflow.note.content"].split("### ")
    assert note.strip() == NOTE
    assert test.startswith(f"Test: studies {scores['n'].iloc[-1]:.0f}, kappa (95 % CI) ")
    assert "`report/report.html`, under Artifacts" in test
    assert validation.startswith("Validation, best epoch ")
    for text in (test, validation):
        rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
        assert rows[2:] == ["XR_HAND", "XR_WRIST", "overall"]


def test_compare_runs_finds_the_predictions(logged, predictions, capsys):
    run_id = logged[1].info.run_id
    assert len(fetch_predictions(run_id)) == len(predictions)
    assert runpy.run_path(str(COMPARE))["main"]([run_id, run_id]) == 0
    assert f"A: run {run_id}" in capsys.readouterr().out


def test_loaded_model_logs_into_the_run_of_its_fit(fitted, predictions, tmp_path):
    fitted.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet, callbacks__mlflow=None)
    log_test_scores(loaded, predictions.iloc[:10])
    run = mlflow.get_run(fitted.run_id_)
    assert run.data.metrics["test/n"] == 10
    text = run.data.tags["mlflow.note.content"]
    assert text.count("### Test") == text.count("### Validation") == 1


def test_scores_that_are_known_go_into_any_run(logged, mlflow_store):
    with TrackedRun(name="evaluation", note=NOTE) as run:
        log_scores(run, logged[0])
    found = mlflow.get_run(run.run_id).data
    assert found.metrics["test/kappa"] == logged[1].data.metrics["test/kappa"]
    assert found.tags["mlflow.note.content"].startswith(f"{NOTE}\n\n### Test: ")


def test_model_without_a_run_and_predictions_without_labels_are_refused(train, fitted, predictions):
    off_the_record = tiny_classifier(max_epochs=1).fit(train)
    with pytest.raises(ValueError, match="expected a model whose fit has an MLflow run"):
        log_test_scores(off_the_record, predictions)
    with pytest.raises(ValueError, match="expected predictions with labels and scores"):
        log_test_scores(fitted, predictions.assign(label=pd.NA))


@pytest.mark.slow
def test_what_a_server_that_is_away_does_not_get_is_sent_later_to_the_run_of_the_fit(
    restored_store, mlflow_store, train, predictions
):
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    clf = tiny_classifier(callbacks__mlflow__log_model=False, callbacks__mlflow__run_name="late")
    with pytest.warns(UserWarning, match="expected MLflow"):
        clf.fit(train)
    log_test_scores(clf, predictions)
    (folder,) = Path("mlflow_offline").iterdir()
    mlflow.set_tracking_uri(mlflow_store)
    for _ in range(60):  # the thread that tries in vain ends first
        assert main(["sync", str(folder)]) == 0
        if not folder.exists():
            break
        time.sleep(0.5)
    (run,) = mlflow.search_runs(
        search_all_experiments=True,
        filter_string="attributes.run_name = 'late'",
        output_format="list",
    )
    assert {"test/kappa", "train_loss"} <= set(run.data.metrics)
    assert run.info.status == "FINISHED"
    text = run.data.tags["mlflow.note.content"]
    assert text.index("### Test") < text.index("### Validation")


@pytest.mark.slow
def test_comparison_takes_the_last_test_though_the_report_of_an_earlier_one_is_there(
    predictions, tmp_path
):
    write_report(tmp_path / "report", predictions)
    with TrackedRun(name="twice") as run:
        log_test_scores(run, predictions, report=tmp_path / "report")
        log_test_scores(run, predictions.iloc[:10])
    assert len(fetch_predictions(run.run_id)) == 10
    assert len(fetch_predictions(run.run_id, "report/predictions.csv")) == len(predictions)
