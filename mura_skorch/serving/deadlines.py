"""Stop computing an answer when no client waits for it any more.

A thread cannot be stopped from outside. The code that computes therefore calls `check_deadline`
between images and between parts of a batch.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["DEADLINE", "Deadline", "DeadlineError", "acquired_in_time", "check_deadline"]


class DeadlineError(Exception):
    """The deadline of a request has passed, or its client has disconnected."""


class Deadline:
    """The time until which a client waits for its answer.

    Parameters
    ----------
    seconds : float
        Counted from now.

    Attributes
    ----------
    is_cancelled : bool
        The client has disconnected or has got an answer.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.is_cancelled = False

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline, 0 when cancelled."""
        return 0.0 if self.is_cancelled else max(self.end - time.monotonic(), 0.0)


# The deadline of the current request; `asyncio.to_thread` copies it into the thread. None, as in a
# call from Python, means no limit.
DEADLINE: ContextVar[Deadline | None] = ContextVar("DEADLINE", default=None)


def check_deadline() -> None:
    """Stop the current request if its deadline has passed.

    Raises
    ------
    DeadlineError
    """
    if not _seconds_left():
        raise DeadlineError("expected an answer in time, got none; send fewer studies at once")


@contextmanager
def acquired_in_time(lock: "threading.Lock | threading.Semaphore") -> Iterator[None]:
    """Hold a lock or semaphore; wait for it no longer than the deadline.

    Raises
    ------
    DeadlineError
    """
    if not lock.acquire(timeout=min(_seconds_left(), threading.TIMEOUT_MAX)):
        raise DeadlineError("expected a free core in time, got none; try again later")
    try:
        check_deadline()
        yield
    finally:
        lock.release()


def _seconds_left():
    deadline = DEADLINE.get()
    return math.inf if deadline is None else deadline.seconds_left
