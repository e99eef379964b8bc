"""Experiments in MLflow: a name goes in, its id, address and open runs come out."""

import os
import sys
from contextlib import suppress
from typing import Any

from mura_skorch.tracking.offline.timeouts import OPENING, impatience, insist, is_refusal

__all__ = ["active_run_id", "end_children", "is_running", "runs_link", "use_experiment"]

_wanted: set[str] = set()  # experiments that no server could be asked for


def use_experiment(name: str, note: str | None = None) -> str | None:
    """Make the experiment the active one, for workers too, and return its id; None offline.

    Done before workers start: two processes that create a fresh database together fail.

    Parameters
    ----------
    name : str
        Made where it is missing.
    note : str, optional
        Its description.

    Raises
    ------
    ValueError
        MLflow refuses the name: an experiment of that name was deleted, for instance.
    """
    import mlflow

    def use():
        experiment = mlflow.set_experiment(name)
        if note:
            mlflow.set_experiment_tag("mlflow.note.content", note)
        return experiment.experiment_id

    if os.environ.get("MLFLOW_EXPERIMENT_NAME") in _wanted:
        os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)  # of a call that nobody answered
    try:
        return insist(use, mlflow.get_tracking_uri())
    except Exception as error:
        if is_refusal(error):
            reason = str(error).split("\n", 1)[0]
            raise ValueError(
                f"expected an experiment {name!r} in MLflow, got {reason}; pass another name"
            ) from error
        # The runs themselves say what is wrong. Those that are made later belong there.
        _wanted.add(name)
        os.environ["MLFLOW_EXPERIMENT_NAME"] = name
        os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
        return None


def end_children(parent: Any, status: str) -> None:
    """End the runs that killed workers left open below a parent `Run`."""
    import mlflow

    def end():
        children = mlflow.search_runs(
            filter_string=f"tags.mlflow.parentRunId = '{parent.run_id}' "
            "and attributes.status = 'RUNNING'",
            output_format="list",
        )
        for child in children:
            _client().set_terminated(child.info.run_id, status)

    with suppress(Exception), impatience(OPENING, retries=0):
        end()


def runs_link(experiment_id: str) -> str:
    """Return the address of an experiment's curves on the tracking server or in `mlflow ui`.

    Sorted by kappa: MLflow then shows the runs of a parent beside it, not folded under it.
    """
    import mlflow

    uri = mlflow.get_tracking_uri()
    host = uri.rstrip("/") if uri.startswith("http") else "http://127.0.0.1:5000"
    view = "workflowType=machine_learning&compareRunsMode=CHART"
    order = "orderByKey=metrics.%60test%2Fkappa%60&orderByAsc=false"
    return f"{host}/#/experiments/{experiment_id}/runs?{view}&{order}"


def active_run_id() -> str | None:
    """Return the id of the run that is active in this thread, or None."""
    mlflow = sys.modules.get("mlflow")  # who has not imported it has no run, and waits for none
    active = None if mlflow is None else mlflow.active_run()
    return None if active is None else active.info.run_id


def is_running(run_id: str) -> bool:
    """Return whether MLflow knows the run and it has not ended."""
    try:
        with impatience(OPENING, retries=0):
            return _client().get_run(run_id).info.status == "RUNNING"
    except Exception:  # the run that asks says what is wrong with the server
        return False


def _client():
    import mlflow

    return mlflow.MlflowClient()
