"""Clones of an estimator remember the tracking server and the run they were made in.

Cross-validation, searches and votes fit clones, often in worker processes where no MLflow run is
active and the tracking URI may not be set.
"""

import os
import sys
from typing import Any, NamedTuple

from mura_skorch.tracking.experiment import active_run_id
from mura_skorch.tracking.offline.connection import is_client_error, is_missing, set_defaults

__all__ = [
    "CloneOrigin",
    "forget_origin",
    "is_clone",
    "lasting_uri",
    "origin_of",
    "remember_origin",
    "running_parent",
]


class CloneOrigin(NamedTuple):
    """The process, tracking server, experiment and active run in which a clone was made."""

    process: int = 0
    run_id: str | None = None
    uri: str | None = None
    experiment_id: str | None = None


def remember_origin(clone: Any, source: Any) -> None:
    """Mark a new clone, and note where it was made."""
    mlflow = sys.modules.get("mlflow")
    uri = mlflow.get_tracking_uri() if mlflow else os.environ.get("MLFLOW_TRACKING_URI")
    here = CloneOrigin(
        os.getpid(), active_run_id(), lasting_uri(uri), os.environ.get("MLFLOW_EXPERIMENT_ID")
    )
    if here.run_id is None:
        # A clone of a clone in a worker; or joblib makes later clones in a thread of its own,
        # in which no run is active.
        earlier = source.__dict__.get("_clone_origin_") or source.__dict__.get("_last_origin_")
        here = earlier or here
    else:
        source._last_origin_ = here
    clone._clone_origin_ = here


def is_clone(net: Any) -> bool:
    """Return whether scikit-learn's ``clone`` made the estimator."""
    return "_clone_origin_" in net.__dict__


def origin_of(net: Any) -> CloneOrigin:
    """Return where a clone was made; the server and the experiment only in another process."""
    origin = net.__dict__.get("_clone_origin_", CloneOrigin())
    if origin.process == os.getpid():
        return CloneOrigin(run_id=origin.run_id)
    if origin.uri is not None and is_missing(origin.uri):  # a file of another machine
        return CloneOrigin()
    return origin


def running_parent(origin: CloneOrigin) -> str | None:
    """Return the run a clone was made in, unless it has ended or another run is active here."""
    import mlflow

    if origin.run_id is None or active_run_id():
        return None
    set_defaults()
    try:
        run = mlflow.MlflowClient(origin.uri).get_run(origin.run_id)
    except Exception as error:
        return None if is_client_error(error) else origin.run_id
    return origin.run_id if run.info.status == "RUNNING" else None


def forget_origin(net: Any) -> None:
    """Forget where an estimator was cloned, so that pickles hold no address of a server."""
    net.__dict__.pop("_last_origin_", None)
    if is_clone(net):
        net._clone_origin_ = CloneOrigin()


def lasting_uri(uri: str | None) -> str | None:
    """Return a tracking URI that is valid in other folders and holds no password, or None."""
    if uri is None or "@" in uri:
        return None
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{os.path.abspath(uri.removeprefix('sqlite:///'))}"
    return uri
