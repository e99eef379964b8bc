"""How long to wait for MLflow, when to try again, and what its errors mean."""

import os
import random
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

__all__ = ["check_reachable", "is_client_error", "is_local", "is_missing", "retry", "set_defaults"]

T = TypeVar("T")
N_TRIES = 3
DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",  # seconds for one answer; MLflow's own default is 120
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # MLflow's own default, 7, takes minutes
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
# A second request would get the same answer.
CLIENT_ERRORS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")


def set_defaults() -> None:
    """Set MLflow's timeouts for this process, where the user has not set them."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if not sys.stderr.isatty():  # each step of a progress bar would be a line of a log
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    # SQLAlchemy warns about MLflow's own tables; as an error this would stop every run.
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)


def retry(call: Callable[[], T], uri: str) -> T:
    """Call a function that uses a tracking store; call it again while a local database is busy."""
    set_defaults()
    check_reachable(uri)
    for _ in range(N_TRIES - 1):
        try:
            return call()
        except Exception as error:
            if not is_local(uri) or isinstance(error, OSError) or is_client_error(error):
                raise
        time.sleep(random.Random().uniform(1, 2))  # does not touch the global random state
    return call()


def check_reachable(uri: str) -> None:
    """Raise a PermissionError for a read-only SQLite file, which MLflow retries for minutes."""
    if not uri.startswith("sqlite:"):
        return
    file = Path(uri.partition(":///")[2].partition("?")[0])
    folder = next((parent for parent in file.parents if parent.exists()), file)
    for path in (folder, file):
        if path.exists() and not os.access(path, os.W_OK):
            raise PermissionError(
                f"no permission to write to {path} (MLFLOW_TRACKING_URI sets another place)"
            )


def is_local(uri: str) -> bool:
    """Return whether a tracking URI names a file on this machine."""
    return uri.startswith(("sqlite:", "file:")) or "://" not in uri


def is_missing(uri: str) -> bool:
    """Return whether a tracking URI names a SQLite file that does not exist."""
    file = uri.partition(":///")[2].partition("?")[0]
    return uri.startswith("sqlite:///") and bool(file) and not Path(file).exists()


def is_client_error(error: BaseException) -> bool:
    """Return whether MLflow answered, and rejected this request."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in CLIENT_ERRORS
