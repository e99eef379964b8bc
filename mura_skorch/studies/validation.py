"""Validate a study table of any source before it is fitted or predicted."""

import os
import warnings
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.studies.mura_folder import _SURROGATE
from mura_skorch.utils.identity import file_codes, patient_keys
from mura_skorch.utils.text import printable, some_names

__all__ = ["check_labelled", "check_no_repeated_file", "check_studies"]


def check_studies(
    studies: pd.DataFrame, y: ArrayLike | None = None, *, for_fit: bool = False
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Validate a study table and its labels.

    Parameters
    ----------
    studies : DataFrame of shape (n_studies, n_columns)
        Needs ``study_type`` (str) and ``views`` (tuple, list or array of paths); to fit also
        ``patient``, and ``label`` unless `y` is given. Other columns and the index are free. The
        keys of a column ``study`` must be unique. Never modified.
    y : array-like of shape (n_studies,) or (n_studies, 1), default=None
        Labels, 0 or 1, in the order of the rows. They replace the column ``label``.
    for_fit : bool, default=False
        Also check the requirements of a fit: every study labelled, both classes, no duplicate
        study, and no file in studies of two labels or two patients.

    Returns
    -------
    studies : DataFrame of shape (n_studies, n_columns)
        The same table, in which every cell of ``views`` is a tuple of str.
    labels : ndarray of shape (n_studies,), int64, or None
        The labels, 0 or 1. None without `for_fit` and `y`.

    Raises
    ------
    TypeError
        `studies` is not a DataFrame, or ``views`` or ``study_type`` has values of another type.
    ValueError
        The table is empty, lacks a column, or has a missing, invalid or repeated value; a study
        holds a file twice, under any paths; `y` and the table differ in length.

    Warns
    -----
    UserWarning
        With `for_fit`: two studies share a file.

    Examples
    --------
    >>> studies = pd.DataFrame(
    ...     {
    ...         "study_type": ["XR_WRIST", "XR_HAND"],
    ...         "patient": ["a", "b"],
    ...         "views": [["a1.png", "a2.png"], ["b1.png"]],
    ...         "label": [1, 0],
    ...     }
    ... )
    >>> checked, labels = check_studies(studies, for_fit=True)
    >>> checked.loc[0, "views"], labels
    (('a1.png', 'a2.png'), array([1, 0]))
    """
    if not isinstance(studies, pd.DataFrame):
        raise TypeError(
            f"expected a DataFrame with one row per study, got {_described(studies)}. "
            "Use read_studies(root), or build one:\n"
            "    import pandas as pd\n"
            '    row = {"study_type": "XR_WRIST", "patient": 1, "views": ("a.png",), "label": 1}\n'
            "    studies = pd.DataFrame([row])"
        )
    if len(studies) == 0:
        raise ValueError("expected at least one study, got an empty table. Check its selection.")
    _check_columns(studies, with_patient=for_fit, with_label=for_fit and y is None)
    _check_encoding(studies)
    views = _normal_views(studies)
    if views is not None:
        studies = studies.assign(views=np.fromiter(views, dtype=object, count=len(views)))
    if for_fit:
        patient_keys(studies["patient"])
    _check_unique(studies, by_views=for_fit)
    labels = None
    if y is not None or "label" in studies:
        labels = _check_labels(studies, y, for_fit=for_fit)
    check_no_repeated_file(studies, labels if for_fit else None)
    return studies, labels if for_fit or y is not None else None


def check_labelled(
    studies: pd.DataFrame, y: ArrayLike | None = None
) -> tuple[pd.DataFrame, np.ndarray]:
    """Check a study table that predictions are to be scored against.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table.
    y : array-like of shape (n_studies,), optional
        1 abnormal, 0 normal. None means ``studies["label"]``.

    Returns
    -------
    studies : DataFrame of n_studies rows
        As `check_studies` returns it.
    labels : ndarray of shape (n_studies,), int64

    Raises
    ------
    TypeError, ValueError
        As `check_studies`, and if there is neither `y` nor a column ``label``.
    """
    if y is None and isinstance(studies, pd.DataFrame):
        if "label" not in studies:
            raise ValueError("expected y or a column label to score against, got neither")
        y = studies["label"]
    labels: Any  # never None, since labels are given
    studies, labels = check_studies(studies, y)
    return studies, labels


def check_no_repeated_file(studies: pd.DataFrame, labels: np.ndarray | None = None) -> None:
    """Raise if the same file, under any paths, is used twice.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table whose cells of ``views`` are tuples of str. With `labels` also ``patient``.
    labels : ndarray of shape (n_studies,), int64, default=None
        0 or 1. None checks within each study only.

    Raises
    ------
    ValueError
        A study holds a file twice. With `labels`: a file is in studies of two labels or of two
        patients, or two studies hold the same files in another order.

    Warns
    -----
    UserWarning
        With `labels`: two studies of one patient and label share some files.

    See Also
    --------
    mura_skorch.utils.identity.file_codes : Defines what the same file is.
    """
    n_views = studies["views"].map(len).to_numpy()
    if labels is None and n_views.max(initial=0) < 2:
        return
    paths = list(chain.from_iterable(studies["views"]))
    codes = file_codes(paths)
    if len(np.unique(codes)) == len(codes):
        return
    found = pd.DataFrame({"row": np.repeat(np.arange(len(studies)), n_views), "code": codes})
    twice = found.index[found.duplicated()]
    if len(twice):
        raise ValueError(
            f"expected each file once in a study, got {len(twice):,} repeated, first "
            f"{printable(paths[twice[0]])} in {_row(studies, found.loc[twice[0], 'row'])}: a "
            "repeated view counts twice. Pass each view once"
        )
    if labels is None:
        return
    found["label"] = labels[found["row"]]
    found["patient"] = pd.factorize(patient_keys(studies["patient"]))[0][found["row"]]
    shared = found[found.duplicated("code", keep=False)]
    n_different = shared.groupby("code")[["label", "patient"]].transform("nunique")
    for column, remedy in (
        ("label", "Correct the labels, or drop one of the studies"),
        ("patient", "Correct the patients, or drop one of the studies"),
    ):
        wrong = shared[n_different[column] > 1]
        if len(wrong):
            raise ValueError(
                f"expected each file in studies of one {column}, got "
                f"{_shared_files(studies, wrong, paths)}. {remedy}"
            )
    sets = found[found["row"].isin(shared["row"])].groupby("row")["code"].apply(frozenset)
    again = sets[sets.duplicated(keep=False)]
    if len(again):
        is_first = np.array([files == again.iloc[0] for files in again])
        first, second = again.index.to_numpy()[is_first][:2].tolist()
        raise ValueError(
            f"expected each study once, got {len(again):,} of the same files in another order or "
            f"under other paths, such as {_row(studies, first)} and {_row(studies, second)}. Drop "
            "one of them"
        )
    if len(shared):
        warnings.warn(
            f"{_shared_files(studies, shared, paths)}; they count once in each study",
            stacklevel=3,
        )


def _described(found: Any) -> str:
    """Return what was given instead of a table, and what to do if scikit-learn made it."""
    if not isinstance(found, np.ndarray):
        return type(found).__name__
    return (
        f"an array of shape {found.shape}, whose columns have no names. If a transformer made it "
        'of a table, call set_output(transform="pandas") on the transformer. Instead of a '
        "BaggingClassifier use MuraEnsemble, with a member for each of several seeds"
    )


def _check_columns(studies: pd.DataFrame, *, with_patient: bool, with_label: bool) -> None:
    """Raise if a column is missing, repeated, or has missing or invalid values."""
    filled = ["study_type"]
    if with_patient:
        filled.append("patient")
    needed = [*filled, "views"]
    if with_label:
        needed.append("label")
    missing = [column for column in needed if column not in studies]
    if missing:
        got = some_names(map(str, studies.columns), 20)
        raise ValueError(
            f"expected the columns {', '.join(needed)}, got {got}. "
            f"Missing: {', '.join(missing)}" + (" (or pass y)" if "label" in missing else "")
        )
    repeated = [column for column in needed if list(studies.columns).count(column) > 1]
    if repeated:
        raise ValueError(f"expected each column once, got several called {', '.join(repeated)}")
    for column in filled:
        absent = studies[column].isna().to_numpy()
        if absent.any():
            raise ValueError(
                f"expected a {column} in every row, got {absent.sum():,} without, first "
                f"{_row(studies, int(np.argmax(absent)))}. Fill them in or drop the rows."
            )
    wrong = [value for value in studies["study_type"].tolist() if not isinstance(value, str)]
    if wrong:
        raise TypeError(
            f"expected study_type as str, got {wrong[0]!r} ({type(wrong[0]).__name__}). "
            'Convert it: studies.assign(study_type=studies["study_type"].astype(str))'
        )


def _check_encoding(studies: pd.DataFrame) -> None:
    """Raise if a name is not in UTF-8: neither CSV, HTML nor MLflow could hold it."""
    for column in ("study", "study_type", "patient"):
        if column not in studies or studies[column].dtype != object:
            continue
        values = studies[column].tolist()
        for row, value in enumerate(values):
            if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
                raise ValueError(
                    f"expected {column} in UTF-8, got {value!r} in {_row(studies, row)}. Decode it "
                    'again: value.encode("utf-8", "surrogateescape").decode("latin-1")'
                )


def _normal_views(studies: pd.DataFrame) -> list[tuple[str, ...]] | None:
    """Return the views as tuples of str, or None if they are already."""
    cells = studies["views"].tolist()
    changed = False
    for row, cell in enumerate(cells):
        # Fast path for valid cells: tables may have a million rows.
        if type(cell) is tuple and set(map(type, cell)) == {str} and "" not in cell:
            continue
        changed = True
        cells[row] = _as_paths(cell)
        if not cells[row] or "" in cells[row]:
            raise _views_error(cell, _row(studies, row))
    return cells if changed else None


def _as_paths(cell: Any) -> tuple[str, ...]:
    """Return the paths as str; "" for an invalid entry, () for an invalid cell."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if not isinstance(cell, tuple | list):
        return ()
    return tuple(str(os.fspath(p)) if isinstance(p, str | os.PathLike) else "" for p in cell)


def _views_error(cell: Any, row: str) -> Exception:
    """Return the error for an invalid cell of views."""
    expected = f"expected views as a tuple of image paths, got {cell!r} in {row}"
    if isinstance(cell, str | os.PathLike):
        return TypeError(f"{expected}. Write (path,) for a study of one view.")
    if not isinstance(cell, tuple | list | np.ndarray):
        return TypeError(f"{expected}. Pass at least one path, or drop the row.")
    if len(cell) == 0:
        return ValueError(f"{expected}. Drop studies without a view from the table.")
    return TypeError(f"{expected}. Each entry must be a str or a path-like, and not empty.")


def _shared_files(studies: pd.DataFrame, shared: pd.DataFrame, paths: list[str]) -> str:
    """Describe files that several studies share, with the first as an example."""
    first = shared[shared["code"] == shared["code"].iloc[0]]
    rows = " and ".join(_row(studies, row) for row in first["row"][:2])
    n = shared["code"].nunique()
    files = "1 file in several studies," if n == 1 else f"{n:,} files in several studies, such as"
    return f"{files} {printable(paths[first.index[0]])} in {rows}"


def _check_unique(studies: pd.DataFrame, *, by_views: bool) -> None:
    repeated = pd.Series(dtype=object)
    remedy = 'Drop them: studies.drop_duplicates("study")'
    if "study" in studies:
        keys = studies["study"]
        try:
            repeated = keys[keys.notna() & keys.duplicated()]
        except TypeError as error:
            raise TypeError(
                f"expected study as text or numbers, got other values ({error}). Convert them: "
                'studies.assign(study=studies["study"].astype(str))'
            ) from error
    if by_views and repeated.empty:
        keys = studies["views"]
        repeated = keys[keys.duplicated()]
        remedy = 'Drop them: studies.drop_duplicates("views")'
    if not repeated.empty:
        raise ValueError(
            f"expected each study once, got {len(repeated):,} repeated: "
            f"{some_names(map(str, repeated))}. {remedy}"
        )


def _check_labels(studies: pd.DataFrame, y: ArrayLike | None, *, for_fit: bool) -> np.ndarray:
    name = "label" if y is None else "y"
    values = studies["label"] if y is None else y
    if not isinstance(values, pd.Series):
        array = _as_array(values)
        if array.ndim == 2 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 1:
            raise ValueError(f"expected y of shape (n_studies,), got {array.shape}")
        values = pd.Series(array)
    if len(values) != len(studies):
        raise ValueError(
            f"expected y of the length of the table, {len(studies):,}, got {len(values):,}"
        )
    absent = values.isna().to_numpy()
    known = values[~absent]
    if not all(map(_is_label, known.tolist())):
        row, wrong = next(
            (i, v) for i, v in enumerate(values.tolist()) if not (absent[i] or _is_label(v))
        )
        raise ValueError(
            f"expected {name} 0 (normal) or 1 (abnormal), got {wrong!r} "
            f"({type(wrong).__name__}) in {_row(studies, row)}. {_label_remedy(known, name)}"
        )
    if absent.any() and (for_fit or y is not None):
        raise ValueError(
            f"expected a label for every study, got {absent.sum():,} without, first "
            f"{_row(studies, int(np.argmax(absent)))}. Drop them: studies[studies.label.notna()]"
        )
    labels = np.array(known.astype(np.int64))
    if for_fit and len(np.unique(labels)) < 2:
        raise ValueError(
            f"expected labels 0 and 1, got only {labels[0]} in all {len(labels):,} studies. "
            "Fit on a table that holds both."
        )
    return labels


def _label_remedy(known: pd.Series, name: str) -> str:
    """Return advice on converting other values to labels."""
    values = known.tolist()
    if all(isinstance(value, str) and value.strip() in ("0", "1") for value in values):
        return f"They are text: {name}.astype(int)"
    if all(isinstance(value, int | float) and value in (1, 2) for value in values):
        return f"If 1 means normal and 2 abnormal: {name} - 1"
    return f'Map it, e.g. {name}.map({{"normal": 0, "abnormal": 1}})'


def _as_array(y: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(y)
    except ValueError as error:  # rows of different lengths, or bytes among strings
        raise ValueError(
            f"expected y of shape (n_studies,), got values that form no array ({error}). Pass 0 or "
            "1 for each study."
        ) from error


def _is_label(value: Any) -> bool:
    """Return whether a value is 0 or 1."""
    return isinstance(value, int | float | np.generic) and value in (0, 1)


# -------------------------------------------------------------------- messages


def _row(studies: pd.DataFrame, row: int) -> str:
    """Name a row by its position, index and study."""
    # tolist gives Python types, which print as 8 instead of np.int64(8).
    index = studies.index[[row]].tolist()[0]
    key = f", study {studies['study'].iloc[[row]].tolist()[0]!r}" if "study" in studies else ""
    return f"row {row} (index {index!r}{key})"
