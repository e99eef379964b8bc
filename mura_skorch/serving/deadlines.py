"""Stop computing an answer when no client waits for it any more.

A thread cannot be stopped from outside. The code that computes therefore calls `check_deadline`
between images and between parts of a batch.
"""

import math
import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

__all__ = ["DEADLINE", "Deadline", "DeadlineError", "check_deadline", "result_in_time"]


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


def result_in_time(task: Future[Any]) -> Any:
    """Return the result of a task; wait no longer than the deadline for it to begin.

    Parameters
    ----------
    task : Future
        It checks the deadline itself.

    Raises
    ------
    DeadlineError
    """
    try:
        return task.result(timeout=min(_seconds_left(), threading.TIMEOUT_MAX))
    except TimeoutError:
        if task.cancel():
            raise DeadlineError("expected a free core in time, got none; try again later") from None
        return task.result()  # soon, since the deadline has passed


def _seconds_left():
    deadline = DEADLINE.get()
    return math.inf if deadline is None else deadline.seconds_left
