import json
import shutil
import tempfile
import time
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from nets import TinyNet, tiny_classifier
from servers import free_port
from skorch.callbacks import Callback

from mura_skorch import MuraClassifier, ValidStudies
from mura_skorch.callbacks import StatelessCallback
from mura_skorch.studies import explode_views
from mura_skorch.tracking import TrackedRun, fetch_predictions
from mura_skorch.tracking.mlflow_model import example_request
from tests.callbacks.test_callbacks import CtrlC


@pytest.fixture
def experiment(restored_store):
    """A new MLflow experiment, the active one during the test."""
    return mlflow.set_experiment(f"experiment-{time.time_ns()}").experiment_id


def tracked(**params):
    return tiny_classifier(**{"callbacks__mlflow__log_model": False, "max_epochs": 2, **params})


def runs_of(experiment_id):
    """Return the runs of an experiment, the oldest first."""
    return mlflow.search_runs([experiment_id], order_by=["start_time ASC"], output_format="list")


def metric(run, name):
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, name)
    return [(point.step, point.value) for point in history]


def artifacts(run, path=None):
    return sorted(item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, path))


# --- what a fit leaves -----------------------------------------------------------------------


@pytest.fixture
def recorded(experiment, train):
    net = tracked(callbacks__mlflow__log_model=True, max_epochs=3).fit(train)
    (run,) = runs_of(experiment)
    return net, run


@pytest.mark.slow
def test_run_holds_parameters_epochs_data_predictions_and_model(recorded, train, valid, tmp_path):
    net, run = recorded
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "XR_HAND, XR_WRIST"
    params = dict(run.data.params)
    assert params.pop("code").startswith("TinyNet ")
    assert params == {
        "lr": "0.001", "batch_size": "8", "max_epochs": "3", "image_size": "32",
        "level": "study", "count": "views", "weights": "None", "optimizer": "Adam",
        "precision": "float32", "random_state": "0", "patience": "1", "threads": "1",
        "memory_format": "contiguous in training, channels_last in prediction",
        "module": "TinyNet", "criterion": "StudyTypeBCE", "accumulate": "1", "threshold": "0.5",
        "train_split": "PatientSplit(0.1, random_state=0)",
        "augment": "Augment(degrees=10, flip=0.5)",
        "lr_policy": "ReduceLROnPlateau(factor=0.1, monitor=watched_loss, patience=1)",
        "precision_set": "float32", "verbose": "0", "callbacks__mlflow__log_model": "True",
    }  # fmt: skip
    for name in ("train_loss", "valid_loss", "train_acc", "valid_acc", "valid_kappa"):
        assert metric(run, name) == list(enumerate(net.history[:, name], start=1))
    assert metric(run, "lr") == [(1, 1e-3), (2, 1e-3), (3, 1e-3)]
    assert {
        "seconds", "views_per_second", "valid_confusion/tp", "valid_confusion/tn",
        "valid_kappa/XR_HAND", "valid_kappa/XR_WRIST", "valid/loss", "valid/kappa",
        "valid/kappa/XR_HAND", "valid/confusion/tp",
    } <= set(run.data.metrics)  # fmt: skip
    best = int(np.argmin(net.history[:, "valid_loss"]))
    assert run.data.metrics["valid/loss"] == net.history[best, "valid_loss"]
    assert run.data.metrics["valid/kappa"] == net.history[best, "valid_kappa"]
    tags = run.data.tags
    assert tags["best_epoch"] == str(best + 1)
    assert tags["study_type"] == "XR_HAND, XR_WRIST"
    assert tags["note"] == "phantoms: no clinical meaning"
    assert {"torch", "skorch", "mura_skorch", "torchvision"} <= set(tags)
    assert "valid_predictions.csv" in artifacts(run)
    model = {"model.json", "model.safetensors", "MLmodel", "served_model.py", "requirements.txt"}
    assert {f"model/{name}" for name in model} <= set(artifacts(run, "model"))


