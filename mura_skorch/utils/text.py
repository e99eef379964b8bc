"""Texts: numbers go in, what tables and figures print of them comes out."""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

__all__ = ["interval_text", "number_text", "printable", "shorten", "some_names"]

LINE_WIDTH = 100  # characters a terminal is taken to have
N_NAMED = 5  # how many names a message lists
LONGEST_NOTE, LONGEST_ROW = 1000, 200  # characters


def shorten(text, width):
    """Text cut to a number of characters, with an ellipsis for what is gone.

    Parameters
    ----------
    text : str
        Any text.
    width : int
        Most characters to keep, the ellipsis included.

    Returns
    -------
    str
        The text itself if it fits.

    Examples
    --------
    >>> from mura_skorch.utils.text import shorten
    >>> shorten("XR_METACARPOPHALANGEAL", 10)
    'XR_METACA…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def printable(text, keep=""):
    r"""Text without characters that a terminal obeys: each stands as Python writes it.

    Parameters
    ----------
    text : str or path
        Any text, such as the name of a folder.
    keep : str, default=""
        Characters to leave as they are, such as line breaks.

    Returns
    -------
    str
        The text itself if all of it can be printed.

    Examples
    --------
    >>> printable("XR_HAND\x1b[2J")
    'XR_HAND\\x1b[2J'
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )


def number_text(value: float) -> str:
    """Return a figure with three decimals, as journals print it: .705, 1.000, 10.500, n/a."""
    if pd.isna(value):
        return "n/a"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:z.3f}")  # z: no negative zero


def interval_text(value, low, high):
    """Return a figure and its interval, as journals print them.

    Parameters
    ----------
    value, low, high : float
        The figure and the ends of its interval; NaN where undefined.

    Returns
    -------
    str
        "n/a" without a figure. An interval without width, as where all agree or all are called
        alike, is named and not printed: it is no certainty.

    Examples
    --------
    >>> interval_text(0.705, 0.608, 0.803), interval_text(1.0, 1.0, 1.0)
    ('.705 (.608, .803)', '1.000 (zero width)')
    """
    if pd.isna(value):
        return "n/a"
    if pd.isna(low) or pd.isna(high):
        return f"{number_text(value)} (n/a)"
    if low == high:
        return f"{number_text(value)} (zero width)"
    return f"{number_text(value)} ({number_text(low)}, {number_text(high)})"


def some_names(names: Iterable[Any], n_named: int = N_NAMED, width: int = LONGEST_ROW) -> str:
    """Return the first names as a text for a message, and "..." for more.

    Parameters
    ----------
    names : iterable
        Anything that ``str`` turns into a name.
    n_named : int, default=5
        How many are named.
    width : int, default=200
        Characters at which a name is cut.

    Examples
    --------
    >>> some_names(["a", "b", "c"], n_named=2)
    'a, b, ...'
    """
    names = list(names)
    named = [printable(shorten(str(name), width)) for name in names[:n_named]]
    return ", ".join(named) + (", ..." if len(names) > n_named else "")
