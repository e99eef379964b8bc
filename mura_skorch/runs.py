"""MLflow runs: values and files go in, the server or else a local journal has them."""

import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from functools import cache
from numbers import Real
from pathlib import Path
from typing import Any, Self

import pandas as pd

__all__ = [
    "Run",
    "active_run_id",
    "is_finite",
    "is_running",
    "logged_metrics",
    "runs_link",
    "status_of",
    "use_experiment",
]

UNSENT = Path("mura_unsent")
# MLflow's own patience is minutes for each call; a training does not wait for its bookkeeping.
IMPATIENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


class Run:
    """An MLflow run that never stops a training.

    What the tracking server does not take goes, after one warning, to ``mura_unsent/<run>/`` in
    the current folder: ``journal.jsonl`` holds parameters, metrics and tags, one JSON object a
    line, and ``artifacts/`` the files. A server that does not answer is not asked again by this
    run; one that refuses a single value is.

    Parameters
    ----------
    run_id : str, optional
        Log into this run. None opens a new one, nested when a run is active.
    name : str, optional
        Name of a new run.
    parent_run_id : str, optional
        Parent of a new run, for worker processes, where no run is active.
    note : str, optional
        A caveat, such as "phantoms: no clinical meaning", that the run shows as its description.
    unsent : path, optional
        Keep everything in a new folder below this one and send nothing: for the children of a
        run whose server did not answer.

    Attributes
    ----------
    run_id : str or None
        None where the server could not be asked for one.
    unsent : Path or None
        Folder of what could not be sent.
    status : str
        How the run ends when its block is left without an exception, "FINISHED" unless changed.

    Examples
    --------
    >>> with Run(name="evaluation") as run:  # doctest: +SKIP
    ...     run.log_metrics({"test/kappa": 0.7})
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        name: str | None = None,
        parent_run_id: str | None = None,
        note: str | None = None,
        unsent: str | os.PathLike[str] | None = None,
    ) -> None:
        self.run_id = run_id
        self.name = name
        self.parent_run_id = parent_run_id
        self.note = note
        self.unsent: Path | None = None if unsent is None else self._unsent_folder(unsent)
        self.is_active = False
        self.is_offline = unsent is not None
        self.status = "FINISHED"

    def open(self) -> Self:
        """Start the run, or find the given one; return self."""
        import mlflow

        def start():
            active = mlflow.active_run()
            if active is not None and active.info.run_id == self.run_id:
                return  # whoever started it ends it
            run = mlflow.start_run(
                run_id=self.run_id,
                run_name=self.name,
                nested=active is not None or self.parent_run_id is not None,
                parent_run_id=self.parent_run_id,
            )
            self.run_id, self.is_active = run.info.run_id, True

        self._send(start, {})
        if self.note:
            self.set_tags({"note": self.note, "mlflow.note.content": self.note})
        return self

    def close(self, status: str = "FINISHED", error: BaseException | None = None) -> None:
        """End the run with an MLflow status, FINISHED, FAILED or KILLED, and the error's tag."""
        import mlflow

        if error is not None:
            self.set_tags({"error": f"{type(error).__name__}: {error}"[:5000]})

        def end():
            if was_active:
                _client().set_terminated(self.run_id, status)

        was_active, self.is_active = self.is_active, False
        if was_active:
            # MLflow forgets the run, even where its server does not answer.
            with suppress(Exception), impatience():
                mlflow.end_run(status)
        self._send(end, {"status": status})

    def __enter__(self):
        return self.open()

    def __exit__(self, kind, error, traceback):
        self.close(self.status if kind is None else status_of(kind), error)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, a dict of str to str."""
        self._log_batch(tags=tags)

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, a dict of str to anything short; of paths only the last name.

        A folder may be called after a person or a ward, and a run is read by others.
        """
        self._log_batch(params={name: _without_folder(value) for name, value in params.items()})

    def log_metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log the finite ones of a dict of str to number in one call."""
        finite = {_key(name): float(value) for name, value in metrics.items() if is_finite(value)}
        self._log_batch(metrics=finite, step=step)

    def log_text(self, text: str, file: str) -> None:
        """Log a text as the artifact `file`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(file).name
            path.write_text(text, encoding="utf-8")
            self.log_folder(folder, str(Path(file).parent))

    def log_folder(self, folder: str | os.PathLike[str], artifact_path: str = "") -> None:
        """Log the files of a folder below the artifact path."""
        artifact_path = "" if artifact_path == "." else artifact_path

        def keep(unsent):
            shutil.copytree(folder, unsent / "artifacts" / artifact_path, dirs_exist_ok=True)

        self._send(
            lambda: _client().log_artifacts(self.run_id, str(folder), artifact_path or None),
            {"artifacts": artifact_path},
            keep,
        )

    def log_dataset(self, table: pd.DataFrame, *, name: str, digest: str, context: str) -> None:
        """Log a DataFrame as an MLflow dataset of that name, digest and context."""
        import mlflow
        from mlflow.entities import DatasetInput, InputTag

        def send():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # three a call, on integer columns
                data = mlflow.data.from_pandas(table, name=name, digest=digest)
                entity = data._to_mlflow_entity()
            tag = InputTag("mlflow.data.context", context)
            _client().log_inputs(self.run_id, [DatasetInput(entity, [tag])])

        record = {"dataset": name, "digest": digest, "context": context, "rows": len(table)}
        self._send(send, record)

    def _log_batch(self, *, metrics=None, params=None, tags=None, step=0):
        from mlflow.entities import Metric, Param, RunTag

        if not (metrics or params or tags):
            return
        now = int(time.time() * 1000)
        record = {"metrics": metrics, "params": params, "tags": tags, "step": step}
        self._send(
            lambda: _client().log_batch(
                self.run_id,
                metrics=[Metric(key, value, now, step) for key, value in (metrics or {}).items()],
                params=[Param(key, str(value)) for key, value in (params or {}).items()],
                tags=[RunTag(key, str(value)) for key, value in (tags or {}).items()],
            ),
            {key: value for key, value in record.items() if value},
        )

    def _send(self, send, record, keep=None):
        """Send, or keep what the server does not take."""
        if not self.is_offline:
            try:
                _insist(send)
                return
            except Exception as error:  # any failure of the bookkeeping spares the training
                self.is_offline = not _is_refusal(error)
                self.unsent = self.unsent or self._warn(error)
        unsent = self.unsent or self._unsent_folder(UNSENT)
        if keep is not None:
            keep(unsent)
        if record:
            with (unsent / "journal.jsonl").open("a", encoding="utf-8") as journal:
                journal.write(json.dumps(record, default=str) + "\n")

    def _warn(self, error):
        import mlflow

        unsent = self._unsent_folder(UNSENT)
        verb = "take this" if _is_refusal(error) else "answer"
        reason = str(error).split("\n", 1)[0][:300]
        warnings.warn(
            f"expected MLflow at {mlflow.get_tracking_uri()} to {verb}, got {reason}; the "
            f"training goes on, and what cannot be logged is kept in {unsent}",
            stacklevel=2,
        )
        return unsent

    def _unsent_folder(self, parent):
        name = self.run_id or f"{_key(self.name or 'run')}-{uuid.uuid4().hex[:8]}".replace("/", "_")
        folder = Path(parent).resolve() / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:  # a folder that nobody may write to
            folder = Path(tempfile.mkdtemp(prefix="mura_unsent-")) / name
            folder.mkdir()
        return folder


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
        mlflow.set_experiment(name)
        if note:
            mlflow.set_experiment_tag("mlflow.note.content", note)

    try:
        _insist(use)
        return mlflow.get_experiment_by_name(name).experiment_id
    except Exception as error:
        if _is_refusal(error):
            reason = str(error).split("\n", 1)[0]
            raise ValueError(
                f"expected an experiment {name!r} in MLflow, got {reason}; pass another name"
            ) from error
        return None  # the runs themselves say what is wrong, and keep what cannot be sent


