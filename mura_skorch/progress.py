"""Progress: a function and items go in, results come out in order while a bar shows how many."""

import sys
from concurrent.futures import ThreadPoolExecutor

from tqdm import tqdm

__all__ = ["map_in_threads"]


def map_in_threads(function, items, *, desc, unit):
    """Return what a function makes of each item, computed in threads.

    For work that releases Python's lock, as reading, decoding and drawing of pictures does. The
    bar is shown in terminals only. After an error or Ctrl-C nothing further is started.

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
    with ThreadPoolExecutor() as pool:
        try:
            found = pool.map(function, items)
            bar = {"total": len(items), "desc": desc, "unit": unit}
            return list(tqdm(found, **bar, file=sys.stderr, disable=None))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
