"""Outbox: records of a run go in and are on disk at once; a thread sends them, in order."""

import os
import random
import threading
import time
from contextlib import suppress

from mura_skorch.tracking.offline.records import Record
from mura_skorch.tracking.offline.replay import deliver, make_run, together
from mura_skorch.tracking.offline.spool import Journal
from mura_skorch.tracking.offline.timeouts import N_TRIES, SENDING, impatience, is_refusal, reach

__all__ = ["Outbox"]

LONGEST_PAUSE = 60  # seconds between two attempts
_failures: dict[str | None, int] = {}  # in a row, of each tracking URI: runs learn from each other


class Outbox:
    """What is still to be sent of one run.

    A thread works while there is something to send, so that none is left over for those who fork.
    It tries again, after longer and longer pauses, until the process ends. What the server refuses
    it keeps and passes over; while files fail, numbers are still sent.

    Parameters
    ----------
    journal : Journal
        Holds what is not sent.

    Attributes
    ----------
    problem : Exception or None
        The last refusal, or why several attempts in a row have failed.
    last_error : Exception or None
        Why the last attempt that failed did.
    is_behind : bool
        Whether somebody has waited in vain, and not all is sent since.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.problem: Exception | None = None
        self.last_error: Exception | None = None
        self.is_behind = False
        self._begin()

    def _begin(self):
        self._process = os.getpid()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._n_begun = self._n_ended = self._n_failed = 0
        self._moved_at = time.monotonic()
        self._hurry = self._is_closed = False

    def _begin_anew_in_a_fork(self):
        if self._process != os.getpid():
            self._of_parent = self.journal  # which sends what waits, and holds the lock
            self.journal = Journal(dict(self.journal.header))
            self._begin()

    @property
    def waiting(self) -> list[Record]:
        """What is to be sent, the oldest first."""
        return [record for record in self.journal.records if not record.refused]

    def put(self, record: Record, files: str | os.PathLike[str] | None = None) -> None:
        """Keep a record, with copies of its files, until it is sent; start sending."""
        self._begin_anew_in_a_fork()
        self.journal.add(record, files)
        with self._changed:
            self._is_closed = False
            self._start()

    def flush(self, patience: float, *, give_up: bool = True) -> bool:
        """Wait until all is sent; return whether it is.

        Parameters
        ----------
        patience : float
            Seconds to wait while nothing moves.
        give_up : bool, default=True
            Do not wait for a server that several attempts have not reached, of this or any other
            run; it is tried once more.
        """
        self._begin_anew_in_a_fork()
        begin, n_begun = time.monotonic(), self._n_begun
        with self._changed:
            while self.waiting:
                self._start()
                is_away = self._n_failed >= N_TRIES or self._is_known_to_be_away()
                if give_up and is_away and self._n_ended > n_begun:
                    break
                self._hurry = is_away
                self._changed.notify_all()
                left = max(begin, self._moved_at) + patience - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self.is_behind = bool(self.waiting)
            return not self.is_behind

    def close(self) -> None:
        """Send no more; what is left may be sent by others."""
        self._begin_anew_in_a_fork()
        with self._changed:
            self._is_closed = self._hurry = True
            self._changed.notify_all()
            if self._thread is None:
                self.journal.let_go()

    def _is_known_to_be_away(self):
        return any(_failures.get(record.uri, 0) >= N_TRIES for record in self.waiting)

    def _start(self):
        if self.waiting and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._work, name="mura_outbox", daemon=True)
            with suppress(RuntimeError):  # no room for a thread: the journal has it
                self._thread.start()

    def _work(self):
        """Send until nothing is left."""
        while True:
            self._n_begun += 1
            error = self._round()
            with self._changed:
                self._n_ended += 1
                self._n_failed = self._n_failed + 1 if error is not None else 0
                self.last_error = error or self.last_error
                if self._n_failed >= N_TRIES:
                    self.problem = error
                self.is_behind &= bool(self.waiting)
                if not self.journal.records:
                    self.problem = None
                self._changed.notify_all()
                if self._is_closed or not self.waiting:
                    self._thread = None
                    if self._is_closed:
                        self.journal.let_go()
                    return
                if error is not None:
                    pause = min(LONGEST_PAUSE, 2 ** (self._n_failed - 1))
                    pause *= random.Random().uniform(0.7, 1.3)  # apart from the global state
                    self._changed.wait_for(lambda: self._hurry, pause)
                    self._hurry = False

    def _round(self):
        """Try to send each record once; return the last failure, or None."""
        failure, failed = None, set()
        waiting = self.waiting
        while waiting:
            chosen = together(waiting)
            waiting = waiting[len(chosen) :]
            way = (chosen[0].uri, "artifacts" in chosen[0].content)
            if way in failed:
                continue
            error = self._attempt(chosen)
            if error is not None and len(chosen) > 1 and is_refusal(error):
                error = next(filter(None, map(self._attempt, ([one] for one in chosen))), None)
            if error is not None and not (is_refusal(error) and self.journal.header["run_id"]):
                failure = error
                failed.add(way)
                if self.journal.header["run_id"] is None:
                    break
        return failure

    def _attempt(self, records):
        """Send the records in one request; return why that failed, or None."""
        uri = records[0].uri
        try:
            self._send(records)
        except LookupError as error:  # for its parent, not for the server
            return error
        except Exception as error:  # any failure of the bookkeeping spares the training
            if not is_refusal(error):
                _failures[uri] = _failures.get(uri, 0) + 1
            elif self.journal.header["run_id"]:
                self.problem = error
                records[0].refused = len(records) == 1
            return error
        _failures.pop(uri, None)
        return None

    def _send(self, records):
        import mlflow

        reach(records[0].uri or mlflow.get_tracking_uri())
        client = mlflow.MlflowClient(records[0].uri)
        if self.journal.header["run_id"] is None:
            with impatience(SENDING, retries=0):
                self.journal.name_run(make_run(client, self.journal.header))
            self._move()
        # What is kept alive between requests may have gone: MLflow's own second try mends that.
        with impatience(SENDING, retries=1):
            deliver(client, self.journal, records, self._move)
        self.journal.remove(records)

    def _move(self):
        with self._changed:
            self._moved_at = time.monotonic()
            self._changed.notify_all()
