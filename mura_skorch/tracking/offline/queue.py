"""Send the records of one run in a background thread."""

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mura_skorch.tracking.offline.connection import is_client_error, retry
from mura_skorch.tracking.offline.send_records import batch, find_or_create_run, send_records
from mura_skorch.tracking.offline.spool import Record, Spool, SpoolFile

__all__ = ["SendQueue", "pause_after"]

LONGEST_PAUSE = 60  # seconds between two attempts
_creating = threading.Lock()  # a run with two spools, after a full disk, is created once


def pause_after(n_failed: int) -> float:
    """Return how many seconds to wait after so many failed attempts in a row."""
    return min(LONGEST_PAUSE, 2.0 ** (n_failed - 1)) * random.Random().uniform(0.7, 1.3)


class SendQueue:
    """What is still to be sent of one run.

    Parameters
    ----------
    spool : Spool
        Closed with the queue.
    uri : str
        The tracking URI.

    Attributes
    ----------
    error : Exception or None
        Why the last attempt failed.
    n_failed : int
        Attempts that failed in a row.
    rejection : Exception or None
        Why the server did not accept a record.
    """

    def __init__(self, spool: Spool, uri: str) -> None:
        self.spool = spool
        self.uri = uri
        self.error: Exception | None = None
        self.rejection: Exception | None = None
        self.n_failed = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_closed = self._is_urgent = False
        self._n_started = self._last_failed = 0
        self._moved_at = time.monotonic()

    @property
    def run_id(self) -> str | None:
        """Id of the run, once it was created."""
        return self.spool.header["run_id"]

    def put(self, record: Record, source: Path | None = None) -> None:
        """Write a record to the spool, with copies of its files, and have it sent.

        Raises
        ------
        OSError
            The disk is full, for instance.
        """
        self.spool.append(record, source)
        self.start()

    def start(self) -> None:
        """Send in the background what there is."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                with suppress(RuntimeError):  # no thread can be made: the spool has everything
                    self._thread.start()
            self._changed.notify_all()

    def wait(self, seconds: float, is_done: Callable[[], bool]) -> bool:
        """Wait until something is done, an attempt fails, or nothing moves for some seconds."""
        self.start()
        with self._changed:
            start, n_started = time.monotonic(), self._n_started
            self._is_urgent = True
            self._changed.notify_all()
            while not is_done() and self._last_failed <= n_started:
                left = max(start, self._moved_at) + seconds - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return is_done()

    def flush(self, seconds: float) -> bool:
        """Wait until all is sent; return whether it is."""
        return self.wait(seconds, lambda: bool(self.run_id) and self.spool.is_empty)

    def close(self) -> None:
        """Send nothing more; leave the spool to whoever sends it later."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is None or not thread.is_alive():
            self.spool.close()
        else:  # the thread closes it; a request to a server that hangs is not waited for
            thread.join(1)

    def _work(self):
        while True:
            with self._changed:
                self._n_started += 1
                self._is_urgent = False
            error = None
            try:
                self._attempt()
            except Exception as failure:
                error = failure
            with self._changed:
                self.error = error
                self.n_failed = self.n_failed + 1 if error else 0
                if error:
                    self._last_failed = self._n_started
                self._changed.notify_all()
                if error:
                    pause = pause_after(self.n_failed)
                    self._changed.wait_for(lambda: self._is_urgent or self._is_closed, pause)
                elif self.spool.is_empty and not self._is_closed:
                    self._changed.wait()
                if self._is_closed:
                    self.spool.close()
                    return

    def _attempt(self):
        """Send everything; raise what prevents it. Files wait until all numbers are sent."""
        client = retry(self._client, self.uri)
        with _creating:
            if self.run_id is None:
                self.spool.header["run_id"] = find_or_create_run(client, self.spool.header)
                with suppress(OSError):  # else the run is found by its key
                    self.spool.write_header()
                self._moved()
        for part in (self.spool.records, self.spool.files):
            while (pending := part.pending()) and not self._is_closed:
                self._send(client, part, pending[: batch([record for record, _ in pending])])

    def _client(self):
        import mlflow

        return mlflow.MlflowClient(self.uri)

    def _send(self, client: Any, part: SpoolFile, items: list[tuple[Record, int]]) -> None:
        records = [record for record, _ in items]
        folder = self.spool.artifacts_of(records[0])
        try:
            send_records(client, self.spool.header["run_id"], records, folder, self._moved)
        except Exception as error:
            if not is_client_error(error):
                raise
            if len(items) > 1:
                for item in items:
                    self._send(client, part, [item])
                return
            self.spool.reject(records[0])
            self.rejection = error
        part.mark_sent(items[-1][1])
        self._moved()

    def _moved(self):
        with self._changed:
            self._moved_at = time.monotonic()
            self._changed.notify_all()
