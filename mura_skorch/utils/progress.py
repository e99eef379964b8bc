"""Progress: a function and items go in, results come out in order while a bar shows how many.

A bar is drawn where somebody looks at it: in a terminal or a notebook. Into a pipe or a log file go
no control characters; what takes minutes says there how far it is, in plain lines of `logging`.
"""

import logging
import sys
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from tqdm import tqdm

__all__ = ["ProgressLines", "in_notebook", "in_terminal", "map_in_threads", "progress_bar"]

PACE = 60.0  # seconds between two lines

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def map_in_threads(
    function: Callable[[Item], Result], items: Collection[Item], *, desc: str, unit: str
) -> list[Result]:
    """Return what a function makes of each item, computed in threads.

    For work that releases Python's lock, as reading, decoding and drawing of pictures does. After
    an error or Ctrl-C nothing further is started.

    Parameters
    ----------
    function : callable
        Of one item.
    items : sized iterable
        What it is called with.
    desc, unit : str
        What the bar counts.

    Returns
    -------
    list
        The results, in the order of the items.

    Examples
    --------
    >>> map_in_threads(abs, [-1, 2], desc="numbers", unit="number")
    [1, 2]
    """
    found = []
    with ThreadPoolExecutor() as pool, progress_bar(len(items), desc=desc, unit=unit) as bar:
        try:
            for result in pool.map(function, items):
                found.append(result)
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def progress_bar(total: int, *, desc: str, unit: str, leave: bool = True) -> Any:
    """Return what shows progress here: a bar, or lines where a bar would be rubbish.

    Parameters
    ----------
    total : int
        How many there are.
    desc, unit : str
        What is counted.
    leave : bool, default=True
        Whether the bar stays when it is closed.

    Returns
    -------
    tqdm or ProgressLines
        Has ``update(n=1)``, ``set_postfix(...)`` and ``close()``, and is a context manager. In a
        notebook it is a widget where ipywidgets is installed, else a line of text in the cell's
        output; in a terminal it is tqdm's bar on stderr.
    """
    options: dict[str, Any] = {"total": total, "desc": desc, "unit": unit, "leave": leave}
    if in_notebook():
        from tqdm import notebook

        # Without ipywidgets, tqdm's widget raises and tqdm.auto warns.
        if notebook.IProgress is not None:
            return notebook.tqdm(**options)
        # stderr would stand on red ground; and each change of the text is a message to the browser.
        return tqdm(**options, file=sys.stdout, mininterval=0.5)
    if in_terminal():
        return tqdm(**options, file=sys.stderr)
    return ProgressLines(total, desc=desc)


def in_terminal() -> bool:
    """Return whether somebody sees stderr as it is written."""
    return sys.stderr is not None and sys.stderr.isatty()


def in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook."""
    kernel, shell = (sys.modules.get(name) for name in ("ipykernel.zmqshell", "IPython"))
    if kernel is None or shell is None:
        return False
    return isinstance(shell.get_ipython(), kernel.ZMQInteractiveShell)


class ProgressLines:
    """A bar's stand-in for pipes and log files: a line a minute, through `logging`, level INFO.

    Parameters
    ----------
    total : int
        How many there are.
    desc : str
        What is counted.
    """

    def __init__(self, total: int, *, desc: str) -> None:
        self.total = total
        self.desc = desc
        self.n = 0
        self.started = self.told = time.monotonic()

    def update(self, n: int = 1) -> None:
        """Count, and say how far it is when a minute has passed."""
        self.n += n
        now = time.monotonic()
        if now - self.told >= PACE:
            self.told = now
            minutes = (now - self.started) / 60
            _log.info(
                "%s: %s of %s, %.0f min", self.desc, f"{self.n:,}", f"{self.total:,}", minutes
            )

    def set_postfix(self, *args: Any, **kwargs: Any) -> None:
        """Take what a bar shows behind itself, and leave it out."""

    def close(self) -> None:
        """Do nothing: a line needs no end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
