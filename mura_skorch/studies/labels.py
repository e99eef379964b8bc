"""Join labels and further columns from a CSV file to a study table."""

import io
import os
import unicodedata
from collections.abc import Iterable
from typing import Any

import pandas as pd

from mura_skorch.studies.columns import check_extra_columns
from mura_skorch.studies.read_counts import with_new_labels
from mura_skorch.utils.csv_files import delimiter_of, read_text
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.paths import is_unsafe_path
from mura_skorch.utils.text import printable, some_names

__all__ = ["join_labels"]

LONGEST_NAME = 200  # characters of a name in a message
LABELS = {"normal": 0, "abnormal": 1}
LABEL_FORM = "0 or normal, 1 or abnormal, or empty for unlabelled"
IDENTITY = ("split", "study_type", "patient")
FORM: dict[str, Any] = {
    "skipinitialspace": True,
    "keep_default_na": False,  # NA may be a site, and None a scanner
    "na_values": [""],
}


def join_labels(
    studies: pd.DataFrame,
    file: str | os.PathLike[str],
    *,
    keep: Iterable[str] = (),
    others: Iterable[str] = (),
    allow_outside: bool = False,
) -> pd.DataFrame:
    r"""Add labels, and further columns on request, from a CSV file to a study table.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table with the key ``study``.
    file : path
        CSV file with a header: ``study``, ``label`` (1 or "abnormal", 0 or "normal", empty
        unlabelled) and any further columns. Or without a header, with a path and a label per line,
        as in MURA's and the competition's files. In both, the key may follow the name of the folder
        and end in a slash: ``MURA-v1.1/valid/XR_HAND/.../``. Only an empty field is missing; NA is
        text. Separators are commas, semicolons or tabs. The encoding is UTF-8, or UTF-16 as saved
        by spreadsheets. Case and blanks around column names, empty lines and the Unicode form of a
        key do not matter.
    keep : iterable of str, default=()
        Further columns to copy, such as readers' labels or the site. Columns of `studies` need not
        be in the file. Other columns of the file are ignored.
    others : iterable of str, default=()
        Keys of further studies that the file may contain, such as those of other splits. Their
        rows are ignored.
    allow_outside : bool, default=False
        Accept keys at the end of an absolute path or of a path with ``..``. No key is ever opened
        as a path.

    Returns
    -------
    DataFrame of n_studies rows
        In the order of `studies`. The labels of the file replace ``label``.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        A row has an unknown or repeated study, an absolute path or ``..``; a study has no row; a
        label is invalid; a column in `keep` is missing, contradicts the study table, or
        has a reserved name; the file is not a CSV file.

    Examples
    --------
    >>> import tempfile
    >>> studies = pd.DataFrame({"study": ["test/XR_HAND/patient1/study1"], "label": [pd.NA]})
    >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
    ...     _ = file.write("study,label,site\ntest/XR_HAND/patient1/study1,1,A\n")
    ...     file.flush()
    ...     join_labels(studies, file.name, keep=["site"])
                              study  label site
    0  test/XR_HAND/patient1/study1      1    A
    """
    keep = [name for name in dict.fromkeys(keep) if name not in ("study", "label")]
    check_extra_columns(keep)
    table = with_names(_read(file), keep)
    if missing := [name for name in keep if name not in table and name not in studies]:
        raise ValueError(
            f"{printable(file)}: expected columns {', '.join(missing)}, got {some_names(table)}; "
            "check the names"
        )
    if not allow_outside:
        remedy = ", absolute or with ..; write them from the root on, or pass allow_outside=True"
        rows = table["study"][table["study"].fillna("").map(is_unsafe_path)]
        _refuse(file, "keys below the root", "others", rows, remedy)
    keys = studies["study"].astype(str)
    own = set(keys)
    known = {unicodedata.normalize("NFC", key): key for key in map(str, others)}
    known |= {unicodedata.normalize("NFC", key): key for key in keys}
    exact = set(known.values())
    found = table["study"].map(lambda text: _key(text, known, exact))
    _refuse(file, "rows of known studies", "unknown", table["study"][found.isna()])
    table, found = table[found.isin(own)], found[found.isin(own)]
    _refuse(file, "one row for each study", "repeated", found[found.duplicated()])
    remedy = "; add rows with an empty label, or select the studies first"
    _refuse(file, "a row for every study", "missing", keys[~keys.isin(found)], remedy)
    table = table.set_index(found).loc[keys].set_index(studies.index)
    columns = {name: table[name] for name in keep if name in table}
    if wrong := [name for name in columns if name in IDENTITY and name not in studies]:
        raise ValueError(
            f"{file}: expected further columns not called {', '.join(wrong)}, which are reserved "
            "for the study table; rename them"
        )
    for name in set(columns) & set(studies):
        pair = [
            patient_keys(column, missing="") if name == "patient" else column.astype(str).to_numpy()
            for column in (columns[name], studies[name])
        ]
        if not (pair[0] == pair[1]).all():
            raise ValueError(
                f"{file}: expected column {name} as in the study table, got other values; remove "
                "or rename the column"
            )
        del columns[name]
    joined = studies.assign(label=table["label"].astype("Int8"), **columns)
    return with_new_labels(joined, studies)