def end_children(parent, status):
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

    parent._send(end, {})


def logged_metrics(run_id: str | None) -> set[tuple[str, int]]:
    """Return the names and steps of all metrics that a run has, none where nobody answers."""
    if run_id is None:
        return set()
    try:
        names = _insist(lambda: _client().get_run(run_id)).data.metrics
        histories = [
            _insist(lambda n=name: _client().get_metric_history(run_id, n)) for name in names
        ]
    except Exception:  # what is sent next says what is wrong with the server
        return set()
    return {(point.key, point.step) for history in histories for point in history}


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


def status_of(error_type: type[BaseException] | None) -> str:
    """Return the MLflow status of a run that ended with an exception of this type, or None."""
    if error_type is None:
        return "FINISHED"
    return "KILLED" if issubclass(error_type, (KeyboardInterrupt, SystemExit)) else "FAILED"


def active_run_id() -> str | None:
    """Return the id of the run that is active in this thread, or None."""
    mlflow = sys.modules.get("mlflow")  # who has not imported it has no run, and waits for none
    active = None if mlflow is None else mlflow.active_run()
    return None if active is None else active.info.run_id


def is_running(run_id: str) -> bool:
    """Return whether MLflow knows the run and it has not ended."""
    try:
        return _insist(lambda: _client().get_run(run_id)).info.status == "RUNNING"
    except Exception:  # the run that asks says what is wrong with the server
        return False


def is_finite(value: object) -> bool:
    """Return whether a value is a number that MLflow can store as it is."""
    return isinstance(value, Real) and math.isfinite(value)


def _client():
    import mlflow

    return mlflow.MlflowClient()


def _insist(send):
    """Call `send`; where a database is new or locked by another process, again after a pause."""
    import mlflow

    n_tries = 1 if mlflow.get_tracking_uri().startswith("http") else 3
    for left in reversed(range(n_tries)):
        try:
            with impatience():
                return send()
        except Exception as error:
            if left == 0 or _is_refusal(error):
                raise
            time.sleep(random.Random().uniform(1, 3))  # apart from the global state
    return None


def _is_refusal(error):
    """Return whether the server answered, and refused this one request."""
    from mlflow.exceptions import MlflowException

    codes = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
    return isinstance(error, MlflowException) and error.error_code in codes


@contextmanager
def impatience():
    """Shorten MLflow's patience for one call, where the user has not set it."""
    _ignore_noload()
    added = {key: value for key, value in IMPATIENT.items() if key not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for key in added:
            os.environ.pop(key, None)


@cache
def _ignore_noload():
    """Ignore, from now on, one warning of SQLAlchemy about MLflow's own models of its tables.

    Nobody outside MLflow can mend it, and as an error it would keep every run from its store.
    """
    warnings.filterwarnings("ignore", "The ``noload`` loader strategy", DeprecationWarning)


def _without_folder(value):
    """Return the last name of a path, or of a text that is one on this machine."""
    is_text = isinstance(value, str) and (os.path.isabs(value) or os.path.exists(value))
    return Path(value).absolute().name if is_text or isinstance(value, Path) else value


def _key(name):
    """Return the name with what MLflow does not allow replaced."""
    return re.sub(r"[^/\w.\- :]", "_", name)
