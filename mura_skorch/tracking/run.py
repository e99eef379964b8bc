"""One MLflow run that never stops or slows a training."""

import os
import re
import tempfile
import time
import uuid
import warnings
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from pathlib import Path
from typing import Any, Self

import pandas as pd

from mura_skorch.tracking.experiment import active_run_id
from mura_skorch.tracking.offline.connection import is_client_error, is_local, retry, set_defaults
from mura_skorch.tracking.offline.queue import SendQueue
from mura_skorch.tracking.offline.send_records import find_or_create_run, send_records
from mura_skorch.tracking.offline.spool import OFFLINE, Spool
from mura_skorch.tracking.origin import Origin, lasting_uri
from mura_skorch.tracking.values import is_finite, metric_name, param_name, param_value
from mura_skorch.utils.signals import deferred_signals

__all__ = ["MODEL_NAME", "TrackedRun", "status_of"]

MODEL_NAME = "model"  # of the logged model, so that MLflow resolves runs:/<run id>/model
MOST_PARAMS = 100  # of one request, MLflow's limit
WAIT = 10  # seconds
OF_A_PROCESS = ("start_time", "uri")
MOST_FAILURES = 3  # in a row, before a warning


class TrackedRun:
    """An MLflow run that never stops or slows a training.

    A local store is written directly. For a server, whatever is logged is appended to a file in
    ``mlflow_offline/`` in the current folder, and a background thread sends it. What the server
    does not receive before the run ends stays there, and ``mura-skorch sync`` sends it. One
    warning says so.

    Parameters
    ----------
    run_id : str, optional
        Log into this run. None opens a new one, a child of the active run if there is one.
    name : str, optional
        Name of a new run.
    parent : TrackedRun or str, optional
        Parent of a new run, or its id, for worker processes, where no run is active.
    note : str, optional
        A caveat, such as "phantoms: no clinical meaning", shown as the run's description.
    origin : Origin, optional
        Where the process is that asked for the run. It goes where runs go there, unless `uri` is
        given. None means the origin of `parent`, if that came from another process.
    uri, experiment_id : str, optional
        Where to log. None means MLflow's current tracking URI and experiment.
    wait : float, default=10
        Seconds to wait for a server, when the run opens and when it closes, while nothing moves.

    Attributes
    ----------
    run_id : str or None
        None until the server has answered.
    status : str
        How the run ends when its block is left without an exception, "FINISHED" unless changed.
    offline_folder : Path or None
        What is not sent yet.

    Examples
    --------
    >>> with TrackedRun(name="evaluation") as run:  # doctest: +SKIP
    ...     run.log_metrics({"test/kappa": 0.7})
    """

    def __init__(
        self,
        run_id: str | None = None,
        *,
        name: str | None = None,
        parent: Self | str | None = None,
        note: str | None = None,
        origin: Origin | None = None,
        uri: str | None = None,
        experiment_id: str | None = None,
        wait: float = WAIT,
    ) -> None:
        self.note = note
        self.wait = wait
        self.uri = uri or ""  # MLflow's, from the first call on
        self.status = "FINISHED"
        # What it takes to create the run later, from anywhere.
        self._header: dict[str, Any] = {
            "key": uuid.uuid4().hex,
            "run_id": run_id,
            "name": name,
            "parent_run_id": parent.run_id if isinstance(parent, TrackedRun) else parent,
            "parent_key": parent._header["key"] if isinstance(parent, TrackedRun) else None,
            "experiment_id": experiment_id,
            "experiment": parent._header["experiment"] if isinstance(parent, TrackedRun) else None,
            "is_owned": True,
            "tags": {},
        }
        self._tags: dict[str, str] = {}
        self._is_active = self._has_warned = self._is_lost = False
        self._queues: list[SendQueue] = []  # more than one if a disk has been full
        self._process = os.getpid()
        self._folder: Path | None = None
        self._spools = OFFLINE
        if origin is None and isinstance(parent, TrackedRun):
            origin = parent._origin
        self._origin: Origin = origin or Origin()
        self._is_for_worker = False

    def __getstate__(self):
        # A worker needs to know the run; a pickle that is kept holds no address of a server.
        header = {key: value for key, value in self._header.items() if key not in OF_A_PROCESS}
        here: dict[str, Any] = {"_queues": [], "_folder": None, "_is_active": False, "uri": ""}
        here |= {"_spools": OFFLINE, "_origin": self._origin if self._is_for_worker else Origin()}
        return {**self.__dict__, **here, "_header": header}

    def __repr__(self):
        return f"TrackedRun(run_id={self.run_id!r})"

    @property
    def run_id(self) -> str | None:
        """Id of the run, once it was created."""
        return self._header["run_id"]

    @property
    def offline_folder(self) -> Path | None:
        """Folder of what is not sent yet."""
        return self._folder if self._folder is not None and self._folder.exists() else None

    def open(self) -> Self:
        """Create the run, or find the given one; return self."""
        import mlflow

        active = active_run_id()
        if self.run_id is None and active is None:  # set by `mlflow run`; start_run takes it, too
            self._header["run_id"] = os.environ.pop("MLFLOW_RUN_ID", None)
        header = self._complete_header()
        header["is_owned"] = self.run_id is None or self.run_id != active
        if self.run_id is None:
            header["parent_run_id"] = header["parent_run_id"] or active
            self._create()
        elif (left := self._left_spool()) is not None:
            self._start_queue(left)
            self._put({"status": "RUNNING"})  # after how it once ended
            self.flush()
        if header["is_owned"] and self.run_id and mlflow.get_tracking_uri() == self.uri:
            with suppress(Exception):  # the next record shows what is wrong with the server
                mlflow.start_run(self.run_id, nested=True)
                self._is_active = True
        if self.note:
            self.set_tags({"note": self.note, "mlflow.note.content": self.note})
        return self

    def close(self, status: str = "FINISHED", error: BaseException | None = None) -> None:
        """End the run with an MLflow status, FINISHED, FAILED or KILLED, and the error's tag."""
        import mlflow

        with deferred_signals(every=True):  # MLflow ends a run that is left active as FINISHED
            if error is not None:
                self.set_tags({"error": f"{type(error).__name__}: {error}"[:5000]})
            if self._header["is_owned"]:
                self._put({"status": status})
            if self._is_active:
                self._is_active = False
                with suppress(Exception):
                    mlflow.end_run(status)
        self.release()

    def flush(self) -> bool:
        """Wait until all is sent, while something moves; return whether it is."""
        left = [queue for queue in self._queues if not queue.flush(self.wait)]
        for queue in self._queues:
            if queue in left or queue.rejection:
                self.warn(queue.rejection or queue.error)
        return not left

    def release(self) -> None:
        """Wait as `flush` does, and leave the rest to ``mura-skorch sync``."""
        self.flush()
        for queue in self._queues:
            queue.close()
        self._queues = []

    def for_worker(self) -> Self:
        """Return a copy to send to a worker process, as the parent of the runs there.

        They go where this run goes, also if the worker was started without MLFLOW_TRACKING_URI.
        What they cannot send is stored next to what this process cannot send. An address with a
        password is not sent along.
        """
        self._complete_header()
        found = copy(self)
        found._origin = Origin.here(self.run_id, self.uri, self._header["experiment_id"])
        found._is_for_worker = True
        return found

    def __enter__(self):
        return self.open()

    def __exit__(self, kind, error, traceback):
        self.close(self.status if kind is None else status_of(kind), error)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, a dict of str to str."""
        texts = {name: str(value) for name, value in tags.items()}
        self._tags |= texts
        self._put({"tags": texts})

    def tag(self, name: str) -> str | None:
        """Return a tag; None if the run has none, or the server does not answer."""
        if name in self._tags or self.run_id is None:
            return self._tags.get(name)
        with suppress(Exception):  # the next record shows what is wrong with the server
            return self._client().get_run(self.run_id).data.tags.get(name)
        return None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; only the last name of a path, since runs are read by others."""
        pairs = [(param_name(name), param_value(value)) for name, value in params.items()]
        for begin in range(0, len(pairs), MOST_PARAMS):
            self._put({"params": dict(pairs[begin : begin + MOST_PARAMS])})

    def log_metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log the finite ones of a dict of str to number in one call."""
        if values := _finite(metrics):
            self._put({"metrics": values, "step": int(step)})

    def logged_metrics(self) -> set[tuple[str, int]] | None:
        """Return names and steps of the metrics of a run; None if the server does not answer.

        All metrics of an epoch are logged in one call: a run that has an epoch's ``train_loss``
        has them all.
        """
        names, steps = set(), {0}
        for queue in self._queues:
            for record, _ in queue.spool.records.pending(-1):
                names |= record.get("metrics", {}).keys()
                steps.add(record.get("step", 0))
        if self.run_id is not None:
            try:
                names |= self._client().get_run(self.run_id).data.metrics.keys()
                points = self._client().get_metric_history(self.run_id, "train_loss")
            except Exception:  # the next record shows what is wrong with the server
                return None
            steps |= {point.step for point in points}
        return {(name, step) for name in names for step in steps}

    def log_text(self, text: str, file: str) -> None:
        """Log a text as the artifact `file`."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / Path(file).name
                path.write_text(text, encoding="utf-8")
                self.log_folder(folder, Path(file).parent.as_posix())
        except OSError as error:  # a full disk must not stop a training
            self.warn(error)

    def log_folder(self, folder: str | os.PathLike[str], artifact_path: str = "") -> None:
        """Log the files of a folder below the artifact path, as they are now."""
        path = "" if artifact_path == "." else artifact_path
        self._put({"files": _files(folder), "artifact_path": path}, Path(folder))

    def log_dataset(self, table: pd.DataFrame, *, name: str, digest: str, context: str) -> None:
        """Log a DataFrame as an MLflow dataset of that name, digest and context."""
        import mlflow

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # three a call, on integer columns
            try:
                dataset = mlflow.data.from_pandas(table, name=name, digest=digest).to_dict()
            except Exception as error:  # tracking must not stop a training
                self.warn(error)
                return
        self._put({"dataset": dataset, "context": context})

    def log_model(
        self, folder: str | os.PathLike[str], dataset: tuple[str, str] | None = None
    ) -> None:
        """Log the MLflow model in a folder as a logged model, with the run's ``valid/`` metrics.

        Parameters
        ----------
        folder : path
            What `save_mlmodel` wrote.
        dataset : tuple of (str, str), optional
            Name and digest of the validation data.
        """
        record = {"model": MODEL_NAME, "key": uuid.uuid4().hex, "artifact_path": MODEL_NAME}
        link = {"link_metrics": "valid/", "dataset": dataset}
        self._put({**record, **link, "files": _files(folder)}, Path(folder))

    def link_metrics(self, prefix: str, dataset: tuple[str, str]) -> None:
        """List the run's metrics with a prefix next to its logged model, if it has one."""
        self._put({"link_metrics": prefix, "dataset": dataset})

    def _complete_header(self):
        """Fill in where the run belongs, at the time of the first call."""
        import mlflow

        # MLflow's start_run adds these tags, create_run does not; there is no other public way.
        from mlflow.tracking.context.registry import resolve_tags

        set_defaults()
        header = self._header
        if "start_time" not in header:
            origin = self._origin.seen_here()
            self.uri = self.uri or origin.uri or mlflow.get_tracking_uri()
            if os.path.isdir(origin.folder):
                self._spools = Path(origin.folder, OFFLINE)
            experiment_id = header["experiment_id"] or origin.experiment_id
            header |= {
                "start_time": _now(),
                "uri": lasting_uri(self.uri) or None,
                "experiment_id": experiment_id or os.environ.get("MLFLOW_EXPERIMENT_ID"),
                "experiment": header["experiment"] or os.environ.get("MLFLOW_EXPERIMENT_NAME"),
                "tags": {} if self.run_id else resolve_tags({}),
            }
        return header

    def _client(self):
        import mlflow

        self._complete_header()
        return mlflow.MlflowClient(self.uri)

    def _create(self):
        """Create the run; wait for a server only for a short time."""
        # A parent that has no id has waited already, and has warned.
        is_waiting = self._header["parent_key"] and not self._header["parent_run_id"]
        self._has_warned = bool(is_waiting)
        if not is_local(self.uri) and self._start_queue():
            queue = self._queues[-1]
            if not is_waiting and not queue.wait(self.wait, lambda: bool(self.run_id)):
                self.warn(queue.error)
            return
        try:
            retry(self._find_or_create, self.uri)
        except Exception as error:  # tracking must not stop a training
            self._start_queue()
            self.warn(error)

    def _find_or_create(self) -> str:
        if self.run_id is None:
            self._header["run_id"] = find_or_create_run(self._client(), self._header)
        return self._header["run_id"]

    def _start_queue(self, spool: Spool | None = None) -> bool:
        """Start to send in the background; return whether a disk takes the records."""
        if spool is None:
            try:
                spool = Spool.create(self._header, self._spools)
            except OSError:
                self._is_lost = is_local(self.uri)
                return False
        spool.header = self._header
        self._folder = spool.folder
        self._queues.append(SendQueue(spool, self.uri))
        self._queues[-1].start()
        return True

    def _left_spool(self):
        """Return what this run, or an earlier process, left unsent, or None."""
        found = Spool.of_run("run_id", self.run_id, self._spools) if self.run_id else None
        return found or Spool.of_run("key", self._header["key"], self._spools)

    def _put(self, content, source=None):
        """Send a record to a local store; write it to the spool for a server."""
        record = {"time": _now(), **content}
        self._complete_header()
        if self._process != os.getpid():  # a fork has no thread that sends
            self._process, self._queues = os.getpid(), []
        if not self._queues and not is_local(self.uri):
            self._start_queue(self._left_spool())
        if self._queues:
            self._write(record, source)
            queue = self._queues[-1]
            if queue.rejection or queue.n_failed >= MOST_FAILURES:
                self.warn(queue.rejection or queue.error)
        elif not self._is_lost:
            self._send(record, source)

    def _write(self, record, source):
        try:
            self._queues[-1].put(record, source)
        except OSError as error:  # the disk is full: this and later records go to another one
            self._has_warned = False
            with suppress(OSError):
                if self._start_queue():
                    self._queues[-1].put(record, source)
            self.warn(error)

    def _send(self, record, source):
        def send():
            send_records(self._client(), self._find_or_create(), [record], source)

        try:
            retry(send, self.uri)
        except Exception as error:  # tracking must not stop a training
            if self._start_queue(self._left_spool()):
                self._write(record, source)
            self._is_lost = not self._queues
            self.warn(error)

    def warn(self, error: BaseException | None) -> None:
        """Warn once about what is wrong, and say where the records are."""
        if self._has_warned:
            return
        self._has_warned = True
        verb = "accept this" if error is not None and is_client_error(error) else "answer"
        reason = str(error or "nothing yet").split("\n", 1)[0][:300]
        if self._queues:
            what = (
                f"what cannot be logged is in {self._folder}: it is sent when MLflow answers, or "
                f"later by: mura-skorch sync {self._folder}"
            )
        else:
            what = (
                "what cannot be logged is not recorded anywhere, since neither the current folder "
                "nor the one for temporary files can be written; start in a folder that can, or "
                "set MLFLOW_TRACKING_URI to a database in one: sqlite:////FOLDER/mlflow.db"
            )
        warnings.warn(
            f"expected MLflow at {re.sub('//[^/@]*@', '//', self.uri)} to {verb}, got "
            f"{reason}; the training goes on, and {what}",
            stacklevel=2,
        )


def status_of(error_type: type[BaseException] | None) -> str:
    """Return the MLflow status of a run that ended with an exception of this type, or None."""
    if error_type is None:
        return "FINISHED"
    return "KILLED" if issubclass(error_type, (KeyboardInterrupt, SystemExit)) else "FAILED"


def _now():
    return int(time.time() * 1000)


def _finite(metrics):
    return {metric_name(name): float(v) for name, v in metrics.items() if is_finite(v)}


def _files(folder):
    root = Path(folder)
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
