"""Turn Ctrl-C and SIGTERM into exceptions, deferred while something is recorded.

Ctrl-C becomes KeyboardInterrupt. SIGTERM, by which clusters announce that they take a machine back,
becomes SystemExit with code 143. Handlers set by others, and threads other than the main one, are
left alone.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["deferred_signals", "ignore_sigterm", "signals_as_exceptions"]

SIGTERM_EXIT = 128 + signal.SIGTERM  # 143, what shells and clusters expect


class _Handler:
    """Raise an exception for each signal, except for a first one that is deferred."""

    def __init__(self):
        self.n_signals = 0
        self.is_deferring = self.is_deferring_every = False
        self.is_ending = False
        self.deferred = None

    def __call__(self, number, frame):
        self.n_signals += 1
        is_deferred = self.is_deferring and (self.n_signals == 1 or self.is_deferring_every)
        if is_deferred or self.is_ending:
            self.deferred = number
        else:
            raise _exception(number)


# Signal handlers belong to the process: those of fits in the main thread, the innermost last.
_handlers: list[_Handler] = []


@contextmanager
def signals_as_exceptions() -> Iterator[None]:
    """Raise an exception for each signal while the block runs.

    What was deferred until an error had ended the block is raised after it, unless the signal is
    ignored by then.

    Examples
    --------
    >>> with signals_as_exceptions():
    ...     with deferred_signals():
    ...         signal.raise_signal(signal.SIGTERM)
    ...         print("recorded")
    Traceback (most recent call last):
    ...
    SystemExit: 143
    """
    if not _is_main_thread():
        yield
        return
    handler = _Handler()
    before: dict[int, Any] = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    replaced = {number: given for number, given in before.items() if _is_usual(given)}
    for number in replaced:
        signal.signal(number, handler)
    _handlers.append(handler)
    try:
        yield
    finally:
        _handlers.remove(handler)
        ignored = [n for n in replaced if signal.getsignal(n) == signal.SIG_IGN]
        for number, given in replaced.items():
            if number not in ignored:
                signal.signal(number, given)
        if handler.deferred is not None and handler.deferred not in ignored:
            raise _exception(handler.deferred)


@contextmanager
def deferred_signals(*, every: bool = False) -> Iterator[None]:
    """Raise the exception of a first signal only after the block; a second one is not deferred.

    An error of the block ends the fit. Signals from then on are deferred until it has ended, so
    that it ends by this error: another process that fails has torchrun send SIGTERM.

    Parameters
    ----------
    every : bool, default=False
        Whether later ones are deferred, too.
    """
    handler = _handlers[-1] if _handlers and _is_main_thread() else None
    if handler is None:
        yield
        return
    handler.is_deferring, handler.is_deferring_every = True, every
    try:
        yield
    except Exception:
        handler.is_ending = True
        raise
    finally:
        handler.is_deferring = False
    if handler.deferred is not None and not handler.is_ending:
        number, handler.deferred = handler.deferred, None
        raise _exception(number)


def ignore_sigterm() -> None:
    """Ignore SIGTERM from now on, also one that was deferred."""
    if _is_main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _is_main_thread():
    return threading.current_thread() is threading.main_thread()


def _is_usual(handler):
    """Return whether a signal is handled by Python's default or by an outer fit."""
    return isinstance(handler, _Handler) or handler in (signal.default_int_handler, signal.SIG_DFL)


def _exception(number):
    return KeyboardInterrupt() if number == signal.SIGINT else SystemExit(SIGTERM_EXIT)
