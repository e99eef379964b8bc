"""Format numbers, names and error reasons for tables and messages."""

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd

__all__ = [
    "difference_text",
    "interval_text",
    "json_value",
    "number_text",
    "printable",
    "short_reason",
    "shorten",
    "some_names",
]

LINE_WIDTH = 100  # characters of a terminal's line
N_NAMED = 5  # names that a message lists
LONGEST_NOTE, LONGEST_ROW = 1000, 200  # characters
LONGEST_REASON = 300  # characters: parsers quote what they cannot read


def shorten(text, width):
    """Cut a text to a number of characters, the last of them an ellipsis.

    Parameters
    ----------
    text : str
        Any text.
    width : int
        Maximum number of characters, the ellipsis included.

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
    r"""Escape the control characters of a text, as Python's repr does.

    A terminal would obey them: names of files come from outside.

    Parameters
    ----------
    text : str or path
        Any text, such as the name of a folder.
    keep : str, default=""
        Characters that are not escaped, such as line breaks.

    Returns
    -------
    str
        The text itself if there is nothing to escape.

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
    """Return a number with three decimals, as journals print it: .705, 1.000, 10.500, n/a."""
    if pd.isna(value):
        return "n/a"
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:z.3f}")  # z: no negative zero


def interval_text(value, low, high):
    """Return a number and its interval, as journals print them.

    Parameters
    ----------
    value, low, high : float
        The number and the ends of its interval; NaN if undefined.

    Returns
    -------
    str
        "n/a" for NaN. An interval of zero width, as when all studies agree, is named instead of
        printed: it does not mean certainty.

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


def difference_text(value, low, high):
    """Return a difference with its sign and its interval.

    Parameters
    ----------
    value, low, high : float
        The difference and the ends of its interval; NaN if undefined.

    Returns
    -------
    str
        "n/a" for NaN.

    Examples
    --------
    >>> difference_text(-0.0421, -0.1, 0.016), difference_text(0.5, float("nan"), float("nan"))
    ('-.042 (-.100, +.016)', '+.500 (n/a)')
    """
    if pd.isna(value):
        return "n/a"
    texts = [f"{number:+z.3f}".replace("0.", ".", 1) for number in (value, low, high)]
    return f"{texts[0]} (n/a)" if pd.isna(low) else f"{texts[0]} ({texts[1]}, {texts[2]})"


def some_names(names: Iterable[Any], n_named: int = N_NAMED, width: int = LONGEST_ROW) -> str:
    """Return the first names for a message, and "..." if there are more.

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


def short_reason(error: object) -> str:
    """Return the text of an error for use in another message: printable, not too long."""
    return shorten(printable(error), LONGEST_REASON)


def json_value(value: Any) -> Any:
    """Return a value that JSON can represent: Python's number of a NumPy one, else a text.

    Examples
    --------
    >>> import json
    >>> import numpy as np
    >>> json.dumps({"loss": np.float32(0.5), "path": {1}}, default=json_value)
    '{"loss": 0.5, "path": "{1}"}'
    """
    return value.item() if hasattr(value, "item") else str(value)
