"""What becomes of a run whose tracking server is away, slow or full: all faults are real."""

import contextlib
import importlib.util
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from disks import fill, mounted
from nets import tiny_classifier
from servers import Postgres, SlowProxy, free_port, tracking_server

from mura_skorch.tracking import Run

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server that no test stops."""
    with tracking_server(tmp_path_factory.mktemp("server")) as server:
        yield server


def use(url, name):
    """Point MLflow to a server and a new experiment."""
    mlflow.set_tracking_uri(url)
    return mlflow.set_experiment(f"{name}-{time.time_ns()}").experiment_id


def send(*words, url=None, **options):
    """Call the command as a user does."""
    environment = {**os.environ, **({"MLFLOW_TRACKING_URI": url} if url else {})}
    if url is None:
        environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "mura_skorch.tracking.offline.sync", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=False, **options
    )


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


def unsent():
    return sorted(Path("mura_unsent").glob("*")) if Path("mura_unsent").exists() else None


# --- down at the start -------------------------------------------------------------------------

TRAINING = """
import sys, time
import pandas as pd
from nets import tiny_classifier
from skorch.callbacks import Callback
from mura_skorch.tracking import use_experiment
from mura_skorch.tracking import Run

class Tells(Callback):
    def on_epoch_end(self, net, **kwargs):
        print("epoch", len(net.history), flush=True)
        time.sleep(float(sys.argv[1]))

assert use_experiment("written-offline", note="a note") is None
train = pd.read_pickle("train.pkl")
with Run(name="parent") as parent:
    with Run(name="child", parent_run_id=parent.run_id, parent_key=parent.key) as run:
        clf = tiny_classifier(
            max_epochs=int(sys.argv[2]), callbacks__mlflow__run_id=run, callbacks=[Tells()]
        )
        clf.fit(train)
