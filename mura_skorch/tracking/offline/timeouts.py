"""Patience with MLflow: a call goes in, its answer or a soon failure comes out."""

import os
import random
import sys
import threading
import time
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

__all__ = [
    "OPENING",
    "SENDING",
    "impatience",
    "insist",
    "is_local",
    "is_missing",
    "is_refusal",
    "reach",
]

OPENING = 8  # seconds for one answer, where a training waits for it
SENDING = 60  # where none does
CREATING = 20  # seconds; a fresh database took up to 10 on two busy cores
N_TRIES = 3
# The answers of a server, and of the store behind it, that no second request would change.
REFUSALS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")

_lock = threading.Lock()
_under_way: list[dict[str, int]] = []  # of every thread: MLflow reads the environment of them all
_ours: set[str] = set()
_reached: set[str] = set()
_opening: dict[str, tuple[threading.Thread, list[Exception]]] = {}


def _renew():
    """Make a forked process free to ask while a thread of its parent does."""
    global _lock
    _lock = threading.Lock()
    _under_way.clear()
    _opening.clear()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew)


@contextmanager
def impatience(seconds=20, retries=2):
    """Shorten MLflow's patience, minutes for each call, where the user has not set it."""
    _ignore_noload()
    wanted = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": seconds,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": retries,
        "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": 1,
    }
    if not sys.stderr.isatty():  # a log would get a line for each step of a bar
        wanted["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = False
    with _lock:
        _under_way.append(wanted)
        _apply()
    try:
        yield
    finally:
        with _lock:
            _under_way[:] = [other for other in _under_way if other is not wanted]
            _apply()


def _apply():
    """Set the environment to the least patient of the calls under way, or as it was."""
    names = {name for wanted in _under_way for name in wanted}
    for name in _ours - names:
        os.environ.pop(name, None)
    _ours.intersection_update(names)
    _ours.update(name for name in names if name not in os.environ)
    for name in _ours:
        os.environ[name] = str(min(wanted[name] for wanted in _under_way))


def insist(call, uri):
    """Call it; again after a pause where nothing was sent, or a database is new or locked.

    Other failures of a server leave open whether it has done what it was asked.
    """
    for left in reversed(range(N_TRIES)):
        try:
            reach(uri)
            with impatience(OPENING, retries=0):
                return call()
        except Exception as error:
            is_busy = is_local(uri) and not isinstance(error, OSError)
            again = is_busy or "NewConnectionError" in str(error)
            if left == 0 or is_refusal(error) or not again:
                raise
            time.sleep(random.Random().uniform(1, 2))  # apart from the global state
    return None


def reach(uri):
    """Raise an OSError soon where MLflow would try for minutes to open a database."""
    import mlflow

    _ignore_noload()
    if uri.startswith("http"):
        return
    file = Path(uri.partition(":///")[2].partition("?")[0])
    if uri.startswith("sqlite:") and (folder := next(filter(Path.exists, file.parents), None)):
        for place in filter(Path.exists, (folder, file)):
            if not os.access(place, os.W_OK):
                raise PermissionError(
                    f"nobody may write to {place} (MLFLOW_TRACKING_URI names another place)"
                )
    if uri in _reached:
        return
    with _lock:
        thread, failures = _opening.get(uri, (None, []))
        if thread is None or not thread.is_alive():
            failures = []

            def probe():
                try:
                    mlflow.MlflowClient(uri)
                except Exception as error:
                    failures.append(error)

            thread = threading.Thread(target=probe, daemon=True)
            _opening[uri] = thread, failures
            thread.start()
            patience = CREATING
        else:
            patience = 1  # somebody has waited already
    thread.join(patience)
    if thread.is_alive():
        raise TimeoutError(f"no database within {CREATING} s")
    for error in failures:
        raise error
    _reached.add(uri)


def is_local(uri):
    """Return whether a tracking URI names a file of this machine."""
    return uri.startswith(("sqlite:", "file:")) or "://" not in uri


def is_missing(uri):
    """Return whether a tracking URI names a local database that nobody has made yet."""
    file = uri.partition(":///")[2].partition("?")[0]
    return uri.startswith("sqlite:///") and bool(file) and not Path(file).exists()


def is_refusal(error):
    """Return whether the server answered, and refused this one request."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in REFUSALS


@cache
def _ignore_noload():
    """Ignore, from now on, one warning of SQLAlchemy about MLflow's own models of its tables.

    Nobody outside MLflow can mend it, and as an error it would keep every run from its store.
    """
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)
