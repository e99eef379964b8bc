"""Read and write study tables as CSV and parquet files."""

import ast
import json
import os
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.studies.columns import SPLITS
from mura_skorch.studies.labels import LABEL_FORM, parse_labels, with_names
from mura_skorch.studies.read_counts import with_read_counts
from mura_skorch.studies.table_file import SUFFIXES, TableFile, cell_text
from mura_skorch.utils.atomic import write_whole
from mura_skorch.utils.identity import map_files
from mura_skorch.utils.paths import is_unsafe_path
from mura_skorch.utils.remote import is_remote
from mura_skorch.utils.text import printable, some_names

__all__ = ["is_table_file", "read_study_table", "write_studies"]

NEEDED = ("study", "study_type", "patient")
ORDER = ("study", "split", "study_type", "patient", "views", "label")
# What `mura_skorch.exploration.read_image_files` says of each view.
OF_VIEWS = ("view", "format", "mode", "width", "height", "digest", "problem")
VIEWS_FORM = 'paths as a.png;b.png or ["a.png", "b.png"]'
# At most 15 digits, which a float holds exactly. 007 is a text.
WHOLE = r"[+-]?(?:0|[1-9][0-9]{0,14})"
NUMBER = WHOLE + r"(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?"


def is_table_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a path or address is that of a table, by its suffix, and not of a folder."""
    is_named_so = str(path).lower().endswith(SUFFIXES)
    return is_named_so and (is_remote(path) or not os.path.isdir(os.path.expanduser(path)))


def read_study_table(path: str | os.PathLike[str], *, allow_outside: bool = False) -> pd.DataFrame:
    """Read a study table from a CSV or parquet file, as `mura_skorch.read_studies` does.

    Parameters
    ----------
    path : path or address
        A table with a row per study, or with a row per view.
    allow_outside : bool, default=False
        Let a table at an address name files on this machine and addresses with ``..``.

    Returns
    -------
    DataFrame of n_studies rows

    Raises
    ------
    FileNotFoundError
        There is no such table, or an image that it names is missing.
    ValueError
        A column is missing, or a cell is invalid.
    """
    file = TableFile(path)
    rows = with_names(file.read(NEEDED), (*ORDER, "view", "path", "note"))
    _check_columns(file, rows)
    for name in (*NEEDED, "split"):
        if name in rows:
            rows[name] = _texts(file, rows[name])
    if "split" in rows and rows["split"].isna().all():
        del rows["split"]
    _check_splits(file, rows)
    if "label" in rows:
        rows["label"] = _labels(file, rows["label"])
    studies = _per_study(file, rows) if "views" in rows else _grouped(file, rows)
    views = [
        tuple([_full_path(file, path) for path in _checked(file, number, cell, allow_outside)])
        for number, cell in studies["views"].items()
    ]
    _check_files(file, views)
    studies = studies.reset_index(drop=True)
    studies["views"] = np.fromiter(views, dtype=object, count=len(views))
    if "label" not in studies:
        studies["label"] = pd.array([pd.NA] * len(studies), dtype="Int8")
    further = [name for name in studies if name not in ORDER]
    for name in further if file.is_csv else ():
        studies[name] = _with_type(studies[name])
    studies = studies[[name for name in ORDER if name in studies] + further]
    studies.attrs = {}  # those that parquet holds are of the table that was written
    return with_read_counts(studies)


def write_studies(studies: pd.DataFrame, file: str | os.PathLike[str]) -> None:
    """Write a study table to a CSV or parquet file that `read_studies` reads.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table with ``study``, ``study_type``, ``patient`` and ``views``. The index is not
        written.
    file : path
        Ends in ``.csv`` or ``.parquet``. Replaced if it exists.

    Raises
    ------
    ValueError
        The file has another suffix, or the table lacks a column.

    See Also
    --------
    mura_skorch.read_studies : Reads it back.

    Notes
    -----
    Paths become absolute; addresses stay as they are. A CSV file holds the views of a study as a
    JSON list. It stores no types: patients become texts, and texts such as "7" in further columns
    become numbers. Parquet keeps them.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from mura_skorch import read_studies
    >>> row = {"study": "s1", "study_type": "XR_HAND", "patient": "007", "label": 1}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, "a.png").touch()
    ...     studies = pd.DataFrame([row | {"views": (f"{folder}/a.png",)}])
    ...     write_studies(studies, f"{folder}/studies.csv")
    ...     read_studies(f"{folder}/studies.csv")["patient"].tolist()
    ['007']
    """
    if not str(file).lower().endswith(SUFFIXES):
        raise ValueError(
            f"{printable(file)}: expected a name that ends in .csv or .parquet, got another; "
            "rename it"
        )
    if missing := [name for name in (*NEEDED, "views") if name not in studies]:
        raise ValueError(
            f"expected a table with the columns {', '.join((*NEEDED, 'views'))}, got one without "
            f"{' and '.join(missing)}; add them"
        )
    cells: list[Any] = [
        [str(path) if is_remote(path) else os.path.abspath(path) for path in cell]
        for cell in studies["views"]
    ]
    is_csv = str(file).lower().endswith(".csv")
    if is_csv:
        cells = [json.dumps(cell, ensure_ascii=False) for cell in cells]
    table = studies.assign(views=np.fromiter(cells, dtype=object, count=len(cells)))
    table.attrs = {}
    write_whole(file, partial(table.to_csv if is_csv else table.to_parquet, index=False))


def _check_columns(file, rows):
    """Raise if a column is missing or occurs twice, or if there is no row."""
    missing = [name for name in NEEDED if name not in rows]
    if not {"views", "view", "path"} & set(rows):
        missing.append("views (or path in a table with a row per view)")
    if missing:
        raise ValueError(
            f"{file.shown}: expected the columns {', '.join(NEEDED)} and views, got "
            f"{some_names(rows, 20) or 'none'}: no {' and no '.join(missing)}; name the columns "
            "like this"
        )
    if twice := sorted(set(rows.columns[rows.columns.duplicated()])):
        raise ValueError(
            f"{file.shown}: expected each column once, got several called {some_names(twice)}; "
            "rename them"
        )
    if rows.empty:
        raise ValueError(f"{file.shown}: expected at least one study, got none; add rows")


def _texts(file, column):
    """Return a column without blanks around its texts; raise if a value is missing."""
    values = column.tolist()
    if column.name != "patient":  # which may be a whole number
        is_missing = column.isna()
        values = [v if gone else str(v) for v, gone in zip(values, is_missing, strict=True)]
    values = [value.strip() if isinstance(value, str) else value for value in values]
    texts = pd.Series(values, index=column.index, name=column.name)
    absent = texts.isna() | texts.eq("")
    if absent.any() and not (column.name == "split" and absent.all()):
        raise file.error(absent.idxmax(), column.name, "a value", "none", "fill it in")
    return texts


def _check_splits(file, rows):
    """Write the splits in lower case; raise if one is unknown."""
    if "split" not in rows:
        return
    splits = rows["split"].str.casefold()
    wrong = ~splits.isin(SPLITS)
    if wrong.any():
        number = wrong.idxmax()
        got = cell_text(rows["split"][number])
        raise file.error(number, "split", "train, valid or test", got, "correct it")
    rows["split"] = splits


def _labels(file, column):
    """Return the labels as Int8; raise if one is invalid."""
    labels, is_wrong = parse_labels(column)
    if is_wrong.any():
        number = is_wrong.idxmax()
        raise file.error(number, "label", LABEL_FORM, cell_text(column[number]), "correct it")
    return labels.astype("Int8")


def _per_study(file, rows):
    """Check a table with a row per study, and return it with paths as they are written."""
    again = rows["study"].duplicated()
    if again.any():
        number = again.idxmax()
        key = rows["study"][number]
        before = file.place(rows["study"].eq(key).idxmax())
        remedy = "remove a row, or name the column of paths path in a table with a row per view"
        raise file.error(
            number, "study", "each study once", f"{cell_text(key)} as in {before}", remedy
        )
    cells = [_paths(cell) for cell in rows["views"]]
    for number, cell, written in zip(rows.index, cells, rows["views"], strict=True):
        if not cell:
            raise file.error(number, "views", VIEWS_FORM, cell_text(written), "correct it")
    return rows.assign(views=np.fromiter(cells, dtype=object, count=len(cells)))


def _grouped(file, rows):
    """Return a row per study of a table with a row per view, in the order of first views."""
    column = "path" if "path" in rows else "view"
    for number, path in rows[column].items():
        if not isinstance(path, str) or not path.strip():
            raise file.error(number, column, "the path of a view", cell_text(path), "fill it in")
    further = [name for name in rows if name != column and name not in OF_VIEWS]
    codes = pd.factorize(rows["study"])[0]
    first = np.flatnonzero(~rows["study"].duplicated())
    for name in further:
        texts = rows[name].map(str).to_numpy()
        wrong = np.flatnonzero(texts != texts[first][codes])
        if len(wrong):
            row = wrong[0]
            head = first[codes[row]]
            raise file.error(
                rows.index[row],
                name,
                f"{cell_text(rows[name].iloc[head])} as in {file.place(rows.index[head])}, which "
                "is of the same study",
                cell_text(rows[name].iloc[row]),
                "correct it, or remove the column if it describes views",
            )
    cells = rows[column].str.strip().groupby(codes).agg(tuple)
    return rows[further].iloc[first].assign(views=cells.to_numpy())


def _paths(cell):
    """Return the paths of a study as they are written; none if the cell is invalid."""
    if isinstance(cell, str):
        cell = cell.strip()
        if not (cell[:1] in ("[", "(") and cell[-1:] in ("]", ")")):
            return tuple([path.strip() for path in cell.split(";") if path.strip()])
        cell = _literal(cell)
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if not isinstance(cell, tuple | list):
        return ()
    return tuple(cell) if all(isinstance(path, str) and path for path in cell) else ()


def _literal(text):
    """Return the list that JSON or Python writes so, as pandas does with tuples; else None."""
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _checked(file, number, cell, allow_outside):
    """Return the paths of a study; raise if a remote table names one outside of its folder."""
    if is_remote(file.folder) and not allow_outside:
        for path in cell:
            if not is_remote(path) and is_unsafe_path(path):
                raise file.error(
                    number,
                    "views",
                    f"addresses, or paths below {printable(file.folder)}",
                    cell_text(path),
                    "correct it, or pass allow_outside=True if you trust the table",
                )
    return cell


def _full_path(file, path):
    """Return the path of a view that does not depend on the current folder."""
    if is_remote(path):
        return path
    if os.sep == "/" and "/" not in path:
        path = path.replace("\\", "/")  # written on Windows
    return f"{file.folder}/{path}" if is_remote(file.folder) else os.path.join(file.folder, path)


def _check_files(file, views):
    """Raise if a view on a disk is missing; remote ones are found when they are read."""
    paths = [path for cell in views for path in cell if not is_remote(path)]
    exist = map_files(os.path.exists, paths)
    missing = [path for path, exists in zip(paths, exist, strict=True) if not exists]
    if missing:
        raise FileNotFoundError(
            f"{file.shown}: expected image files that exist, got {len(missing):,} missing of "
            f"{len(paths):,}, such as {some_names(missing[:1], width=1000)}; correct the paths, "
            f"which start at {printable(file.folder)} if they are relative, or remove the rows"
        )


def _with_type(column):
    """Return a column of texts as numbers or booleans if all texts are; "007" is none."""
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