@pytest.mark.slow
def test_model_of_a_run_loads_by_id_address_and_run(recorded, valid):
    net, run = recorded
    for source in (run, run.info.run_id, f"runs:/{run.info.run_id}/model"):
        loaded = MuraClassifier.load(source, module=TinyNet)
        assert np.array_equal(loaded.predict_proba(valid), net.predict_proba(valid))


@pytest.mark.slow
def test_logged_model_of_a_fit_is_found_loads_and_answers_at_both_addresses(experiment, train):
    clf = MuraClassifier(
        module__weights=None, dataset__image_size=32, max_epochs=1, random_state=0, verbose=0
    ).fit(train)
    (model,) = mlflow.search_logged_models([experiment], output_format="list")
    assert (model.source_run_id, model.status) == (clf.run_id_, "READY")
    assert model.params["max_epochs"] == "1"
    (run,) = runs_of(experiment)
    digests = {item.dataset.digest for item in run.inputs.dataset_inputs}
    linked = {metric.key: metric for metric in model.metrics}
    assert linked["valid/kappa"].dataset_digest in digests
    for address in (model.model_uri, f"runs:/{clf.run_id_}/model"):
        answer = mlflow.pyfunc.load_model(address).predict(example_request())
        assert 0 < answer["probability"][0] < 1
    version = mlflow.register_model(f"runs:/{clf.run_id_}/model", "of-a-fit")
    assert (version.source, version.run_id) == (model.model_uri, clf.run_id_)


def test_asking_for_a_run_where_there_is_no_database_makes_none(restored_store, tmp_path):
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/elsewhere.db")
    for ask, error in ((MuraClassifier.load, FileNotFoundError), (fetch_predictions, ValueError)):
        with pytest.raises(error, match="no .*database.*; set MLFLOW_TRACKING_URI to where"):
            ask("0" * 32)
    assert not (tmp_path / "elsewhere.db").exists()


def test_data_are_recorded_with_roles_and_a_digest_of_every_row(recorded, train):
    _, run = recorded
    inputs = {
        item.tags[0].value: item.dataset
        for item in mlflow.get_run(run.info.run_id).inputs.dataset_inputs
    }
    assert set(inputs) == {"training", "validation"}
    rows = {role: json.loads(data.profile)["num_rows"] for role, data in inputs.items()}
    assert sum(rows.values()) == len(train)
    assert inputs["training"].digest != inputs["validation"].digest


@pytest.mark.slow
def test_validation_predictions_are_those_of_the_restored_model(experiment, train, valid):
    net = tracked(train_split=ValidStudies(valid), lr=1e-2, max_epochs=4).fit(train)
    (run,) = runs_of(experiment)
    path = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/valid_predictions.csv")
    table = pd.read_csv(path)
    columns = ["study", "study_type", "patient", "label", "n_views"]
    columns += ["score", "threshold", "decision", "note"]
    assert table.columns.tolist() == columns
    assert table["study"].tolist() == valid["study"].tolist()
    np.testing.assert_allclose(table["score"], net.predict_proba(valid)[:, 1], atol=1e-6)
    assert table["n_views"].tolist() == valid["views"].map(len).tolist()


def test_fit_on_single_views_is_on_record_as_one(experiment, train, valid):
    tracked(train_split=ValidStudies(explode_views(valid))).fit(explode_views(train))
    tracked(max_epochs=1).fit(train)
    run, plain = runs_of(experiment)
    assert (run.data.tags["level"], plain.data.tags["level"]) == ("view", "study")
    assert {"valid_view_kappa", "valid/view_kappa", "valid/view_acc"} <= set(run.data.metrics)
    assert not {"valid_kappa", "valid_acc", "train_acc", "valid/kappa"} & set(run.data.metrics)
    table = pd.read_csv(
        mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/valid_predictions.csv")
    )
    assert set(table["level"]) == {"view"}
    assert table["view"].tolist() == explode_views(valid)["view"].tolist()
    with pytest.raises(ValueError, match=f"{run.info.run_id}, whose rows are views"):
        fetch_predictions(run, table="valid_predictions.csv")
    assert "level" not in fetch_predictions(plain, table="valid_predictions.csv")


