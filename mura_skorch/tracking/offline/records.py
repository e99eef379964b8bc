"""Records: what one call logs goes in, lines of a journal come out, and back."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

__all__ = ["Record", "is_dated", "lines_of", "read_records"]

DATED = ("metrics", "status")  # what MLflow stores with the time of the event


@dataclass(eq=False)
class Record:
    """What one call logs.

    Parameters
    ----------
    content : dict
        Its line in a journal.
    time : int
        Of the event, in ms since 1970.
    uri : str or None
        The tracking URI it is to go to. None: where MLflow logs to.
    refused : bool
        Whether the server does not take it.
    source : Path or None
        Where its files lie when no folder takes copies of them.
    """

    content: dict[str, Any]
    time: int
    uri: str | None = None
    refused: bool = False
    source: Path | None = None

    @property
    def paths(self):
        """The files of the record, below the folder of artifacts."""
        below = PurePosixPath(self.content.get("artifacts", ""))
        return [below / file for file in self.content.get("files", [])]


def lines_of(records, last_time=None):
    """Give the lines of records."""
    for record in records:
        if is_dated(record) and record.time != last_time:
            last_time = record.time
            yield json.dumps({"time": last_time}) + "\n"
        yield json.dumps(record.content) + "\n"


def is_dated(record):
    """Return whether MLflow stores the time of the record."""
    return any(name in record.content for name in DATED)


def read_records(path):
    """Return the records of a journal; of a line cut short by a full disk, nothing."""
    last_time, records = int(time.time() * 1000), []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):
            content = json.loads(line)
            if content.keys() == {"time"}:
                last_time = content["time"]
            else:
                records.append(Record(content, last_time))
    return records
