"""Runs whose tracking server is away, slow or full: a real server behind a real network."""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import mlflow
import numpy as np
import pytest
from disks import fill, mounted
from nets import TinyNet, tiny_classifier
from servers import Postgres, Proxy, tracking_server
from skorch.callbacks import Callback

from mura_skorch import MuraClassifier
from mura_skorch.cli.main import main
from mura_skorch.tracking import TrackedRun

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that no test stops."""
    with tracking_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def proxy(server, restored_store):
    """The network between a test and the server; MLflow uses it."""
    with Proxy(server.port) as proxy:
        mlflow.set_tracking_uri(proxy.url)
        yield proxy


@pytest.fixture
def experiment(proxy):
    """A new experiment, the active one during the test."""
    return mlflow.set_experiment(f"offline-{time.time_ns()}").experiment_id


@pytest.fixture
def short_timeouts(monkeypatch):
    """Let MLflow wait for an answer for seconds only; opening and closing a run, too."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def use(url, name):
    """Point MLflow to a store and a new experiment."""
    mlflow.set_tracking_uri(url)
    return mlflow.set_experiment(f"{name}-{time.time_ns()}").experiment_id


def sync_process(url):
    """Start the command as a user does, without the timeouts that this process has set."""
    environment = {key: text for key, text in os.environ.items() if "MLFLOW_HTTP" not in key}
    return subprocess.Popen(
        [sys.executable, "-m", "mura_skorch", "sync"],
        env={**environment, "MLFLOW_TRACKING_URI": url}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def runs(experiment_id):
    found = mlflow.search_runs([experiment_id], order_by=["start_time ASC"], output_format="list")
    return {run.info.run_name: run for run in found}


def history(run_id, key):
    return mlflow.MlflowClient().get_metric_history(run_id, key)


def steps(run_id, key="a"):
    """Return the steps of a metric in the order of their time."""
    points = history(run_id, key)
    return [point.step for point in sorted(points, key=lambda point: point.timestamp)]


def log_epochs(run, *epochs):
    """Log as many metrics; return the longest time one took."""
    seconds = []
    for epoch in epochs:
        begin = time.monotonic()
        run.log_metrics({"a": epoch}, step=epoch)
        seconds.append(time.monotonic() - begin)
        time.sleep(0.01)
    return max(seconds)


def spools():
    return sorted(Path("mlflow_offline").glob("*")) if Path("mlflow_offline").exists() else None


def records(folder, file="records.jsonl"):
    return [json.loads(line) for line in (folder / file).read_text().splitlines()]


# --- away from the start -----------------------------------------------------------------------

TRAINING = """
import sys, time
import pandas as pd
from nets import tiny_classifier
from skorch.callbacks import Callback
from mura_skorch.tracking import TrackedRun, use_experiment

class Tells(Callback):
    def on_epoch_end(self, net, **kwargs):
        print("epoch", len(net.history), flush=True)
        time.sleep(float(sys.argv[1]))

assert use_experiment(sys.argv[3], note="a note") is None
train = pd.read_pickle("train.pkl")
with TrackedRun(name="parent") as parent:
    with TrackedRun(name="child", parent=parent) as run:
        clf = tiny_classifier(
            max_epochs=int(sys.argv[2]), callbacks__mlflow__run_id=run, callbacks=[Tells()]
        )
        clf.fit(train)
"""


@contextlib.contextmanager
def training(train, url, pause, epochs, experiment):
    """A training of its own process, and what it prints."""
    train.to_pickle("train.pkl")
    Path("training.py").write_text(TRAINING)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": url,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "helpers"), *sys.path]),
    }
    environment.pop("MLFLOW_EXPERIMENT_ID", None)
    process = subprocess.Popen(
        [sys.executable, "training.py", str(pause), str(epochs), experiment],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_sync_sends_everything_when_the_server_was_away_all_the_time(
    proxy, server, train, valid, capsys
):
    proxy.close()
    begin = time.time() * 1000
    with training(train, proxy.url, 0, 3, "away") as process:
        _, said = process.communicate(timeout=400)
    end = time.time() * 1000
    assert process.returncode == 0, said
    assert said.count("expected MLflow") == 1, "one warning, also of a parent and its child"
    assert "mura-skorch sync" in said
    with sync_process(proxy.url) as process:
        assert process.wait(timeout=100) == 1, "nobody answers yet, which takes seconds to see"
    assert len(spools()) == 2
    proxy.open()
    capsys.readouterr()
    assert main(["sync"]) == 0, capsys.readouterr().out
    experiment_id = mlflow.get_experiment_by_name("away").experiment_id
    sent = runs(experiment_id)
    parent, child = sent["parent"], sent["child"]
    assert len(sent) == 2
    assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert child.data.tags["study_type"] == "XR_HAND, XR_WRIST"
    assert child.data.params["lr"] == "0.001"
    assert {"mlflow.user", "mlflow.source.name"} <= set(child.data.tags)
    for run in (parent, child):
        assert run.info.status == "FINISHED"
        assert begin <= run.info.start_time <= run.info.end_time <= end
    points = history(child.info.run_id, "train_loss")
    assert [point.step for point in points] == [1, 2, 3]
    assert all(begin <= point.timestamp <= end for point in points)
    inputs = mlflow.get_run(child.info.run_id).inputs.dataset_inputs
    assert {item.tags[0].value for item in inputs} == {"training", "validation"}
    files = {f.path for f in mlflow.MlflowClient().list_artifacts(child.info.run_id)}
    assert files == {"valid_predictions.csv"}
    (model,) = mlflow.search_logged_models([experiment_id], output_format="list")
    assert (model.source_run_id, model.name) == (child.info.run_id, "model")
    assert "valid/kappa" in {metric.key for metric in model.metrics}
    loaded = MuraClassifier.load(model.model_uri, module=TinyNet)
    assert len(loaded.predict_proba(valid)) == len(valid)
    assert spools() is None
    assert main(["sync"]) == 0
    assert "Nothing to send" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_process_leaves_all_epochs_to_sync(proxy, train, capsys):
    proxy.close()
    with training(train, proxy.url, 0.5, 100, "killed") as process:
        for line in process.stdout:
            if line == "epoch 3\n":
                break
        assert main(["sync"]) == 0
        assert "still open" in capsys.readouterr().out, "a run that is open is left alone"
        for line in process.stdout:
            if line == "epoch 4\n":
                break
        process.send_signal(signal.SIGKILL)
        process.wait()
    proxy.open()
    assert main(["sync"]) == 0, capsys.readouterr().out
    sent = runs(mlflow.get_experiment_by_name("killed").experiment_id)
    assert {run.info.status for run in sent.values()} == {"KILLED"}
    assert steps(sent["child"].info.run_id, "train_loss")[:3] == [1, 2, 3]
    assert spools() is None


# --- away in between ---------------------------------------------------------------------------


class CloseProxy(Callback):
    def __init__(self, proxy):
        self.proxy = proxy

    def on_epoch_end(self, net, **kwargs):
        self.proxy.close()


def test_fit_whose_server_goes_away_loses_nothing(experiment, proxy, train, valid):
    net = tiny_classifier(
        callbacks__mlflow__log_model=True, callbacks=[("close", CloseProxy(proxy))]
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        net.fit(train)
    assert len([one for one in caught if "expected MLflow" in str(one.message)]) == 1
    (folder,) = spools()
    assert "train_loss" in next(one for one in records(folder) if one.get("step") == 2)["metrics"]
    proxy.open()
    assert main(["sync"]) == 0
    (run,) = runs(experiment).values()
    assert run.info.run_id == net.run_id_
    assert steps(net.run_id_, "train_loss") == [1, 2]
    loaded = MuraClassifier.load(net.run_id_, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), net.predict_proba(valid))


def test_server_that_comes_back_has_everything_in_order_before_the_run_ends(experiment, proxy):
    run = TrackedRun(name="run").open()
    log_epochs(run, 1, 2)
    assert run.flush()
    proxy.close()
    assert log_epochs(run, 3, 4, 5) < 1
    run.log_text("words", "notes.txt")
    with pytest.warns(UserWarning, match="is sent when MLflow answers"):
        assert not run.flush()
    proxy.open()
    log_epochs(run, 6)
    run.close()
    (found,) = runs(experiment).values()
    assert found.info.status == "FINISHED"
    assert steps(run.run_id) == [1, 2, 3, 4, 5, 6]
    assert mlflow.artifacts.load_text(f"runs:/{run.run_id}/notes.txt") == "words"
    assert run.offline_folder is None
    assert spools() is None


def test_resumed_run_sends_what_the_earlier_process_left(experiment, proxy):
    with TrackedRun(name="run") as run:
        log_epochs(run, 1)
    proxy.close()
    with pytest.warns(UserWarning, match="expected MLflow"), TrackedRun(run.run_id) as again:
        log_epochs(again, 2)
    proxy.open()
    with TrackedRun(run.run_id) as again:
        log_epochs(again, 3)
        (found,) = runs(experiment).values()
        assert found.info.status == "RUNNING", "it had ended in the meantime"
    assert steps(run.run_id) == [1, 2, 3]
    assert spools() is None


# --- slow ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_slow_server_costs_the_epochs_nothing(experiment, proxy, server):
    proxy.seconds = 1
    begin = time.monotonic()
    with pytest.warns(UserWarning, match="expected MLflow"):
        run = TrackedRun(name="run", note="a note", wait=0.5).open()
    assert time.monotonic() - begin < 4, "the opening is bounded"
    run.log_params({"lr": 1})
    slowest = log_epochs(run, *range(1, 21))
    run.log_text("words", "notes.txt")
    assert slowest < 0.05 * 20, "5 % of an epoch of 20 seconds"
    run.wait = 10
    run.close()
    proxy.seconds = 0
    (found,) = runs(experiment).values()  # one, though the first answer came too late
    assert found.info.run_id == run.run_id
    assert found.info.status == "FINISHED"
    assert steps(run.run_id) == list(range(1, 21))
    assert spools() is None


@pytest.mark.slow
def test_server_that_never_answers_does_not_hold_up_the_end(experiment, proxy, short_timeouts):
    proxy.seconds = 3600
    begin = time.monotonic()
    with (
        pytest.warns(UserWarning, match="mura-skorch sync") as caught,
        TrackedRun(name="run", wait=1) as run,
    ):
        assert log_epochs(run, 1, 2) < 1
    assert time.monotonic() - begin < 10
    assert len(caught) == 1
    assert records(run.offline_folder)[-1]["status"] == "FINISHED"


# --- each record once ---------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_and_repeated_sync_sends_each_record_once(experiment, proxy, server):
    proxy.close()
    with pytest.warns(UserWarning, match="expected MLflow"), TrackedRun(name="run") as run:
        for epoch in (1, 2, 3):
            log_epochs(run, epoch)
            run.set_tags({"epoch": str(epoch)})
        run.log_text("words", "notes.txt")
    proxy.seconds = 1
    proxy.open()
    process = sync_process(proxy.url)
    mlflow.set_tracking_uri(server.url)
    while not runs(experiment):  # it is killed while the answer is on its way
        time.sleep(0.1)
    process.kill()
    process.communicate()
    assert len(spools()) == 1
    for _ in range(100):  # the lock of a process that was killed is free once it is gone
        assert main(["sync"]) == 0
        if spools() is None:
            break
        time.sleep(0.1)
    (sent,) = runs(experiment).values()
    assert steps(sent.info.run_id) == [1, 2, 3]
    assert sent.data.tags["epoch"] == "3"
    assert sent.info.status == "FINISHED"
    assert spools() is None


def test_records_and_models_that_are_sent_twice_are_there_once(experiment, proxy, train):
    proxy.close()
    with pytest.warns(UserWarning, match="expected MLflow"):
        tiny_classifier(callbacks__mlflow__log_model=True, max_epochs=1).fit(train)
    proxy.open()
    shutil.copytree("mlflow_offline", "copy")
    assert main(["sync"]) == 0
    (before,) = runs(experiment).values()
    assert main(["sync", "copy"]) == 0  # as if no answer had come
    (after,) = runs(experiment).values()
    assert after.to_dictionary() == before.to_dictionary()
    assert steps(after.info.run_id, "train_loss") == [1]
    assert steps(after.info.run_id, "valid/kappa") == [0]
    (model,) = mlflow.search_logged_models([experiment], output_format="list")
    assert [one.key for one in model.metrics].count("valid/kappa") == 1
    assert len(after.outputs.model_outputs) == 1


def test_sync_to_another_server_sends_nothing(experiment, proxy, mlflow_store, capsys):
    run = TrackedRun(name="run").open()
    assert run.flush()
    proxy.close()
    with pytest.warns(UserWarning, match="expected MLflow"):
        log_epochs(run, 1)
        run.close()
    mlflow.set_tracking_uri(mlflow_store)
    assert main(["sync"]) == 1
    assert "nothing was sent" in capsys.readouterr().out
    proxy.open()
    mlflow.set_tracking_uri(proxy.url)
    assert main(["sync"]) == 0
    assert steps(run.run_id) == [1]


# --- full disks, folders that are read-only -------------------------------------------------------


@pytest.mark.slow
def test_full_disk_under_the_server_loses_nothing(restored_store, tmp_path):
    with (
        mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as disk,
        tracking_server(disk) as server,
    ):
        experiment = use(server.url, "full")
        run = TrackedRun(name="run").open()
        log_epochs(run, 1)
        assert run.flush()
        filler = fill(disk)
        assert log_epochs(run, *range(2, 202)) < 1
        run.log_text("words" * 10_000, "notes.txt")
        with pytest.warns(UserWarning, match="expected MLflow"):
            assert not run.flush()
        assert run.offline_folder.is_dir()
        filler.unlink()
        run.close()
        (found,) = runs(experiment).values()
        assert found.info.status == "FINISHED"
        assert steps(run.run_id) == list(range(1, 202))
        text = mlflow.artifacts.load_text(f"runs:/{run.run_id}/notes.txt")
        assert text == "words" * 10_000
    assert spools() is None


def test_full_disk_under_the_training_continues_on_another(
    experiment, proxy, tmp_path, monkeypatch
):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        monkeypatch.chdir(disk)
        proxy.close()
        with (
            pytest.warns(UserWarning, match="expected MLflow") as caught,
            TrackedRun(name="run") as run,
        ):
            log_epochs(run, 1, 2)
            run.log_text("early", "early.txt")
            filler = fill(disk)
            log_epochs(run, *range(3, 103))
            run.log_text("late", "late.txt")
        assert len(caught) == 2, "of the server and of the disk"
        assert disk not in run.offline_folder.parents
        filler.unlink()
        proxy.open()
        assert main(["sync", str(run.offline_folder.parent), "mlflow_offline"]) == 0
        monkeypatch.chdir(tmp_path)
    (found,) = runs(experiment).values()
    assert found.info.status == "FINISHED"
    assert steps(found.info.run_id) == list(range(1, 103))
    for name in ("early", "late"):
        assert mlflow.artifacts.load_text(f"runs:/{found.info.run_id}/{name}.txt") == name


def test_fit_in_a_read_only_folder_is_recorded_elsewhere(
    restored_store, train, tmp_path, monkeypatch
):
    folder = tmp_path / "folder"
    folder.mkdir()
    with mounted(folder, "--bind", "-o", "ro", folder):
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        monkeypatch.chdir(folder)
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        with pytest.raises(OSError, match="Read-only"):
            Path("probe").touch()
        with pytest.warns(UserWarning, match="expected MLflow"):
            net = tiny_classifier(callbacks__mlflow__log_model=False).fit(train)
        monkeypatch.chdir(tmp_path)
    assert len(net.history) == 2
    left = dict(net.callbacks_)["mlflow"].run_.offline_folder
    assert "train_loss" in (left / "records.jsonl").read_text()


# --- PostgreSQL -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_database_of_a_server_that_goes_away_and_comes_back_loses_nothing(restored_store, tmp_path):
    if Postgres(tmp_path / "log").programs is None:
        pytest.skip("PostgreSQL's initdb is neither on PATH nor in /usr/lib/postgresql")
    if importlib.util.find_spec("psycopg2") is None:
        pytest.skip("psycopg2 is not installed: pip install psycopg2-binary")
    with (
        Postgres(tmp_path / "postgres.log") as database,
        tracking_server(tmp_path, store=database.uri) as server,
    ):
        experiment = use(server.url, "postgres")
        run = TrackedRun(name="run").open()
        log_epochs(run, 1, 2)
        assert run.flush()
        database.kill()
        assert log_epochs(run, 3, 4) < 1
        with pytest.warns(UserWarning, match="expected MLflow"):
            assert not run.flush()  # the server is there, and says that it cannot
        database.start()
        assert log_epochs(run, 5) < 1
        assert run.flush()
        server.kill()
        log_epochs(run, 6)
        with tracking_server(tmp_path, server.port, store=database.uri):
            run.close()
            (found,) = runs(experiment).values()
            assert found.info.status == "FINISHED"
            assert steps(run.run_id) == [1, 2, 3, 4, 5, 6]
    assert spools() is None


# --- other processes ------------------------------------------------------------------------------


def test_worker_that_gets_a_run_knows_its_id(experiment, proxy):
    with TrackedRun(name="parent") as parent:
        copy = pickle.loads(pickle.dumps(parent))
        assert (copy.run_id, copy.offline_folder) == (parent.run_id, None)
        log_epochs(copy, 1)
        assert copy.flush()
    assert steps(parent.run_id) == [1]
    assert proxy.url.encode() not in pickle.dumps(parent)


WORKER = """
import os, pickle, sys, warnings
from mura_skorch.tracking import TrackedRun
assert not any("MLFLOW" in name for name in os.environ)
with open(sys.argv[1], "rb") as file:
    parent = pickle.load(file)
with TrackedRun(name="child", parent=parent, wait=1) as run:
    run.log_metrics({"a": 1}, step=1)
"""


def log_in_worker(parent, folder):
    """Log a child run in a process without MLflow's variables, in another folder."""
    folder.mkdir()
    (folder / "parent.pkl").write_bytes(pickle.dumps(parent.for_worker()))
    environment = {key: text for key, text in os.environ.items() if "MLFLOW" not in key}
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WORKER, "parent.pkl"],
        cwd=folder, env=environment | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=True,
    )  # fmt: skip
    assert os.listdir(folder) == ["parent.pkl"]


