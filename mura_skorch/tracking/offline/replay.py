"""Delivery: a record goes in, MLflow has it, once, however often it is sent.

Metrics keep the time of their event, and MLflow stores one of a key, step, time and value once.
Equal parameters, tags, datasets and files replace each other. A run that is made late is looked
for first, by a tag that names it: an answer may be lost after the server has done what it says.
"""

from typing import Any

from mura_skorch.tracking.offline.records import Record
from mura_skorch.tracking.offline.spool import Journal

__all__ = ["KEY_TAG", "deliver", "make_run"]

KEY_TAG = "mura_run"
MOST_METRICS = 1000  # of one request, MLflow's limit


def make_run(client: Any, header: dict[str, Any]) -> str:
    """Return the id of the run of a journal, made with the name, tags and time it began with.

    Raises
    ------
    LookupError
        It has a parent that is not on record yet.
    """
    experiment_id = _experiment_id(client, header)
    run_id = find_run(client, experiment_id, header["key"])
    if run_id:
        return run_id
    tags, parent = dict(header["tags"]), header["parent_run_id"]
    if not parent and header["parent_key"]:
        parent = find_run(client, experiment_id, header["parent_key"])
        if not parent:
            raise LookupError("no parent run yet: it is made when its own records are sent")
    if parent:
        tags["mlflow.parentRunId"] = parent
    tags[KEY_TAG] = header["key"]
    run = client.create_run(experiment_id, header["start_time"], tags, header["name"])
    return run.info.run_id


def find_run(client, experiment_id, key):
    """Return the id of the run with a key, or None."""
    found = client.search_runs([experiment_id], f"tags.{KEY_TAG} = '{key}'", max_results=1)
    return found[0].info.run_id if found else None


def deliver(client: Any, journal: Journal, records: list[Record], moved: Any) -> None:
    """Send one record, or several that hold nothing but metrics.

    Parameters
    ----------
    client : mlflow.MlflowClient
    journal : Journal
        Knows the run and where the files lie.
    records : list of Record
    moved : callable
        Called without arguments after each step.
    """
    content, run_id = records[0].content, journal.header["run_id"]
    if "status" in content:
        client.set_terminated(run_id, content["status"], end_time=records[0].time)
    elif "artifacts" in content:
        for path in records[0].paths:
            folder = str(path.parent) if path.parent.name else None
            client.log_artifact(run_id, str(journal.file(records[0], path)), folder)
            moved()
    elif "dataset" in content:
        _log_dataset(client, run_id, content)
    else:
        _log_batch(client, run_id, records)
    moved()


def together(records):
    """Return the first of the records, and the following ones that can go in the same request."""
    chosen: list[Record] = []
    n_metrics = 0
    for record in records:
        n_metrics += len(record.content.get("metrics", {}))
        apart = not _is_metrics(record) or record.uri != records[0].uri
        if chosen and (apart or n_metrics > MOST_METRICS):
            break
        chosen.append(record)
        if not _is_metrics(record):
            break
    return chosen


def _is_metrics(record):
    return record.content.keys() <= {"metrics", "step"}


def _log_batch(client, run_id, records):
    from mlflow.entities import Metric, Param, RunTag

    metrics = [
        Metric(key, value, record.time, record.content.get("step", 0))
        for record in records
        for key, value in record.content.get("metrics", {}).items()
    ]
    params = [Param(k, str(v)) for k, v in records[0].content.get("params", {}).items()]
    tags = [RunTag(k, str(v)) for k, v in records[0].content.get("tags", {}).items()]
    client.log_batch(run_id, metrics=metrics, params=params, tags=tags)


def _log_dataset(client, run_id, content):
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tag = InputTag("mlflow.data.context", content["context"])
    client.log_inputs(run_id, [DatasetInput(Dataset(**content["dataset"]), [tag])])


def _experiment_id(client, header):
    """Return the id of the run's experiment, made where it is missing."""
    from mlflow.exceptions import MlflowException

    name = header["experiment"]
    if header["experiment_id"] or not name:
        return header["experiment_id"] or "0"
    try:
        found = client.get_experiment_by_name(name)
        return found.experiment_id if found else client.create_experiment(name)
    except MlflowException:  # another process was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found.experiment_id
