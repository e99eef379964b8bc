"""Send records of a run to MLflow, so that sending one twice changes nothing.

MLflow stores a metric with the same key, step, time and value once. Equal parameters, tags and
files replace each other. Runs and logged models carry a tag by which they are found again, should
the answer to their creation have been lost.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mura_skorch.tracking.offline.spool import Record
from mura_skorch.utils.paths import is_unsafe_path

__all__ = ["batch", "find_or_create_run", "send_records"]

KEY_TAG = "mura_run"
MODEL_KEY_TAG = "mura_model"
MLMODEL = "MLmodel"
MOST_METRICS = 1000  # of one request, MLflow's limit


def find_or_create_run(client: Any, header: dict[str, Any]) -> str:
    """Return the id of the run of a spool, created with the name, tags and time it started with.

    Raises
    ------
    LookupError
        Its parent run does not exist yet.
    """
    experiment_id = _experiment_id(client, header)
    if run_id := _find_run(client, experiment_id, header["key"]):
        return run_id
    parent, tags = header["parent_run_id"], header["tags"] | {KEY_TAG: header["key"]}
    if not parent and header["parent_key"]:
        parent = _find_run(client, experiment_id, header["parent_key"])
        if not parent:
            raise LookupError("the parent run does not exist yet; it is sent with its own records")
    if parent:
        tags["mlflow.parentRunId"] = parent
    run = client.create_run(experiment_id, header["start_time"], tags, header["name"])
    return run.info.run_id


def batch(records: Sequence[Record]) -> int:
    """Return how many of the first records fit into one request: metrics, or one other record."""
    n_metrics = 0
    for n, record in enumerate(records):
        if record.keys() - {"metrics", "step", "time"}:
            return max(n, 1)
        n_metrics += len(record["metrics"])
        if n and n_metrics > MOST_METRICS:
            return n
    return len(records)


def send_records(
    client: Any,
    run_id: str,
    records: Sequence[Record],
    folder: Path | None = None,
    moved: Callable[[], None] = lambda: None,
) -> None:
    """Send one record, or several that hold only metrics.

    Parameters
    ----------
    client : mlflow.MlflowClient
    run_id : str
    records : sequence of dict
    folder : Path, optional
        Holds the files of the record.
    moved : callable
        Called after each file.
    """
    from mlflow.entities import Metric, Param, RunTag

    record = records[0]
    if "status" in record:
        status = record["status"]
        if status == "RUNNING":
            client.update_run(run_id, status=status)
        else:
            client.set_terminated(run_id, status, end_time=record["time"])
    elif "context" in record:
        _send_dataset(client, run_id, record)
    elif "model" in record:
        _check_inside(record)
        _send_model(client, run_id, record, folder)
    elif "files" in record:
        _check_inside(record)
        for name in record["files"]:
            path = Path(record["artifact_path"], name)
            client.log_artifact(run_id, str(Path(folder or ".", name)), _parent(path))
            moved()
    elif "link_metrics" in record:
        model = next(iter(_models(client, run_id)), None)
        if model is not None:
            _link_metrics(client, run_id, model.model_id, record)
    else:
        metrics = [
            Metric(key, value, one["time"], one.get("step", 0))
            for one in records
            for key, value in one.get("metrics", {}).items()
        ]
        params = [Param(key, str(value)) for key, value in record.get("params", {}).items()]
        tags = [RunTag(key, str(value)) for key, value in record.get("tags", {}).items()]
        client.log_batch(run_id, metrics=metrics, params=params, tags=tags)


def _send_model(client, run_id, record, folder):
    """Create the logged model once, upload its files, and link metrics and dataset to it."""
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus
    from mlflow.models import Model

    run = client.get_run(run_id)
    found = _models(client, run_id, f" AND tags.{MODEL_KEY_TAG} = '{record['key']}'")
    model = found[0] if found else None
    if model is None:
        model = client.create_logged_model(
            run.info.experiment_id,
            name=record["model"],
            source_run_id=run_id,
            params=run.data.params,
            tags={MODEL_KEY_TAG: record["key"]},
        )
    outputs = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in [output.model_id for output in outputs]:
        client.log_outputs(run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.log_model_artifacts(model.model_id, str(folder))
    description = Model.load(str(folder))
    description.model_id = model.model_id
    description.run_id = run_id
    description.artifact_path = model.artifact_location
    with tempfile.TemporaryDirectory() as temporary:  # the folder may be the user's
        description.save(str(Path(temporary, MLMODEL)))
        client.log_model_artifacts(model.model_id, temporary)
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    _link_metrics(client, run_id, model.model_id, record)


def _link_metrics(client, run_id, model_id, record):
    """List metrics of the run, with the dataset they were computed on, next to its model."""
    from mlflow.entities import Metric

    dataset = record["dataset"] or (None, None)
    names = client.get_run(run_id).data.metrics
    points = [
        point
        for name in names
        if name.startswith(record["link_metrics"])
        for point in client.get_metric_history(run_id, name)[-1:]
    ]
    metrics = [Metric(p.key, p.value, p.timestamp, p.step, model_id, *dataset) for p in points]
    client.log_batch(run_id, metrics=metrics)


def _models(client, run_id, more=""):
    """Return the logged models of a run, the newest first."""
    experiment_id = client.get_run(run_id).info.experiment_id
    return client.search_logged_models(
        [experiment_id],
        f"source_run_id = '{run_id}'{more}",
        order_by=[{"field_name": "creation_timestamp", "ascending": False}],
    )


def _send_dataset(client, run_id, record):
    from mlflow.entities import Dataset, DatasetInput, InputTag

    tag = InputTag("mlflow.data.context", record["context"])
    client.log_inputs(run_id, [DatasetInput(Dataset(**record["dataset"]), [tag])])


def _find_run(client, experiment_id, key):
    found = client.search_runs([experiment_id], f"tags.{KEY_TAG} = '{key}'", max_results=1)
    return found[0].info.run_id if found else None


def _experiment_id(client, header):
    """Return the id of the run's experiment, created if missing."""
    from mlflow.exceptions import MlflowException

    name = header["experiment"]
    if header["experiment_id"] or not name:
        return header["experiment_id"] or "0"
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            return client.create_experiment(name)
        except MlflowException:  # another process was first
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    return found.experiment_id


def _check_inside(record):
    """Reject a record with a file outside its run's folder: somebody may have edited it."""
    from mlflow.exceptions import MlflowException

    for name in (*record["files"], record["artifact_path"]):
        if is_unsafe_path(name):
            raise MlflowException.invalid_parameter_value(
                f"expected files in the folder of the run, got {name!r}"
            )


def _parent(path):
    return path.parent.as_posix() if path.parent.name else None
