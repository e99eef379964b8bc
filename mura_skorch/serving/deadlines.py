"""Waiting: time and connection of a request go in; whether its answer is waited for comes out.

MLflow answers 504 when its time is over, but a thread cannot be stopped from outside: what computes
asks here, between images and between parts of a batch, whether to go on.
"""

import math
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["WAITING", "GivenUpError", "Waiting", "check_waiting", "held"]


class GivenUpError(Exception):
    """Nobody waits for the answer of this request any more."""


class Waiting:
    """One client that waits.

    Parameters
    ----------
    seconds : float
        How long it waits from now on.

    Attributes
    ----------
    is_gone : bool
        It has hung up, or has an answer.
    """

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.is_gone = False

    @property
    def seconds(self) -> float:
        """What is left of the time, 0 when the client is gone."""
        return 0.0 if self.is_gone else max(self.end - time.monotonic(), 0.0)


# Of the request at hand: `asyncio.to_thread` takes it along. A call from Python waits for ever.
WAITING: ContextVar[Waiting] = ContextVar("WAITING", default=Waiting(math.inf))  # noqa: B039


def check_waiting() -> None:
    """Give up the request at hand if nobody waits for its answer any more.

    Raises
    ------
    GivenUpError
    """
    if not WAITING.get().seconds:
        raise GivenUpError("expected an answer in time, got none: ask for fewer studies at once")


@contextmanager
def held(lock):
    """Hold a lock or semaphore, once it is free, for as long as the answer is waited for."""
    if not lock.acquire(timeout=min(WAITING.get().seconds, threading.TIMEOUT_MAX)):
        check_waiting()
        raise GivenUpError("expected a free core in time, got none: ask again later")
    try:
        check_waiting()
        yield
    finally:
        lock.release()
