"""CSV files: a file in any usual encoding goes in, its text and its delimiter come out."""

import codecs
import csv
import os
from collections.abc import Callable

__all__ = ["DELIMITERS", "delimiter_of", "read_text"]

DELIMITERS = (",", ";", "\t")  # the second is Excel's where numbers have a decimal comma
# The longest first: UTF-32's little-endian mark begins like UTF-16's.
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
    file : path

    Returns
    -------
    str
        Without the mark.

    Raises
    ------
    OSError
        The file cannot be opened.
    UnicodeError
        It is in another encoding.
    """
    with open(file, "rb") as opened:
        data = opened.read()
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8-sig")
    return data.decode(encoding)


def delimiter_of(text: str, is_wanted: Callable[[list[str]], bool]) -> str:
    r"""Return what separates the fields of a table.

    Parameters
    ----------
    text : str
        The text of a CSV file.
    is_wanted : callable
        Gets the fields of the first line that is not blank, and says whether they are what the
        table should begin with.

    Returns
    -------
    {",", ";", "\t"}
        The first that gives wanted fields. Where none does, the one that gives most fields.

    Examples
    --------
    >>> delimiter_of("study;label\na,b;1\n", lambda fields: "label" in fields)
    ';'
    """
    first = next((line for line in text.splitlines() if line.strip()), "")
    rows = {sign: next(csv.reader([first], delimiter=sign), []) for sign in DELIMITERS}
    wanted = [sign for sign in DELIMITERS if is_wanted(rows[sign])]
    return wanted[0] if wanted else max(DELIMITERS, key=lambda sign: len(rows[sign]))
