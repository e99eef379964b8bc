"""Interruptions: Ctrl-C or SIGTERM comes in, an exception where it loses nothing comes out."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["Interruptions"]

SIGTERM_EXIT = 128 + signal.SIGTERM  # 143, what shells and clusters expect


class Interruptions:
    """Turn signals into exceptions, and hold the first one back while an epoch is recorded.

    Ctrl-C becomes KeyboardInterrupt, SIGTERM, with which clusters announce that they take a
    machine back, SystemExit with code 143. The second signal is never held back. Handlers that
    somebody else has set, and those of other threads than the main one, stay as they are.

    Examples
    --------
    >>> interruptions = Interruptions()
    >>> with interruptions.raised():
    ...     with interruptions.held_back():
    ...         signal.raise_signal(signal.SIGTERM)
    ...         print("recorded")
    Traceback (most recent call last):
    ...
    SystemExit: 143
    """

    def __init__(self) -> None:
        self._n_signals = 0
        self._is_holding = False
        self._held: int | None = None

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise an exception for each signal while the block runs."""
        self._n_signals, self._held = 0, None
        replaced: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
            replaced = {n: handler for n, handler in handlers.items() if _is_usual(handler)}
        for number in replaced:
            signal.signal(number, self._take)
        try:
            yield
        finally:
            for number, handler in replaced.items():
                signal.signal(number, handler)

    @contextmanager
    def held_back(self) -> Iterator[None]:
        """Raise what comes while the block runs at its end."""
        self._is_holding = True
        try:
            yield
        finally:
            self._is_holding = False
        if self._held is not None:
            held, self._held = self._held, None
            raise _exception(held)

    def _take(self, number, frame):
        self._n_signals += 1
        if self._is_holding and self._n_signals == 1:
            self._held = number
        else:
            raise _exception(number)


def _is_usual(handler):
    """Return whether nobody but, further out, one of these objects handles a signal."""
    is_ours = isinstance(getattr(handler, "__self__", None), Interruptions)
    return is_ours or handler in (signal.default_int_handler, signal.SIG_DFL)


def _exception(number):
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(SIGTERM_EXIT)