def test_run_of_a_worker_that_was_started_elsewhere_is_a_child_on_the_same_server(
    experiment, proxy, tmp_path
):
    with TrackedRun(name="parent") as parent:
        log_in_worker(parent, tmp_path / "worker")
    found = runs(experiment)
    assert found["child"].data.tags["mlflow.parentRunId"] == parent.run_id
    assert found["child"].info.status == "FINISHED"
    assert steps(found["child"].info.run_id) == [1]


def test_worker_leaves_what_a_server_did_not_get_in_the_folder_of_its_client(
    experiment, proxy, tmp_path
):
    parent = TrackedRun(name="parent").open()
    proxy.close()
    log_in_worker(parent, tmp_path / "worker")
    assert [folder.name.partition("-")[0] for folder in spools()] == ["child", "parent"]
    proxy.open()
    parent.close()
    assert main(["sync"]) == 0
    assert runs(experiment)["child"].data.tags["mlflow.parentRunId"] == parent.run_id


def test_worker_gets_no_password(experiment, proxy):
    with TrackedRun(name="parent") as parent:
        assert proxy.url.encode() in pickle.dumps(parent.for_worker())
        parent.uri = proxy.url.replace("//", "//reader:secret@")
        assert b"secret" not in pickle.dumps(parent.for_worker())
        parent.uri = proxy.url


def test_fork_of_a_process_that_is_sending_logs_too(experiment, proxy):
    def log_and_flush(run):
        log_epochs(run, 2)
        assert run.flush()

    with TrackedRun(name="forked") as run:
        log_epochs(run, 1)
        child = multiprocessing.get_context("fork").Process(target=log_and_flush, args=(run,))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        log_epochs(run, 3)
    assert steps(run.run_id) == [1, 2, 3]
