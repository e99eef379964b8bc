"""Read and write study tables as CSV and parquet files."""

import ast
import json
import os
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.studies.columns import SPLITS
from mura_skorch.studies.labels import with_names
from mura_skorch.studies.read_counts import with_read_counts
from mura_skorch.studies.table_file import SUFFIXES, TableFile, cell_text, with_type
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
    paths = next((name for name in ("views", "path", "view") if name in rows), "views")
    remedy = "name the columns like this, or that of paths path in a table with a row per view"
    file.check_columns(rows, (*NEEDED, paths), remedy)
    for name in NEEDED:
        rows[name] = file.texts(rows[name])
    rows = _with_splits(file, rows)
    if "label" in rows:
        rows["label"] = file.labels(rows["label"])
    studies = _per_study(file, rows) if "views" in rows else _grouped(file, rows)
    views = [
        tuple([_full_path(file, path) for path in _checked(file, number, cell, allow_outside)])
        for number, cell in studies["views"].items()
    ]
    _check_files(file, rows, paths, studies, views)
    studies = studies.reset_index(drop=True)
    studies["views"] = np.fromiter(views, dtype=object, count=len(views))
    if "label" not in studies:
        studies["label"] = pd.array([pd.NA] * len(studies), dtype="Int8")
    further = [name for name in studies if name not in ORDER]
    for name in further if file.is_csv else ():
        studies[name] = with_type(studies[name])
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


def _with_splits(file, rows):
    """Return the rows with splits in lower case, without a column that holds none."""
    if "split" not in rows:
        return rows
    if rows["split"].isna().all():
        return rows.drop(columns="split")
    splits = file.texts(rows["split"]).str.casefold()
    wrong = ~splits.isin(SPLITS)
    if wrong.any():
        number = wrong.idxmax()
        got = cell_text(rows["split"][number])
        raise file.error(number, "split", "train, valid or test", got, "correct it")
    return rows.assign(split=splits)


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


def _check_files(file, rows, column, studies, views):
    """Raise if a view on a disk is missing; remote ones are found when they are read."""
    local = [
        (path, number, written)
        for cell, (number, texts) in zip(views, studies["views"].items(), strict=True)
        for path, written in zip(cell, texts, strict=True)
        if not is_remote(path)
    ]
    exist = map_files(os.path.exists, [path for path, *_ in local])
    missing = [view for view, exists in zip(local, exist, strict=True) if not exists]
    if missing:
        path, number, written = missing[0]
        study = studies["study"][number]
        if column != "views":  # a row per view: `number` is that of the first of the study
            is_view = rows["study"].eq(study) & rows[column].str.strip().eq(written)
            number = is_view.idxmax()
        raise FileNotFoundError(
            f"{file.shown}, {file.place(number)}, column {column}: expected image files that "
            f"exist, got {len(missing):,} missing of {len(local):,}, such as "
            f"{some_names([path], width=1000)} of the study {cell_text(study)}; correct the paths, "
            f"which start at {printable(file.folder)} if they are relative, or remove the rows"
        )
