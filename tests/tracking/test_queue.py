"""The thread that sends the records of a run, on a local store."""

import time

import mlflow
import pytest
from servers import free_port

from mura_skorch.tracking.offline.queue import SendQueue, pause_after
from mura_skorch.tracking.offline.spool import Spool


def header(**changes):
    usual = {
        "key": f"{time.time_ns():032d}", "run_id": None, "name": "queued", "start_time": 1000,
        "parent_run_id": None, "parent_key": None, "experiment_id": "0", "experiment": None,
        "tags": {},
    }  # fmt: skip
    return usual | changes


@pytest.fixture
def queue(mlflow_store):
    queue = SendQueue(Spool.create(header()), mlflow_store)
    yield queue
    queue.close()


def test_pauses_grow_to_a_minute():
    assert 0.7 <= pause_after(1) <= 1.3
    assert 5.6 <= pause_after(4) <= 10.4
    assert 42 <= pause_after(50) <= 78


def test_run_is_created_once_with_the_time_it_started(queue, mlflow_store):
    queue.put({"metrics": {"a": 1.0}, "step": 3, "time": 2000})
    assert queue.flush(30)
    other = SendQueue(Spool.create(queue.spool.header | {"run_id": None}), mlflow_store)
    assert other.flush(30)
    assert other.run_id == queue.run_id
    other.close()
    run = mlflow.get_run(queue.run_id)
    assert (run.info.start_time, run.info.run_name) == (1000, "queued")
    (point,) = mlflow.MlflowClient().get_metric_history(queue.run_id, "a")
    assert (point.value, point.step, point.timestamp) == (1.0, 3, 2000)


def test_rejected_record_does_not_hold_up_the_others(queue):
    for value in ("1", "2"):
        queue.put({"params": {"lr": value}, "time": 1})
    queue.put({"metrics": {"a": 1.0}, "time": 1})
    assert queue.flush(30)
    assert "Changing param values" in str(queue.rejection)
    assert mlflow.get_run(queue.run_id).data.metrics == {"a": 1.0}
    assert not queue.spool.is_finished


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname"])
def test_files_outside_the_folder_of_a_run_are_never_sent(queue, name):
    queue.put({"files": [name], "artifact_path": "", "time": 1})
    queue.put({"metrics": {"a": 1.0}, "time": 1})
    assert queue.flush(30)
    assert "expected files in the folder of the run" in str(queue.rejection)
    assert not mlflow.MlflowClient().list_artifacts(queue.run_id)
    assert mlflow.get_run(queue.run_id).data.metrics == {"a": 1.0}


def test_child_waits_for_its_parent(mlflow_store):
    parent = header()
    child = SendQueue(Spool.create(header(parent_key=parent["key"])), mlflow_store)
    assert not child.flush(30)
    assert isinstance(child.error, LookupError)
    queue = SendQueue(Spool.create(parent), mlflow_store)
    assert queue.flush(30)
    assert child.flush(30)
    assert mlflow.get_run(child.run_id).data.tags["mlflow.parentRunId"] == queue.run_id
    for one in (child, queue):
        one.close()


def test_waiting_for_a_server_that_is_away_ends_with_the_first_failure(monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    queue = SendQueue(Spool.create(header()), f"http://127.0.0.1:{free_port()}")
    queue.put({"metrics": {"a": 1.0}, "time": 1})
    assert not queue.flush(600)
    assert "refused" in str(queue.error)
    queue.close()
