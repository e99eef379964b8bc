"""Spool of a run: append-only files that hold what MLflow has not received yet.

``mlflow_offline/<run>/`` holds ``run.json``, how to create the run; ``records.jsonl`` and
``files.jsonl``, one JSON object per call; ``artifacts/``, copies of the files to upload;
``rejected.jsonl``, what the server refused. A file is emptied when all of it was sent.
"""

import json
import os
import shutil
import tempfile
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from filelock import FileLock, Timeout

from mura_skorch.utils.atomic import write_text

__all__ = ["OFFLINE", "Record", "Spool", "SpoolFile", "decode", "encode", "find_spools"]

Record = dict[str, Any]
OFFLINE = Path("mlflow_offline")
HEADER, REJECTED = "run.json", "rejected.jsonl"
CHUNK = 1 << 20  # bytes read at a time


def encode(record: Record) -> bytes:
    """Return a record as one line."""
    return json.dumps(record).encode() + b"\n"


def decode(data: bytes) -> list[tuple[Record, int]]:
    """Return the records in some lines, and the position at which each ends.

    A last line without its end is still being written; other damaged lines are skipped.
    """
    found, end = [], 0
    for line in data.split(b"\n")[:-1]:
        end += len(line) + 1
        with suppress(ValueError):
            found.append((json.loads(line), end))
    return found


class SpoolFile:
    """An append-only file of records, which is emptied when all were sent.

    A new process sends again what an earlier one had sent since then, which changes nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._offset = 0  # bytes that were sent
        with suppress(OSError), path.open("rb") as file:  # empty, or not there
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                self.append_bytes(b"\n")  # the process was killed within a line

    def append(self, record: Record) -> None:
        """Write a record."""
        self.append_bytes(encode(record))

    def append_bytes(self, data: bytes) -> None:
        """Write lines."""
        with self._lock, self.path.open("ab") as file:
            file.write(data)

    def pending(self, n_bytes: int = CHUNK) -> list[tuple[Record, int]]:
        """Return the next records to send, each with the position at which it ends."""
        with self._lock, suppress(FileNotFoundError), self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(n_bytes)
            found = decode(data) or decode(data + file.read())
            return [(record, self._offset + end) for record, end in found]
        return []

    def mark_sent(self, end: int) -> None:
        """Note that the records up to a position were sent; empty the file after the last."""
        with self._lock:
            self._offset = end
            if end == self.path.stat().st_size:
                os.truncate(self.path, 0)
                self._offset = 0


class Spool:
    """The folder of one run, locked while a process uses it.

    Parameters
    ----------
    folder : Path
    header : dict
        What it takes to create the run: ``key``, ``run_id``, ``name``, ``experiment_id``, ...
    lock : FileLock
        Held.
    """

    def __init__(self, folder: Path, header: dict[str, Any], lock: FileLock) -> None:
        self.folder = folder.absolute()
        self.header = header
        self.records = SpoolFile(self.folder / "records.jsonl")
        self.files = SpoolFile(self.folder / "files.jsonl")
        self._lock = lock

    @classmethod
    def create(cls, header: dict[str, Any], parent: Path = OFFLINE) -> Self:
        """Make a folder in another, or among temporary files where that is read-only or full."""
        try:
            return cls._create(header, parent)
        except OSError:
            return cls._create(header, Path(tempfile.mkdtemp(prefix=f"{OFFLINE}-")))

    @classmethod
    def _create(cls, header, parent):
        name = "".join(c if c.isalnum() or c in "._-" else "_" for c in header["name"] or "run")
        folder = parent.absolute() / f"{name[:60]}-{uuid.uuid4().hex[:8]}"
        for _ in range(3):
            with suppress(FileNotFoundError):  # another process has just removed the parent
                folder.mkdir(parents=True)
                break
        try:
            spool = cls(folder, header, _acquire(folder))
            spool.write_header()
            spool.records.append_bytes(b"\n" * 4096)  # a full disk fails here, not later
            os.truncate(spool.records.path, 0)
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return spool

    @classmethod
    def open(cls, folder: Path) -> Self | None:
        """Return the spool in a folder; None while another process uses it, or without one."""
        with suppress(OSError, ValueError):
            lock = _acquire(folder)
            if lock is not None:
                return cls(folder, json.loads((folder / HEADER).read_text()), lock)
        return None

    @classmethod
    def of_run(cls, name: str, value: str, parent: Path = OFFLINE) -> Self | None:
        """Return the spool that an earlier process left of a run, by its ``run_id`` or ``key``."""
        for folder in find_spools(parent):
            if _header(folder).get(name) == value and (found := cls.open(folder)) is not None:
                return found
        return None

    @property
    def is_empty(self) -> bool:
        """Whether all was sent."""
        return not (self.records.pending() or self.files.pending())

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left, not even something that the server refused."""
        return self.is_empty and not (self.folder / REJECTED).exists()

    def append(self, record: Record, source: Path | None = None) -> None:
        """Write a record, after copying its files from the folder `source`."""
        if not record.keys() & {"files", "link_metrics"}:
            self.records.append(record)
            return
        for name in record.get("files", []) if source is not None else []:
            target = self.artifacts_of(record) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f".{target.name}.part")
            shutil.copyfile(source / name, part)
            part.replace(target)
        self.files.append(record)

    def artifacts_of(self, record: Record) -> Path:
        """Return the folder that holds the files of a record."""
        return self.folder / "artifacts" / record.get("artifact_path", "")

    def reject(self, record: Record) -> None:
        """Set a record aside that the server does not accept."""
        with (self.folder / REJECTED).open("ab") as file:
            file.write(encode(record))

    def retry_rejected(self) -> None:
        """Put what the server did not accept back among what is to be sent."""
        with suppress(FileNotFoundError):
            for record, _ in decode((self.folder / REJECTED).read_bytes()):
                self.append(record)
            (self.folder / REJECTED).unlink()

    def write_header(self) -> None:
        """Write `header`."""
        write_text(self.folder / HEADER, json.dumps(self.header, indent=1))

    def close(self) -> None:
        """Release the folder; remove it if nothing is left."""
        if self.is_finished:
            for path in sorted(self.folder.iterdir(), key=lambda path: path.name == HEADER):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):  # spools of other runs are in it
                self.folder.parent.rmdir()
        self._lock.release()


def find_spools(folder: Path) -> list[Path]:
    """Return the spools in a folder, or the folder itself if it is one, the oldest run first."""
    found = [path.parent for path in [*folder.glob(HEADER), *folder.glob(f"*/{HEADER}")]]
    return sorted(found, key=lambda path: _header(path).get("start_time", 0))


def _header(folder):
    with suppress(OSError, ValueError):  # another process may have just removed it
        return json.loads((folder / HEADER).read_text())
    return {}


def _acquire(folder):
    """Return the lock of a folder, or None while another process or run has it."""
    lock = FileLock(folder / "lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        return None
    return lock
