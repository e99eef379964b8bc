"""Read CSV files in any common encoding, and detect their delimiter."""

import codecs
import csv
import os
from collections.abc import Callable

from mura_skorch.utils.remote import open_file

__all__ = ["DELIMITERS", "delimiter_of", "read_text"]

DELIMITERS = (",", ";", "\t")  # Excel writes the second in locales with a decimal comma
# Longest first: the little-endian mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_text(file: str | os.PathLike[str]) -> str:
    """Return the text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    Parameters
    ----------
    file : path or address

    Returns
    -------
    str
        The text without the mark.

    Raises
    ------
    OSError
        The file cannot be opened.
    UnicodeError
        The file has another encoding.
    """
    with open_file(file) as opened:
        data = opened.read()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    return data.decode(encoding)


def delimiter_of(text: str, is_wanted: Callable[[list[str]], bool]) -> str:
    r"""Return the delimiter of a CSV table.

    Parameters
    ----------
    text : str
        The text of a CSV file.
    is_wanted : callable
        Called with the fields of the first line that is not blank; returns whether they are the
        expected header.

    Returns
    -------
    {",", ";", "\t"}
        The first delimiter that gives the expected header, or else the one with most fields.

    Examples
    --------
    >>> delimiter_of("study;label\na,b;1\n", lambda fields: "label" in fields)
    ';'
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = {sign: next(csv.reader([first], delimiter=sign), []) for sign in DELIMITERS}
    wanted = [sign for sign in DELIMITERS if is_wanted(rows[sign])]
    return wanted[0] if wanted else max(DELIMITERS, key=lambda sign: len(rows[sign]))
