"""MLflow runs: values and files go in; the server has them, or will, or else a local journal."""

import os
import re
import tempfile
import time
import uuid
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import pandas as pd

from mura_skorch.tracking.experiment import active_run_id
from mura_skorch.tracking.loggable import is_finite, metric_name, param_name, param_value
from mura_skorch.tracking.offline.queue import Outbox
from mura_skorch.tracking.offline.records import Record
from mura_skorch.tracking.offline.replay import KEY_TAG
from mura_skorch.tracking.offline.spool import Journal
from mura_skorch.tracking.offline.timeouts import OPENING, impatience, insist, is_local, is_refusal

__all__ = [
    "Run",
    "status_of",
]

# Seconds without any progress, after which nobody waits any longer.
SOON, LOCAL, LAST = 2, 10, 30
MOST_PARAMS = 100  # of one request, MLflow's limit


class Run:
    """An MLflow run that never stops a training.

    Whatever is logged is written to ``mura_unsent/<run>/`` in the current folder and sent by a
    thread, so that a slow server costs no time; what has arrived leaves the folder, and the last
    record takes the folder with it. Of a local database, each call waits until it is written. A
    server that is away gets everything, dated as it happened, when it is back; when the run ends
    before that, it is kept, and ``python -m mura_skorch.tracking.offline.sync`` sends it. One
    warning tells.

    Parameters
    ----------
    run_id : str, optional
        Log into this run. None opens a new one, nested when a run is active.
    name : str, optional
        Name of a new run.
    parent_run_id : str, optional
        Parent of a new run, for worker processes, where no run is active.
    parent_key : str, optional
        The parent's `key`, for where the parent has no id yet.
    note : str, optional
        A caveat, such as "phantoms: no clinical meaning", that the run shows as its description.

    Attributes
    ----------
    run_id : str or None
        None until the server could be asked for one.
    key : str
        Names the run before it has an id, and stays with it as the tag ``mura_run``.
    unsent : Path or None
        Folder of what is not sent, if anything.
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
        parent_key: str | None = None,
        note: str | None = None,
    ) -> None:
        self.name = name
        self.parent_run_id = parent_run_id
        self.parent_key = parent_key
        self.note = note
        self.key = uuid.uuid4().hex
        self.is_active = False
        self.status = "FINISHED"
        self._run_id = run_id
        self._is_mine = True
        self._has_warned = False
        self._has_left = False
        self._outbox: Outbox | None = None

    @property
    def run_id(self) -> str | None:
        """Id of the run, once there is one."""
        return self._outbox.journal.header["run_id"] if self._outbox else self._run_id

    @property
    def unsent(self) -> Path | None:
        """Folder of what is not sent, if anything."""
        return self._outbox.journal.folder if self._outbox else None

    def __getstate__(self):
        # A worker needs to know which run it was; the thread and the folder stay here.
        return self.__dict__ | {"_run_id": self.run_id, "_outbox": None}

    def open(self) -> Self:
        """Start the run, or find the given one; return self.

        A server that does not answer soon is not waited for: the run is made when it does.
        """
        import mlflow

        uri, failure, begin = mlflow.get_tracking_uri(), None, _now()
        active = mlflow.active_run()
        self._is_mine = active is None or active.info.run_id != self._run_id
        # Its parent has waited already, and said so.
        is_waiting = self.parent_key is not None and self.parent_run_id is None
        self._has_warned = is_waiting
        if self._is_mine and not is_waiting:
            try:
                self._run_id = insist(self._start, uri)
                self.is_active = True
            except Exception as error:  # any failure of the bookkeeping spares the training
                failure = error
        left = Journal.left_by(self._run_id) if self._run_id else None
        if left is not None:  # it goes on, so that it has not ended as it once did
            left.remove([record for record in left.records if "status" in record.content])
        self._outbox = Outbox(left or Journal(self._header(uri, begin)))
        self._has_left = False
        if left is not None:
            self.flush()
        if failure is not None:
            self._warn(failure)
        if self.note:
            self.set_tags({"note": self.note, "mlflow.note.content": self.note})
        return self

    def close(self, status: str = "FINISHED", error: BaseException | None = None) -> None:
        """End the run with an MLflow status, FINISHED, FAILED or KILLED, and the error's tag.

        What is on its way is waited for as long as something moves.
        """
        if error is not None:
            self.set_tags({"error": f"{type(error).__name__}: {error}"[:5000]})
        outbox, has_ended = self._box(), False
        try:
            if self.is_active and outbox.flush(SOON):
                has_ended = self._end(status, OPENING)
            if self._is_mine and not has_ended:
                self._put({"status": status}, wait=False)
            outbox.flush(LAST)
        finally:
            self._end(status, 1)
            if outbox.journal.records:
                self._warn(outbox.problem or outbox.last_error)
            outbox.close()
            self._has_left = True

    def flush(self) -> bool:
        """Wait for what is on its way, as long as something moves; return whether all is sent."""
        outbox = self._box()
        is_sent = outbox.flush(LAST)
        if outbox.problem or not is_sent:
            self._warn(outbox.problem or outbox.last_error)
        return is_sent

    def release(self) -> None:
        """Wait as `flush` does, and leave the rest to the command, unless the run is still open."""
        self.flush()
        if not self.is_active:
            self._box().close()
            self._has_left = True

    def __enter__(self):
        return self.open()

    def __exit__(self, kind, error, traceback):
        self.close(self.status if kind is None else status_of(kind), error)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags, a dict of str to str."""
        self._put({"tags": {name: str(value) for name, value in tags.items()}})

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters, a dict of str to anything short; of paths only the last name.

        A folder may be called after a person or a ward, and a run is read by others.
        """
        pairs = [(param_name(name), param_value(value)) for name, value in params.items()]
        for begin in range(0, len(pairs), MOST_PARAMS):
            self._put({"params": dict(pairs[begin : begin + MOST_PARAMS])})

    def log_metrics(self, metrics: Mapping[str, Any], step: int = 0) -> None:
        """Log the finite ones of a dict of str to number in one call."""
        finite = {
            metric_name(name): float(value) for name, value in metrics.items() if is_finite(value)
        }
        self._put({"metrics": finite} | ({"step": int(step)} if step else {}))

    def logged_metrics(self) -> set[tuple[str, int]] | None:
        """Return names and steps of what the run has, or will have; None where nobody answers."""
        import mlflow

        found = {
            (name, record.content.get("step", 0))
            for record in self._box().journal.records
            for name in record.content.get("metrics", {})
        }
        if self.run_id is None:
            return found
        client = mlflow.MlflowClient()
        try:
            with impatience(OPENING, retries=0):
                for name in client.get_run(self.run_id).data.metrics:
                    points = client.get_metric_history(self.run_id, name)
                    found |= {(point.key, point.step) for point in points}
        except Exception:  # what is sent next says what is wrong with the server
            return None
        return found

    def tag(self, name: str) -> str | None:
        """Return a tag that the run has, or will have; None where nobody answers."""
        import mlflow

        for record in reversed(self._box().journal.records):
            if name in record.content.get("tags", {}):
                return record.content["tags"][name]
        if self.run_id is None:
            return None
        try:
            with impatience(OPENING, retries=0):
                return mlflow.MlflowClient().get_run(self.run_id).data.tags.get(name)
        except Exception:  # what is sent next says what is wrong with the server
            return None

    def log_text(self, text: str, file: str) -> None:
        """Log a text as the artifact `file`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(file).name
            path.write_text(text, encoding="utf-8")
            self.log_folder(folder, str(Path(file).parent))

    def log_folder(self, folder: str | os.PathLike[str], artifact_path: str = "") -> None:
        """Log the files of a folder below the artifact path, as they are now."""
        root = Path(folder)
        files = sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())
        below = "" if artifact_path == "." else Path(artifact_path).as_posix() * bool(artifact_path)
        self._put({"files": files, "artifacts": below}, root)

    def log_dataset(self, table: pd.DataFrame, *, name: str, digest: str, context: str) -> None:
        """Log a DataFrame as an MLflow dataset of that name, digest and context."""
        import mlflow

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # three a call, on integer columns
                data = mlflow.data.from_pandas(table, name=name, digest=digest)
                dataset = data._to_mlflow_entity().to_dictionary()
        except Exception as error:  # any failure of the bookkeeping spares the training
            self._warn(error)
        else:
            self._put({"dataset": dataset, "context": context})

    def _start(self):
        import mlflow

        active = mlflow.active_run()
        run = mlflow.start_run(
            run_id=self._run_id,
            run_name=self.name,
            nested=active is not None or self.parent_run_id is not None,
            parent_run_id=self.parent_run_id,
            tags=None if self._run_id else {KEY_TAG: self.key},
        )
        return run.info.run_id

    def _end(self, status, seconds):
        """Have MLflow forget that the run is active, even where its server does not answer."""
        import mlflow

        was_active, self.is_active = self.is_active, False
        if was_active:
            with suppress(Exception), impatience(seconds, retries=0):
                mlflow.end_run(status)
                return True
        return False

    def _header(self, uri, begin):
        """Return what it takes to open the run later, from anywhere."""
        from mlflow.tracking.context import registry

        parent = self.parent_run_id or (active_run_id() if self._is_mine else None)
        return {
            "run_id": self._run_id,
            "name": self.name,
            "key": self.key,
            "start_time": begin,
            "parent_run_id": parent,
            "parent_key": self.parent_key,
            "experiment": os.environ.get("MLFLOW_EXPERIMENT_NAME"),
            "experiment_id": os.environ.get("MLFLOW_EXPERIMENT_ID"),
            "tags": {} if self._run_id else registry.resolve_tags({}),
            "uri": _lasting(uri),
        }

    def _box(self):
        """Return the outbox; also of a run that nobody has opened."""
        import mlflow

        if self._outbox is None:
            self._outbox = Outbox(Journal(self._header(mlflow.get_tracking_uri(), _now())))
        elif self._has_left:  # what comes after the end is sent after what came before
            self._has_left = False
            left = self._outbox.journal.folder
            journal = Journal.of(left) if left is not None and left.exists() else None
            if journal is not None:
                self._outbox = Outbox(journal)
        return self._outbox

    def _put(self, content, files=None, *, wait=True):
        """Keep a record and have it sent."""
        import mlflow

        where = ("step", "artifacts", "context")
        if not any(value for name, value in content.items() if name not in where):
            return
        outbox, uri = self._box(), mlflow.get_tracking_uri()
        record = Record(content, _now(), uri)
        outbox.put(record, files)
        if record.source is not None:  # no disk has room for copies of the files
            if not outbox.flush(LAST):
                outbox.journal.remove([record])
                self._warn(OSError(f"no answer, and no disk with room for {content['files']}"))
        elif wait and is_local(uri) and not outbox.is_behind:
            outbox.flush(LOCAL)
        if outbox.problem:
            self._warn(outbox.problem)

    def _warn(self, error):
        """Tell what is wrong, once."""
        import mlflow

        if self._has_warned:
            return
        self._has_warned = True
        verb = "take this" if is_refusal(error) else "answer"
        reason = str(error or "nothing yet").split("\n", 1)[0][:300]
        folder = self._box().journal.make()
        if folder is None:
            what = (
                "what cannot be logged is not recorded anywhere, since neither the current folder "
                "nor the one for temporary files can be written; start in a folder that can, or "
                "set MLFLOW_TRACKING_URI to a database in one: sqlite:////FOLDER/mlflow.db"
            )
        else:
            what = (
                f"what cannot be logged is kept in {folder}: it is sent when MLflow answers, or "
                f"afterwards by: python -m mura_skorch.tracking.offline.sync {folder}"
            )
        warnings.warn(
            f"expected MLflow at {_without_password(mlflow.get_tracking_uri())} to {verb}, got "
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


def _lasting(uri):
    """Return an address that holds in other folders, and nothing that opens a server."""
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{Path(uri.removeprefix('sqlite:///')).absolute()}"
    return None if "@" in uri else uri


def _without_password(uri):
    return re.sub(r"//[^/@]*@", "//", uri)
