"""Experiments and active runs of MLflow."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from mura_skorch.tracking.offline.connection import is_client_error, retry, set_defaults

__all__ = ["active_run_id", "end_children", "run_link", "runs_link", "use_experiment"]

_unconfirmed: set[str] = set()  # names for which no server answered


def use_experiment(name: str, note: str | None = None) -> str | None:
    """Make an experiment the active one, for worker processes too.

    Call it before workers start: two processes that create the same database at once fail.

    Parameters
    ----------
    name : str
        Created if missing.
    note : str, optional
        Its description.

    Returns
    -------
    str or None
        The id; None if the server does not answer. Later runs then belong to that name.

    Raises
    ------
    ValueError
        MLflow rejects the name, for instance that of a deleted experiment.
    """
    import mlflow

    def use():
        experiment = mlflow.set_experiment(name)
        if note:
            mlflow.set_experiment_tag("mlflow.note.content", note)
        return experiment.experiment_id

    if os.environ.get("MLFLOW_EXPERIMENT_NAME") in _unconfirmed:
        del os.environ["MLFLOW_EXPERIMENT_NAME"]  # set by an earlier call of this function
    try:
        return retry(use, mlflow.get_tracking_uri())
    except Exception as error:
        if is_client_error(error):
            reason = str(error).split("\n", 1)[0]
            raise ValueError(
                f"expected an experiment {name!r} in MLflow, got {reason}; pass another name"
            ) from error
        # MLflow's own way to name the experiment of later runs, in workers too. The first run
        # warns about the server.
        _unconfirmed.add(name)
        os.environ["MLFLOW_EXPERIMENT_NAME"] = name
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
        return None


def end_children(parent: Any, status: str, *, is_lost: Callable[[Any], bool] | None = None) -> None:
    """End the runs that killed workers left open below a run.

    Parameters
    ----------
    parent : TrackedRun
        Or anything else with a ``run_id``. Runs below the ended ones are ended, too.
    status : {"FAILED", "KILLED"}
        Their new status.
    is_lost : callable, optional
        Returns whether an open `mlflow.entities.Run` was left by a killed worker. None means that
        all were.
    """
    import mlflow

    set_defaults()
    with suppress(Exception):
        children = mlflow.search_runs(
            filter_string=f"tags.mlflow.parentRunId = '{parent.run_id}' "
            "and attributes.status = 'RUNNING'",
            output_format="list",
        )
        for child in children:
            if is_lost is None or is_lost(child):
                mlflow.MlflowClient().set_terminated(child.info.run_id, status)
                end_children(child.info, status)


def runs_link(experiment_id: str) -> str:
    """Return the address of an experiment's charts on the tracking server or in `mlflow ui`.

    Sorted by kappa, because MLflow then lists child runs instead of folding them away.
    """
    import mlflow

    uri = mlflow.get_tracking_uri()
    host = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    view = "workflowType=machine_learning&compareRunsMode=CHART"
    order = "orderByKey=metrics.%60test%2Fkappa%60&orderByAsc=false"
    return f"{host}/#/experiments/{experiment_id}/runs?{view}&{order}"


def run_link(run_id: str | None) -> str | None:
    """Return the address of a run on the tracking server.

    Parameters
    ----------
    run_id : str or None
        Id of a run.

    Returns
    -------
    str or None
        None without a run or without a server, such as with a database in a file. A name and a
        password in the address of the server are left out.
    """
    mlflow = sys.modules.get("mlflow")  # whoever logged a run has it; importing it is slow
    if run_id is None or mlflow is None:
        return None
    parts = urlsplit(mlflow.get_tracking_uri())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path.rstrip('/')}/#/runs/{run_id}"


def active_run_id() -> str | None:
    """Return the id of the run that is active in this thread, or None."""
    mlflow = sys.modules.get("mlflow")  # without it no run is active, and importing it is slow
    active = None if mlflow is None else mlflow.active_run()
    return None if active is None else active.info.run_id
