"""Journals: records of a run go in, a folder holds them until MLflow has them all."""

import json
import os
import shutil
import tempfile
import threading
import uuid
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Self

from filelock import FileLock, Timeout

from mura_skorch.tracking.offline.records import Record, is_dated, lines_of, read_records

__all__ = ["UNSENT", "Journal", "journals"]

UNSENT = Path("mura_unsent")
HEADER, RECORDS = "run.json", "journal.jsonl"


class Journal:
    """What MLflow does not have yet of one run.

    The folder is there as long as a record is: ``run.json`` says how to open the run,
    ``journal.jsonl`` holds one JSON object a line, ``artifacts/`` the files. A line
    ``{"time": ms}`` dates the lines below it. A line is written before it is sent and taken out
    afterwards, so that a process that is killed leaves what it had not sent; sending a line twice
    changes nothing. Other processes see by a lock whether the run still goes on.

    Parameters
    ----------
    header : dict
        ``name``, ``run_id`` or None, and what else it takes to open the run.
    parent : path, default=UNSENT
        The folder is made in this one, or, where nobody may write to it, in a temporary one.
    """

    def __init__(self, header: dict[str, Any], parent: str | os.PathLike[str] = UNSENT) -> None:
        self.header = header
        self.records: list[Record] = []
        self.is_kept = True  # False: not even a temporary folder takes it
        self._lock = threading.RLock()
        self._parent = Path(parent).absolute()
        self._own: Any = None
        self._folder: Any = None  # Path, once made
        self._left: Path | None = None
        self._last_time: int | None = None

    @property
    def folder(self) -> Path | None:
        """The folder, or None where there is nothing to keep."""
        return self._folder or self._left

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Return the journal in a folder, or None while another process has it."""
        with suppress(OSError):  # it may have been sent by now
            own = _locked(folder)
            header = _header(folder)
            if own is not None and header is not None:
                journal = cls(header, folder.parent)
                journal._folder, journal._own = folder.absolute(), own
                with suppress(FileNotFoundError):
                    journal.records = read_records(folder / RECORDS)
                return journal
        return None

    @classmethod
    def left_by(cls, run_id: str, parent: str | os.PathLike[str] = UNSENT) -> Self | None:
        """Return the journal that an earlier process left of a run, or None."""
        own = (
            path for path in journals(Path(parent)) if (_header(path) or {}).get("run_id") == run_id
        )
        return next(filter(None, map(cls.of, own)), None)

    def add(self, record: Record, files: str | os.PathLike[str] | None = None) -> None:
        """Keep a record, with copies of its files in the folder `files`."""
        with self._lock:
            try:
                self._write(record, files)
                self.is_kept = True
            except OSError:  # full, or read-only
                self._move(record, files)
            if not self.is_kept and files is not None:
                record.source = Path(files)
            self.records.append(record)

    def remove(self, records: list[Record]) -> None:
        """Take out what was sent; with the last record the folder goes."""
        with self._lock:
            left = [record for record in self.records if record not in records]
            if not left:
                self.drop()
            elif self._folder is not None:
                still = {path for record in left for path in record.paths}
                with suppress(OSError):  # what stays in it too long is sent twice, no more
                    for path in {path for record in records for path in record.paths} - still:
                        (self._artifacts / path).unlink(missing_ok=True)
                    self._rewrite(left)
            self.records = left  # last: who waits for this may end the process

    def name_run(self, run_id: str) -> None:
        """Note the id that MLflow gave."""
        with self._lock:
            self.header["run_id"] = run_id
            if self._folder is not None:
                with suppress(OSError):  # else the run is found by its key
                    self._write_header()

    def drop(self) -> None:
        """Remove the folder."""
        with self._lock:
            folder, own = self._folder, self._own
            self._folder = self._own = self._last_time = None
            if folder is not None:
                _remove(folder)
            if own is not None:
                own.release()

    def file(self, record: Record, path: PurePosixPath) -> Path:
        """Return where a file of a record lies."""
        if record.source is not None:
            return record.source / path.relative_to(record.content["artifacts"])
        return self._artifacts / path

    def make(self) -> Path | None:
        """Return the folder, made where it is missing, or None where no disk takes it."""
        with self._lock:
            if self._folder is None:
                try:
                    self._make()
                except OSError:  # read-only, as for `add`
                    self._folder = None
                    with suppress(OSError):
                        self._parent = Path(tempfile.mkdtemp(prefix="mura_unsent-"))
                        self._make()
        return self.folder

    def let_go(self) -> None:
        """Leave what there is to whoever sends it."""
        with self._lock:
            if not self.records:
                self.drop()
            elif self._own is not None:
                self._own.release()
            self._left, self.records = self._folder, []
            self._folder = self._own = self._last_time = None

    @property
    def _artifacts(self):
        return self._folder / "artifacts"

    def _write(self, record, files):
        if self._folder is None:
            self._make()
        if files is not None:
            for file, path in zip(record.content["files"], record.paths, strict=True):
                target = self._artifacts / path
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.part")
                shutil.copyfile(Path(files) / file, part)
                part.replace(target)  # an earlier one of that name may be on its way
        lines = list(lines_of([record], self._last_time))
        with (self._folder / RECORDS).open("a", encoding="utf-8") as journal:
            journal.write("".join(lines))
        self._last_time = record.time if len(lines) > 1 else self._last_time

    def _make(self):
        name = self.header["run_id"] or f"{self.header['name'] or 'run'}-{self.header['key'][:8]}"
        folder = self._parent / "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
        for _ in range(3):  # another process may remove the folder of all as it is made
            with suppress(FileNotFoundError):
                folder.mkdir(parents=True, exist_ok=True)
                self._own = _locked(folder)
                if self._own is not None and not (folder / HEADER).exists():
                    break
            folder = folder.with_name(f"{folder.name}-{uuid.uuid4().hex[:8]}")
        self._folder = folder
        self._write_header()

    def _write_header(self):
        _replace(self._folder / HEADER, json.dumps(self.header, indent=1))

    def _rewrite(self, records):
        _replace(self._folder / RECORDS, "".join(lines_of(records)))
        dated = [record.time for record in records if is_dated(record)]
        self._last_time = dated[-1] if dated else None

    def _move(self, record, files):
        """Keep all that is left in a temporary folder, with a record that had no room."""
        before, own = self._folder, self._own
        for part in [] if before is None else before.rglob(".*.part"):
            with suppress(OSError):
                part.unlink()
        parent = self._parent
        try:
            self._parent = Path(tempfile.mkdtemp(prefix="mura_unsent-"))
            self._folder = self._last_time = None
            if before is not None and (before / "artifacts").is_dir():
                self._make()
                shutil.copytree(before / "artifacts", self._artifacts)
            for other in self.records:
                self._write(other, None)
            self._write(record, files)
        except OSError:
            self.is_kept = False  # in memory alone
            if self._parent != parent:
                shutil.rmtree(self._parent, ignore_errors=True)
            self._folder = before
            return
        self.is_kept = True
        if before is not None:
            _remove(before)
            own.release()


def journals(folder: Path) -> list[Path]:
    """Return the folders of journals in a folder, or the folder itself, the oldest run first."""
    found = [path.parent for path in [*folder.glob(HEADER), *folder.glob(f"*/{HEADER}")]]
    headers = {path: header for path in found if (header := _header(path))}
    return sorted(headers, key=lambda path: headers[path]["start_time"])


def _header(folder):
    """Return the header of a journal, or None where another process has just removed it."""
    with suppress(OSError, json.JSONDecodeError):
        return json.loads((folder / HEADER).read_text(encoding="utf-8"))
    return None


def _locked(folder):
    """Return the lock of a journal, or None where another process or run has it."""
    own = FileLock(folder / "lock", timeout=0, thread_local=False)
    try:
        own.acquire()
    except Timeout:
        return None
    return own


def _remove(folder):
    """Remove a journal's folder, and the folder of all where it was the last."""
    shutil.rmtree(folder / "artifacts", ignore_errors=True)
    with suppress(OSError):
        for name in (RECORDS, "lock", HEADER):  # by the last one it is found, should this be killed
            (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # it holds those of others
        folder.parent.rmdir()


def _replace(path, text):
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
