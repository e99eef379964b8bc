"""Show the progress of long work: a tqdm bar on screens, plain log lines elsewhere."""

import io
import logging
import sys
import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from tqdm import tqdm

__all__ = ["LogLines", "in_notebook", "map_in_threads", "progress_bar"]

PACE = 60.0  # seconds between two log lines
N_TASKS = 1024  # each task costs memory and time, so a million views are not a million tasks

Item = TypeVar("Item")
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


def map_in_threads(
    function: Callable[[Item], Result],
    items: Collection[Item],
    *,
    n_threads: int | None = None,
    chunksize: int = 1,
    **options: Any,
) -> list[Result]:
    """Return the results of a function for all items, computed in threads, with a progress bar.

    For work that releases the GIL, such as reading, decoding and drawing images. After an error or
    Ctrl-C no further call starts.

    Parameters
    ----------
    function : callable
        Takes one item.
    items : sized iterable
        Its arguments.
    n_threads : int or None, default=None
        None is the default of `concurrent.futures.ThreadPoolExecutor`.
    chunksize : int, default=1
        Smallest number of items that a thread takes at a time; more for calls of microseconds.
    **options
        As of `progress_bar`: ``desc`` and ``unit``, for example.

    Examples
    --------
    >>> map_in_threads(abs, [-1, 2], desc="numbers", unit="number")
    [1, 2]
    """
    # tqdm's thread_map makes a task of every item, and importing it warns in notebooks that lack
    # ipywidgets.
    items = list(items)
    size = max(chunksize, len(items) // N_TASKS)
    tasks = [items[start : start + size] for start in range(0, len(items), size)]
    is_stopped = threading.Event()

    def run(task: list[Item]) -> list[Result]:
        return [function(item) for item in task if not is_stopped.is_set()]

    results: list[Result] = []
    with ThreadPoolExecutor(n_threads) as pool, progress_bar(len(items), **options) as bar:
        try:
            for found in pool.map(run, tasks):
                results += found
                bar.update(len(found))
        except BaseException:
            is_stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
    return results


def progress_bar(total: int, **options: Any) -> tqdm:
    """Return the progress bar for the place where the code runs.

    Parameters
    ----------
    total : int
        Number of steps.
    **options
        As of `tqdm`: ``desc``, ``unit``, ``leave``, ``delay``.

    Returns
    -------
    tqdm
        In a notebook, a widget if ipywidgets is installed, else text in the cell's output. In a
        terminal, a bar on stderr. Elsewhere, `LogLines`.
    """
    if in_notebook():
        from tqdm import notebook

        # Without ipywidgets tqdm's widget raises, and tqdm.auto warns.
        if notebook.IProgress is not None:
            return notebook.tqdm(total=total, **options)
        # Notebooks show stderr on red, and each change of the text is a message to the browser.
        return tqdm(total=total, file=sys.stdout, mininterval=0.5, **options)
    if sys.stderr is not None and sys.stderr.isatty():
        return tqdm(total=total, file=sys.stderr, **options)
    return LogLines(total=total, **options)


def in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook."""
    kernel, shell = (sys.modules.get(name) for name in ("ipykernel.zmqshell", "IPython"))
    if kernel is None or shell is None:
        return False
    return isinstance(shell.get_ipython(), kernel.ZMQInteractiveShell)


class LogLines(tqdm):
    """A tqdm for pipes and log files: one plain line a minute, at level INFO, instead of a bar."""

    monitor_interval = 0  # no thread that redraws bars

    def __init__(self, **options: Any) -> None:
        fixed = {"file": io.StringIO(), "leave": False, "miniters": 1}
        super().__init__(**options | fixed | {"mininterval": PACE, "delay": PACE})

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Log how far the work is; tqdm calls this to draw, and with a text to clear."""
        if msg is None:
            minutes = self.format_dict["elapsed"] / 60
            _log.info(
                "%s: %s of %s, %.0f min", self.desc, f"{self.n:,}", f"{self.total:,}", minutes
            )


# tqdm's own lock is shared between processes, too, which starts a tracker process on some systems.
LogLines.set_lock(threading.RLock())
