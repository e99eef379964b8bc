"""Clones of an estimator remember the tracking server and the run they were made in.

Cross-validation, searches and votes fit clones, often in worker processes where no MLflow run is
active and the tracking URI may not be set.
"""

import os
import sys
from contextlib import suppress
from functools import partial
from typing import Any

from mura_skorch.tracking.experiment import active_run_id
from mura_skorch.tracking.offline.connection import (
    is_client_error,
    is_missing,
    retry,
    set_defaults,
)
from mura_skorch.tracking.origin import Origin
from mura_skorch.utils.dask_worker import dask_worker

__all__ = ["forget_origin", "is_clone", "origin_of", "remember_origin", "running_parent"]

PATHS = ("checkpoint_path", "dataset__cache")  # parameters


def remember_origin(clone: Any, source: Any) -> None:
    """Mark a new clone, and note where it was made."""
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    if "mlflow" in sys.modules or "distributed" in sys.modules:  # importing it takes seconds
        import mlflow

        uri = mlflow.get_tracking_uri()
    here = Origin.here(active_run_id(), uri, os.environ.get("MLFLOW_EXPERIMENT_ID"))
    if here.run_id is None:
        # A clone of a clone in a worker; or joblib makes later clones in a thread of its own,
        # in which no run is active.
        earlier = source.__dict__.get("_clone_origin_") or source.__dict__.get("_last_origin_")
        here = earlier or here
    else:
        source._last_origin_ = here
    clone._clone_origin_ = here
    if "distributed" in sys.modules and dask_worker() is None:
        _prepare_for_dask(clone, uri)


def is_clone(net: Any) -> bool:
    """Return whether scikit-learn's ``clone`` made the estimator."""
    return "_clone_origin_" in net.__dict__


def origin_of(net: Any) -> Origin:
    """Return what this process uses of the place where a clone was made."""
    return net.__dict__.get("_clone_origin_", Origin()).seen_here()


def running_parent(origin: Origin) -> str | None:
    """Return the run a clone was made in, unless it has ended or another run is active here."""
    import mlflow

    if origin.run_id is None or active_run_id():
        return None
    set_defaults()
    try:
        run = mlflow.MlflowClient(origin.uri or None).get_run(origin.run_id)
    except Exception as error:
        return None if is_client_error(error) else origin.run_id
    return origin.run_id if run.info.status == "RUNNING" else None


def forget_origin(net: Any) -> None:
    """Forget where an estimator was cloned, so that pickles hold no address of a server."""
    net.__dict__.pop("_last_origin_", None)
    if is_clone(net):
        net._clone_origin_ = Origin()


def _prepare_for_dask(net, uri):
    """Make paths absolute, since workers may be in other folders, and a new database complete."""
    import mlflow

    given = net.get_params(deep=False)
    paths = {name: os.path.abspath(given[name]) for name in PATHS if given.get(name) is not None}
    if paths:
        net.set_params(**paths)
    if is_missing(uri) and given.get("callbacks__mlflow", True) is not None:
        with suppress(Exception):  # the first run warns about it
            # Two workers that create a database at once both fail.
            retry(partial(mlflow.MlflowClient(uri).search_experiments, max_results=1), uri)
