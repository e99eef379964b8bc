"""Read the rows of a CSV or parquet file, with the line of each for messages."""

import csv
import io
import os
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.studies.labels import LABEL_FORM, parse_labels, plain_name
from mura_skorch.utils.csv_files import delimiter_of, read_text
from mura_skorch.utils.remote import is_remote, open_file
from mura_skorch.utils.text import printable, short_reason, shorten, some_names

__all__ = ["SUFFIXES", "TableFile", "cell_text", "with_type"]

SUFFIXES = (".csv", ".parquet")
# At most 15 digits, which a float holds exactly. 007 is a text.
WHOLE = r"[+-]?(?:0|[1-9][0-9]{0,14})"
NUMBER = WHOLE + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"
LONGEST_CELL = 80  # characters of a cell in a message


def cell_text(value: Any) -> str:
    """Return a cell for a message: quoted, printable, not too long."""
    return printable(shorten(repr(value), LONGEST_CELL))


def with_type(column: pd.Series) -> pd.Series:
    """Return a column of texts as numbers or booleans if all texts are.

    Examples
    --------
    >>> with_type(pd.Series(["1", "2.5"])).tolist(), with_type(pd.Series(["007", "1"])).tolist()
    ([1.0, 2.5], ['007', '1'])
    """
    texts = column.dropna()
    if texts.empty:
        return column.astype(float)
    if texts.str.fullmatch(WHOLE).all() and len(texts) == len(column):
        return texts.map(int)
    if texts.str.fullmatch(NUMBER).all():
        return column.map(float, na_action="ignore").astype(float)
    if texts.isin(["True", "False"]).all() and len(texts) == len(column):
        return texts.eq("True")
    return pd.Series(column.tolist(), index=column.index)


class TableFile:
    """A CSV or parquet file of studies or views.

    Parameters
    ----------
    path : path or address

    Attributes
    ----------
    path : str
        Absolute, or the address.
    folder : str
        Where relative paths in the table start.
    shown : str
        The path for messages.
    is_csv : bool
        False for parquet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        remote = is_remote(path)
        self.path = str(path) if remote else os.path.abspath(os.path.expanduser(path))
        self.folder = self.path.rpartition("/")[0] if remote else os.path.dirname(self.path)
        self.shown = printable(self.path)
        self.is_csv = self.path.lower().endswith(".csv")

    def place(self, number: int) -> str:
        """Return the name of a row: "line 2" of a CSV file is what an editor calls so."""
        return f"{'line' if self.is_csv else 'row'} {number}"

    def error(self, number: Any, column: str, expected: str, got: str, remedy: str) -> ValueError:
        """Return the error for a cell of a row, or for all of it if `column` is empty."""
        place = self.place(number) + (column and f", column {column}")
        return ValueError(f"{self.shown}, {place}: expected {expected}, got {got}; {remedy}")

    def read(self, names: tuple[str, ...]) -> pd.DataFrame:
        """Return the rows of the file.

        Parameters
        ----------
        names : tuple of str
            Columns by which the delimiter of a CSV file is found.

        Returns
        -------
        DataFrame
            The index holds the numbers of lines of a CSV file, or of rows of a parquet file, from
            1. Cells of a CSV file are texts, missing where there are only blanks.

        Raises
        ------
        FileNotFoundError
            There is no such file.
        ValueError
            It is damaged, or a line of a CSV file has too many or too few fields.
        """
        try:
            return self._read_csv(names) if self.is_csv else self._read_parquet()
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.shown}: expected a table of studies, got no such file; check the path"
            ) from error

    def check_columns(
        self,
        rows: pd.DataFrame,
        needed: tuple[str, ...],
        remedy: str = "name the columns like this",
    ) -> None:
        """Raise ValueError if a column is missing or occurs twice, or if there is no row."""
        if missing := [name for name in needed if name not in rows]:
            raise ValueError(
                f"{self.shown}: expected the columns {', '.join(needed)}, got "
                f"{some_names(rows, 20) or 'none'}: no {' and no '.join(missing)}; "
                f"{remedy}"
            )
        if twice := sorted(set(rows.columns[rows.columns.duplicated()])):
            raise ValueError(
                f"{self.shown}: expected each column once, got several called {some_names(twice)}; "
                "rename them"
            )
        if rows.empty:
            raise ValueError(f"{self.shown}: expected at least one study, got none; add rows")

    def texts(self, column):
        """Return a column without blanks around its texts; raise if a value is missing."""
        values = column.tolist()
        if column.name != "patient":  # which may be a whole number
            is_missing = column.isna()
            values = [v if gone else str(v) for v, gone in zip(values, is_missing, strict=True)]
        values = [value.strip() if isinstance(value, str) else value for value in values]
        texts = pd.Series(values, index=column.index, name=column.name)
        absent = texts.isna() | texts.eq("")
        if absent.any():
            raise self.error(absent.idxmax(), str(column.name), "a value", "none", "fill it in")
        return texts

    def labels(self, column):
        """Return a column of labels as Int8; raise ValueError if one is invalid."""
        labels, is_wrong = parse_labels(column)
        if is_wrong.any():
            number = is_wrong.idxmax()
            got = cell_text(column[number])
            raise self.error(number, str(column.name), LABEL_FORM, got, "correct it")
        return labels.astype("Int8")

    def _read_csv(self, names):
        header: list[str] = []
        numbers, rows = [], []
        end = 0
        try:
            text = read_text(self.path)
            sign = delimiter_of(text, lambda fields: {*names} <= set(map(plain_name, fields)))
            lines = io.StringIO(text, newline="")
            reader = csv.reader(lines, delimiter=sign, skipinitialspace=True)
            for fields in reader:
                number, end = end + 1, reader.line_num
                if not "".join(fields).strip():
                    continue
                if not header:
                    header = [name.strip() for name in fields]
                    continue
                if not "".join(fields[len(header) :]).strip():
                    fields = fields[: len(header)]  # a spreadsheet's empty columns
                if len(fields) != len(header):
                    raise self.error(
                        number,
                        "",
                        f"{len(header)} fields, as in the header",
                        str(len(fields)),
                        f"put quotes around cells that hold {sign!r}",
                    )
                numbers.append(number)
                rows.append([field if field.strip() else None for field in fields])
        except (csv.Error, UnicodeError) as error:
            raise ValueError(
                f"{self.shown}: expected a CSV file in UTF-8, got {short_reason(error)}; save it "
                "again as one"
            ) from error
        table = pd.DataFrame(rows, columns=header, index=numbers, dtype=object)
        # Columns without a name are the index that pandas writes first, or a spreadsheet's.
        unnamed = np.array([name == "" for name in header], dtype=bool)
        unnamed[1:] &= table.isna().all().to_numpy()[1:]
        return table.loc[:, ~unnamed]

    def _read_parquet(self):
        with open_file(self.path) as opened:
            try:
                table = pd.read_parquet(opened)
                texts: pd.DataFrame = table.select_dtypes("str")
                for _, column in texts.items():
                    column.tolist()  # fails here, or later, if a text is not in UTF-8
            except ImportError:  # of pyarrow
                raise
            except Exception as error:  # pandas and pyarrow have many for a damaged file
                raise ValueError(
                    f"{self.shown}: expected a parquet file, got {short_reason(error)}; write it "
                    "again"
                ) from error
        if table.index.names != [None]:
            table = table.reset_index()
        return table.set_axis(range(1, len(table) + 1)).set_axis(list(map(str, table)), axis=1)