def test_fetched_texts_stay_texts(experiment):
    with TrackedRun(name="sites") as run:
        run.log_text("study,label,site\na,1,NA\nb,,\n", "test_predictions.csv")
    table = fetch_predictions(run.run_id)
    assert table["site"].fillna("missing").tolist() == ["NA", "missing"]
    assert table["label"].tolist() == [1, pd.NA]


def test_of_paths_among_parameters_the_last_name_alone_is_recorded(experiment, tmp_path):
    weights = tmp_path / "Dr_Name" / "weights.pth"
    values = {"data": tmp_path / "Dr_Name", "here": Path(), "weights": str(weights), "lr": 0.1}
    with TrackedRun(name="params") as run:
        run.log_params(values | {"empty": "", "name": "IMAGENET1K_V1", "long": "x," * 3000})
    params = mlflow.get_run(run.run_id).data.params
    assert params.pop("long").startswith("x,x")
    expected = {"data": "Dr_Name", "here": tmp_path.name, "weights": "weights.pth", "lr": "0.1"}
    assert params == expected | {"empty": "", "name": "IMAGENET1K_V1"}


def test_no_path_of_an_image_is_recorded(recorded, phantom_root):
    _, run = recorded
    folder = Path(mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=""))
    texts = [path.read_text() for path in folder.rglob("*") if path.suffix in (".csv", ".json")]
    texts.append(str(mlflow.get_run(run.info.run_id).to_dictionary()))
    assert not any(str(phantom_root) in text or ".png" in text for text in texts)


def test_type_of_one_body_part_names_the_run(experiment, train):
    tracked(max_epochs=1).fit(train[train.study_type == "XR_WRIST"])
    (run,) = runs_of(experiment)
    assert run.info.run_name == run.data.tags["study_type"] == "XR_WRIST"


def test_odd_names_of_study_types_do_not_stop_the_record(experiment, train):
    names = {"XR_HAND": "Hand [links] = 1%", "XR_WRIST": "Handgelenk/ä"}
    tracked(max_epochs=1).fit(train.assign(study_type=train.study_type.map(names)))
    (run,) = runs_of(experiment)
    assert "valid_kappa/Hand _links_ _ 1_" in run.data.metrics


# --- which run -------------------------------------------------------------------------------


def test_each_fit_opens_its_own_run_and_partial_fit_goes_on_in_it(experiment, train):
    net = tracked().fit(train)
    net.partial_fit(train)
    net.fit(train)
    first, second = runs_of(experiment)
    assert [step for step, _ in metric(first, "train_loss")] == [1, 2, 3, 4]
    assert [step for step, _ in metric(second, "train_loss")] == [1, 2]
    assert {first.info.status, second.info.status} == {"FINISHED"}


def test_what_a_later_call_sets_anew_is_on_record(experiment, train):
    net = tracked(max_epochs=1).fit(train)
    net.set_params(batch_size=16).partial_fit(train)
    (run,) = runs_of(experiment)
    assert run.data.params["batch_size"] == "8"
    later = {n: v for n, v in run.data.params.items() if n.startswith("from_epoch")}
    assert later == {"from_epoch_2/batch_size": "16"}


def test_training_that_goes_on_from_a_loaded_model_has_its_settings_on_record(
    experiment, train, tmp_path
):
    tiny_classifier(max_epochs=1).fit(train).save(tmp_path / "model")
    net = MuraClassifier.load(tmp_path / "model", module=TinyNet, lr=2e-3)
    net.set_params(callbacks__mlflow__log_model=False).partial_fit(train)
    (run,) = runs_of(experiment)
    assert run.data.params["lr"] == "0.002"