"""


@contextlib.contextmanager
def training(train, url, pause, epochs):
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
        [sys.executable, "training.py", str(pause), str(epochs)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
def test_command_sends_what_a_server_that_was_away_all_the_time_did_not_get(
    restored_store, train, tmp_path
):
    port = free_port()
    begin = time.time() * 1000
    with training(train, f"http://127.0.0.1:{port}", 0, 3) as process:
        _, said = process.communicate(timeout=120)
    end = time.time() * 1000
    assert process.returncode == 0, said
    assert said.count("expected MLflow") == 1, "one warning, also of a parent and its child"
    assert "python -m mura_skorch.tracking.offline.sync" in said
    assert send().returncode == 1, "nobody answers still"
    assert len(unsent()) == 2
    with tracking_server(tmp_path, port) as server:
        mlflow.set_tracking_uri(server.url)
        found = send()
        assert found.returncode == 0, found.stdout + found.stderr
        experiment = mlflow.get_experiment_by_name("written-offline")
        sent = runs(experiment.experiment_id)
        parent, child = sent["parent"], sent["child"]
        assert len(sent) == 2
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["study_type"] == "all"
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
        assert files == {"model", "valid_predictions.csv"}
        model = mlflow.MlflowClient().list_artifacts(child.info.run_id, "model")
        assert "model/MLmodel" in {file.path for file in model}
    assert unsent() is None
    assert "Nothing to send" in send().stdout


@pytest.mark.slow
def test_process_that_is_killed_leaves_all_epochs_to_the_command(restored_store, train, server):
    mlflow.set_tracking_uri(server.url)
    with training(train, f"http://127.0.0.1:{free_port()}", 0.5, 100) as process:
        for line in process.stdout:
            if line == "epoch 3\n":
                break
        assert "goes on" in send().stdout, "a run that goes on is left alone"
        for line in process.stdout:
            if line == "epoch 4\n":
                break
        process.send_signal(signal.SIGKILL)
    found = send(url=server.url)
    assert found.returncode == 0, found.stdout + found.stderr
    sent = runs(mlflow.get_experiment_by_name("written-offline").experiment_id)
    assert {run.info.status for run in sent.values()} == {"KILLED"}
    assert steps(sent["child"].info.run_id, "train_loss")[:4] == [1, 2, 3, 4]
    assert unsent() is None


# --- gone in the middle, back later ------------------------------------------------------------


@pytest.mark.slow
def test_server_that_comes_back_has_everything_in_order_before_the_run_ends(
    restored_store, tmp_path
):
    with tracking_server(tmp_path) as server:
        experiment = use(server.url, "back")
        run = Run(name="run").open()
        log_epochs(run, 1, 2)
        assert run.flush()
        server.kill()
        assert log_epochs(run, 3, 4, 5) < 1
        run.log_text("words", "notes.txt")
        with (
            tracking_server(tmp_path, server.port),
            pytest.warns(UserWarning, match="is sent when MLflow answers"),
        ):
            log_epochs(run, 6)
            run.close()
            (found,) = runs(experiment).values()
            assert found.info.status == "FINISHED"
            assert steps(run.run_id) == [1, 2, 3, 4, 5, 6]
            assert mlflow.artifacts.load_text(f"runs:/{run.run_id}/notes.txt") == "words"
    assert run.unsent is None
    assert unsent() is None


@pytest.mark.slow
def test_run_that_goes_on_in_a_new_process_takes_along_what_the_old_one_left(
    restored_store, server, tmp_path
):
    experiment = use(server.url, "reopened")
    with Run(name="run") as run:
        log_epochs(run, 1)
    mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
    with pytest.warns(UserWarning, match="expected MLflow"), Run(run.run_id) as again:
        log_epochs(again, 2)
    mlflow.set_tracking_uri(server.url)
    with Run(run.run_id) as again:
        log_epochs(again, 3)
        (found,) = runs(experiment).values()
        assert found.info.status == "RUNNING", "that it had ended was not true any more"
    assert steps(run.run_id) == [1, 2, 3]
    assert unsent() is None


# --- slow ---------------------------------------------------------------------------------------


@pytest.mark.slow
def test_server_that_takes_ten_seconds_a_call_costs_the_epochs_nothing(restored_store, server):
    experiment = use(server.url, "slow")
    with SlowProxy(server.port, 10) as proxy:
        mlflow.set_tracking_uri(proxy.url)
        begin = time.monotonic()
        with pytest.warns(UserWarning, match="expected MLflow"):
            run = Run(name="run", note="a note").open()
        assert time.monotonic() - begin < 25, "the opening is bounded"
        run.log_params({"lr": 1})
        slowest = log_epochs(run, *range(1, 21))
        run.log_text("words", "notes.txt")
        assert slowest < 0.05 * 20, "5 % of an epoch of 20 seconds"
        run.close()
    mlflow.set_tracking_uri(server.url)
    (found,) = runs(experiment).values()  # one, though the first answer came too late
    assert found.info.run_id == run.run_id
    assert found.info.status == "FINISHED"
    assert steps(run.run_id) == list(range(1, 21))
    assert unsent() is None


@pytest.mark.slow
def test_server_that_never_answers_does_not_hold_up_the_end(restored_store, server):
    experiment = use(server.url, "silent")
    with SlowProxy(server.port, 3600) as proxy:
        mlflow.set_tracking_uri(proxy.url)
        begin = time.monotonic()
        with (
            pytest.warns(UserWarning, match="offline.sync") as caught,
            Run(name="run") as run,
        ):
            assert log_epochs(run, 1, 2) < 1
        assert time.monotonic() - begin < 60
    assert len(caught) == 1
    assert run.unsent.is_dir()
    assert json.loads((run.unsent / "journal.jsonl").read_text().splitlines()[-1])["status"]
    mlflow.set_tracking_uri(server.url)
    assert len(runs(experiment)) == 1, "the server has heard more than it could say"


# --- each record once ---------------------------------------------------------------------------


@pytest.mark.slow
def test_sending_that_is_killed_and_repeated_sends_each_record_once(restored_store, server):
    experiment = use(server.url, "once")
    with pytest.warns(UserWarning, match="expected MLflow"):
        mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
        with Run(name="run") as run:
            for epoch in (1, 2, 3):
                log_epochs(run, epoch)
                run.set_tags({"epoch": str(epoch)})
            run.log_text("words", "notes.txt")
    mlflow.set_tracking_uri(server.url)
    with SlowProxy(server.port, 1.5) as proxy:
        for patience in (6, 8, 10):  # it is killed while answers are on their way
            with contextlib.suppress(subprocess.TimeoutExpired):
                send(url=proxy.url, timeout=patience)
    found = send(url=server.url)
    assert found.returncode == 0, found.stdout + found.stderr
    (sent,) = runs(experiment).values()
    assert steps(sent.info.run_id) == [1, 2, 3]
    assert sent.data.tags["epoch"] == "3"
    assert sent.info.status == "FINISHED"
    assert unsent() is None


# --- full disks, folders that are read-only -------------------------------------------------------


@pytest.mark.slow
def test_full_disk_under_the_server_loses_nothing(restored_store, tmp_path):
    with (
        mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=8m", "tmpfs") as disk,
        tracking_server(disk) as server,
    ):
        experiment = use(server.url, "full")
        run = Run(name="run").open()
        log_epochs(run, 1)
        assert run.flush()
        filler = fill(disk)
        assert log_epochs(run, *range(2, 202)) < 1
        run.log_text("words" * 10_000, "notes.txt")
        with pytest.warns(UserWarning, match="expected MLflow"):
            assert not run.flush()
        assert run.unsent.is_dir()
        filler.unlink()
        run.close()
        (found,) = runs(experiment).values()
        assert found.info.status == "FINISHED"
        assert steps(run.run_id) == list(range(1, 202))
        text = mlflow.artifacts.load_text(f"runs:/{run.run_id}/notes.txt")
        assert text == "words" * 10_000
    assert unsent() is None


def test_full_disk_under_the_training_moves_the_journal(restored_store, tmp_path, monkeypatch):
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=1m", "tmpfs") as disk:
        monkeypatch.chdir(disk)
        mlflow.set_tracking_uri(f"http://127.0.0.1:{free_port()}")
        with pytest.warns(UserWarning, match="expected MLflow"), Run(name="run") as run:
            log_epochs(run, 1, 2)
            run.log_text("early", "early.txt")
            fill(disk)
            log_epochs(run, *range(3, 103))
            run.log_text("late", "late.txt")
        monkeypatch.chdir(tmp_path)
    assert disk not in run.unsent.parents
    lines = [json.loads(line) for line in (run.unsent / "journal.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "metrics" in line] == list(range(1, 103))
    assert lines[-1] == {"status": "FINISHED"}
    assert (run.unsent / "artifacts" / "early.txt").read_text() == "early"
    assert (run.unsent / "artifacts" / "late.txt").read_text() == "late"


def test_fit_in_a_folder_that_is_read_only_goes_on_and_is_kept(
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
    left = dict(net.callbacks_)["mlflow"].run_.unsent
    assert "train_loss" in (left / "journal.jsonl").read_text()


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
        run = Run(name="run").open()
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
    assert unsent() is None


# --- other processes ------------------------------------------------------------------------------


def test_worker_that_gets_a_run_knows_its_id_and_key(restored_store, mlflow_store):
    use(mlflow_store, "worker")
    with Run(name="parent") as parent:
        copy = pickle.loads(pickle.dumps(parent))
        assert (copy.run_id, copy.key, copy.unsent) == (parent.run_id, parent.key, None)


def test_fork_of_a_process_that_is_sending_logs_too(restored_store, mlflow_store):
    use(mlflow_store, "fork")
    with Run(name="forked") as run:
        log_epochs(run, 1)
        child = multiprocessing.get_context("fork").Process(target=log_epochs, args=(run, 2))
        child.start()
        child.join(60)
        assert child.exitcode == 0
        log_epochs(run, 3)
    assert steps(run.run_id) == [1, 2, 3]