def _read(file):
    """Return the file as a table with the columns study and label."""
    try:
        text = read_text(file)
        delimiter = delimiter_of(text, lambda fields: _is_header(fields) or _is_bare(fields))
        form = {"sep": delimiter, "index_col": False, **FORM}
        first = pd.read_csv(io.StringIO(text), header=None, nrows=1, dtype=str, **form)
        names = first.iloc[0].fillna("").tolist()
        is_bare = _is_bare(names)
        table = pd.read_csv(
            io.StringIO(text),
            header=None if is_bare else "infer",
            names=["study", "label"] if is_bare else None,
            dtype={
                name: str for name in ["study", *names] if plain_name(name) in ("study", "patient")
            },
            **form,
        )
        table = table.rename(columns=str.strip).dropna(how="all")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{file}: expected a CSV file of labels, got no such file; check the path"
        ) from error
    except (ValueError, IndexError, OverflowError) as error:  # pandas has many for a damaged file
        raise ValueError(
            f"{printable(file)}: expected a CSV file in UTF-8, got "
            f"{printable(str(error).strip())}; save it again as one"
        ) from error
    table = with_names(table, ["study", "label"])
    if missing := {"study", "label"} - set(table):
        raise ValueError(
            f"{printable(file)}: expected the columns study and label, got {some_names(table)}: no "
            f"{' and no '.join(sorted(missing))}; add a header line with these names"
        )
    labels, is_wrong = parse_labels(table["label"])
    if is_wrong.any():
        row = table[is_wrong].iloc[0]
        raise ValueError(
            f"{printable(file)}: expected the label {LABEL_FORM}, got "
            f"{some_names([row['label']])} for {some_names([row['study']])}; correct the file"
        )
    return table.assign(label=labels)


def parse_labels(values: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Return labels as 0, 1 or missing, and which values are invalid.

    Parameters
    ----------
    values : Series
        0 and 1 as numbers or texts, "normal" and "abnormal" in any case, missing values.

    Returns
    -------
    labels : Series of numbers
    is_wrong : Series of bool

    Examples
    --------
    >>> labels, is_wrong = parse_labels(pd.Series(["1", "Normal", None, "yes"]))
    >>> labels.tolist(), is_wrong.tolist()
    ([1.0, 0.0, nan, nan], [False, False, False, True])
    """
    words = [LABELS.get(plain_name(v), v) if isinstance(v, str) else v for v in values.tolist()]
    labels = pd.to_numeric(pd.Series(words, index=values.index), errors="coerce")
    return labels, values.notna() & ~labels.isin([0, 1])


def _is_header(fields):
    """Return whether the first line holds the names of columns."""
    return {"study", "label"} <= set(map(plain_name, fields))


def _is_bare(fields):
    """Return whether the first line is a key and a label, in a file without a header."""
    return len(fields) == 2 and not _is_header(fields) and fields[1].strip() in ("", "0", "1")


def plain_name(name):
    """Return a name without case and surrounding blanks."""
    return name.strip().casefold()


def with_names(table, names):
    """Return a table in which columns that differ from these names only in case are renamed."""
    plain = {plain_name(name): name for name in names if name not in table}
    found = {column: plain[plain_name(column)] for column in table if plain_name(column) in plain}
    return table.rename(columns=found) if len(set(found.values())) == len(found) else table


def _key(text, known, exact):
    """Return the known key at the end of a path, in any Unicode form, or None."""
    parts = str(text).strip().replace("\\", "/").strip("/").split("/")
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        if end in exact:
            return end
        if (form := unicodedata.normalize("NFC", end)) in known:
            return known[form]
    return None


def _refuse(file, expected, kind, keys, remedy=""):
    """Raise a ValueError if there are any such keys."""
    if len(keys):
        raise ValueError(
            f"{printable(file)}: expected {expected}, got {len(keys):,} {kind}: "
            f"{some_names(keys)}"
            f"{remedy or '; correct the file'}"
        )