def test_more_settings_than_a_request_takes_are_recorded_whole(experiment):
    with TrackedRun(name="many") as run:
        run.log_params({f"a{i} [%]" + "x" * 300 * (i == 0): "y" * 7000 for i in range(150)})
    params = mlflow.get_run(run.run_id).data.params
    assert len(params) == 150
    assert {len(value) for value in params.values()} == {6000}
    assert max(map(len, params)) == 250


def test_fit_inside_an_active_run_is_its_child(experiment, train):
    with mlflow.start_run(run_name="mine") as parent:
        tracked(max_epochs=1).fit(train)
        assert mlflow.active_run().info.run_id == parent.info.run_id
    child = next(run for run in runs_of(experiment) if run.info.run_name == "XR_HAND, XR_WRIST")
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_fit_logs_into_a_given_run_and_leaves_it_to_its_owner(experiment, train):
    with mlflow.start_run() as mine:
        tracked(max_epochs=1, callbacks__mlflow__run_id=mine.info.run_id).fit(train)
        assert mlflow.get_run(mine.info.run_id).info.status == "RUNNING"
    (run,) = runs_of(experiment)
    assert run.info.run_id == mine.info.run_id
    assert metric(run, "train_loss")


def test_worker_without_an_active_run_can_name_its_parent(experiment, train):
    with mlflow.start_run() as parent:
        pass
    tracked(max_epochs=1, callbacks__mlflow__parent_run_id=parent.info.run_id).fit(train)
    child = next(run for run in runs_of(experiment) if run.info.run_id != parent.info.run_id)
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id


def test_tracking_can_be_switched_off(experiment, train):
    tiny_classifier(callbacks__mlflow=None, max_epochs=1).fit(train)
    assert runs_of(experiment) == []


# --- how it ends -----------------------------------------------------------------------------


class Fails(Callback):
    def __init__(self, hook):
        self.hook = hook

    def _fail(self):
        raise ZeroDivisionError("made to fail")

    def on_train_begin(self, net, **kwargs):
        if self.hook == "begin":
            self._fail()

    def on_epoch_end(self, net, **kwargs):
        if self.hook == "epoch":
            self._fail()

    def on_train_end(self, net, **kwargs):
        if self.hook == "end":
            self._fail()


@pytest.mark.parametrize("hook", ["begin", "epoch", "end"])
def test_fit_that_raises_is_failed_with_its_error(experiment, train, hook):
    with pytest.raises(ZeroDivisionError):
        tracked(callbacks=[Fails(hook)]).fit(train)
    (run,) = runs_of(experiment)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"] == "ZeroDivisionError: made to fail"
    assert mlflow.active_run() is None


def test_interrupted_fit_is_killed(experiment, train):
    tracked(callbacks=[CtrlC(2)], max_epochs=3).fit(train)
    (run,) = runs_of(experiment)
    assert run.info.status == "KILLED"
    assert len(metric(run, "train_loss")) == 1


def test_values_that_are_not_finite_are_left_out(experiment):
    with TrackedRun(name="odd") as run:
        run.log_metrics({"inf": float("inf"), "nan": float("nan"), "one": 1, "none": None})
    (found,) = runs_of(experiment)
    assert found.data.metrics == {"one": 1.0}


# --- when nobody answers ---------------------------------------------------------------------


def unsent_records(folder, file="records.jsonl"):
    """Return the records in a spool, without their times."""
    records = [json.loads(line) for line in (folder / file).read_text().splitlines()]
    return [{key: record[key] for key in record if key != "time"} for record in records]


def test_training_goes_on_with_one_warning_when_the_server_does_not_answer(
    experiment, train, valid, tmp_path
):
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    begin = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net = tracked(callbacks__mlflow__log_model=True).fit(train)
    assert time.monotonic() - begin < 60
    ours = [str(item.message) for item in caught if "expected MLflow" in str(item.message)]
    assert len(ours) == 1
    (folder,) = (tmp_path / "mlflow_offline").iterdir()
    assert str(folder) in ours[0]
    records = unsent_records(folder)
    assert [record["step"] for record in records if "train_loss" in record.get("metrics", {})] == [
        1,
        2,
    ]
    assert any(record.get("params", {}).get("lr") == 0.001 for record in records)
    assert "link_metrics" in unsent_records(folder, "files.jsonl")[-1]
    assert records[-1] == {"status": "FINISHED"}
    assert (folder / "artifacts" / "valid_predictions.csv").is_file()
    assert (folder / "artifacts" / "model" / "MLmodel").is_file()  # it can be served from there
    loaded = MuraClassifier.load(folder / "artifacts" / "model", module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), net.predict_proba(valid))


def test_run_that_can_be_kept_nowhere_says_so_and_where_to_record_it(
    experiment, tmp_path, monkeypatch
):
    Path("mlflow_offline").write_text("in the way")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    with pytest.warns(UserWarning, match="expected MLflow") as caught, TrackedRun(name="a") as run:
        run.log_metrics({"a": 1})
    (said,) = [str(item.message) for item in caught if "expected MLflow" in str(item.message)]
    assert "what cannot be logged is not recorded anywhere" in said
    assert "set MLFLOW_TRACKING_URI to a database in one" in said
    assert "None" not in said


def test_run_whose_folder_is_closed_is_kept_among_temporary_files(experiment):
    Path("mlflow_offline").write_text("in the way")
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    with pytest.warns(UserWarning, match="is in .*mlflow_offline-") as caught:
        run = TrackedRun(name="a").open()
        run.log_metrics({"a": 1})
        run.close()
    (said,) = [str(item.message) for item in caught if "expected MLflow" in str(item.message)]
    assert f"is in {run.offline_folder}:" in said
    assert {"metrics": {"a": 1.0}, "step": 0} in unsent_records(run.offline_folder)
    shutil.rmtree(run.offline_folder.parent)


def test_run_stays_with_its_server_and_is_forgotten_when_it_ends(experiment, mlflow_store):
    with TrackedRun(name="parent") as parent:
        with TrackedRun(name="child") as child:
            mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
            child.log_metrics({"a": 1})
        mlflow.set_tracking_uri(mlflow_store)
        assert mlflow.active_run().info.run_id == parent.run_id
    assert mlflow.active_run() is None
    assert mlflow.get_run(parent.run_id).info.status == "FINISHED"
    found = mlflow.get_run(child.run_id)
    assert (found.info.status, found.data.metrics) == ("FINISHED", {"a": 1.0})


class Fault(StatelessCallback):
    """Fail in the second epoch as long as there is a file."""

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 2 and Path("fault").exists():
            raise RuntimeError("a fault")


def test_resumed_fit_has_each_epoch_once_also_under_names_that_mlflow_changes(experiment, train):
    names = {"XR_HAND": "Hand (left)", "XR_WRIST": "Wrist"}
    table = train.assign(study_type=train["study_type"].map(names))
    Path("fault").touch()
    net = tracked(callbacks=[Fault()], checkpoint_path="checkpoint", max_epochs=3)
    with pytest.raises(RuntimeError, match="a fault"):
        net.fit(table)
    Path("fault").unlink()
    tracked(callbacks=[Fault()], checkpoint_path="checkpoint", max_epochs=3).fit(table)
    (run,) = runs_of(experiment)
    of_type = [name for name in run.data.metrics if "Hand _left_" in name and "valid_" in name]
    assert of_type
    for name in (*of_type, "train_loss", "valid_loss"):
        assert [step for step, _ in metric(run, name)] == [1, 2, 3], name


def test_rejected_value_is_set_aside_and_the_rest_is_sent(experiment):
    run = TrackedRun(name="odd").open()
    run.log_params({"lr": 1})
    with pytest.warns(UserWarning, match="to accept this"):
        run.log_params({"lr": 2})
    run.log_metrics({"after": 3})
    run.close()
    (found,) = runs_of(experiment)
    assert found.info.status == "FINISHED"
    assert found.data.params["lr"] == "1"
    assert found.data.metrics["after"] == 3
    assert unsent_records(run.offline_folder, "rejected.jsonl") == [{"params": {"lr": 2}}]
