"""Study tables: a MURA folder goes in, a DataFrame with one row per study comes out, checked."""

import csv
import io
import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.arrays import as_table
from mura_skorch.csv_files import delimiter_of, read_text
from mura_skorch.identity import file_codes, patient_keys
from mura_skorch.places import leaving, outside
from mura_skorch.texts import printable, shorten

__all__ = [
    "check_no_repeated_file",
    "check_studies",
    "explode_views",
    "is_exploded",
    "read_studies",
]

SPLITS = ("train", "valid", "test")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".tif", ".tiff", ".bmp", ".pgm", ".webp")

_LAYOUT = "<root>/train/<study type>/<patient>/study1_positive/image1.png"
_LABELS = {"positive": 1, "negative": 0}
_SURROGATE = re.compile("[\ud800-\udfff]")  # what Python makes of bytes that are no UTF-8
_N_NAMED = 5
_LONGEST_NOTE, _LONGEST_ROW = 1000, 200  # characters


def read_studies(
    root: str | os.PathLike[str], *, use_csv: bool = True, allow_outside: bool = False
) -> pd.DataFrame:
    """Read a folder in MURA's layout, version 1.0 or 1.1, as a table of studies.

    Parameters
    ----------
    root : str or path-like
        The folder that holds ``train`` and ``valid``, whatever its name, or the parent of it.
    use_csv : bool, default=True
        Compare the folders with the CSV files in the root, which must agree where they exist, and
        take labels from there too. False takes the folders as they are, labels from their names.
    allow_outside : bool, default=False
        Follow links that leave the root, and take rows of CSV files whose paths are absolute or
        have a ``..``. The root itself may be a link, and links within it are always followed.

    Returns
    -------
    studies : DataFrame of shape (n_studies, 6)
        Sorted by split, study type, patient, study. ``study`` is the unique key
        ``<split>/<study type>/<patient>/<study folder>``; ``split``, ``study_type`` and
        ``patient`` are its parts; ``views`` is a tuple of absolute image paths in natural order
        (image2 before image10); ``label`` is Int8, 1 abnormal, 0 normal, ``<NA>`` unlabelled.
        If the root holds a file ``NOTE.txt``, its first line stands on every row of a seventh
        column ``note``, as a caveat that outputs carry.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    NotADirectoryError
        If the root is a file.
    ValueError
        If the folder holds no study or is not the root; if folders and CSV files disagree; if a
        study has no image, two labels or two rows; if a row of a CSV file cannot be understood; if
        a link or a row leaves the root; if a name is not in UTF-8.

    Notes
    -----
    The CSV files are ``<split>_image_paths.csv`` and ``<split>_labeled_studies.csv`` (v1.1) and
    ``<split>.csv`` (v1.0), in UTF-8 or UTF-16. Their paths are matched by their last components, so
    that the root may have any name, and in any Unicode form. Names that start with a dot are never
    images; other files are ignored. No row of a CSV file is ever opened as a path.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     folder = Path(root, "valid", "XR_WRIST", "patient1", "study1_positive")
    ...     folder.mkdir(parents=True)
    ...     (folder / "image1.png").touch()
    ...     read_studies(root)[["study", "label"]]
                                         study  label
    0  valid/XR_WRIST/patient1/study1_positive      1
    """
    folder = _find_root(Path(root).expanduser().resolve())
    links: list[str] = []
    found = dict(_walk(folder, links))
    _check_names(folder, found)
    if not allow_outside:
        _check_links(folder, links)
    labels: dict[str, int | None] = {study: _folder_label(study) for study in found}
    problems = _folder_problems(found)
    if use_csv:
        for split in SPLITS:
            problems |= _join_csv(folder, split, found, labels, allow_outside=allow_outside)
    if any(problems.values()):
        raise ValueError(_problem_report(folder, problems, use_csv=use_csv))
    if not found:
        raise ValueError(
            f"{printable(folder)}: expected studies as in {_LAYOUT}, got no study folder"
        )

    keys = [study.split("/") for study in found]
    studies = pd.DataFrame(
        {
            "study": list(found),
            "split": [key[0] for key in keys],
            "study_type": [key[1] for key in keys],
            "patient": [key[2] for key in keys],
            "views": [
                tuple(os.path.join(folder, *key, name) for name in names)
                for key, names in zip(keys, found.values(), strict=True)
            ],
            "label": pd.array([labels[study] for study in found], dtype="Int8"),
        }
    )
    note = folder / "NOTE.txt"
    if note.is_file():
        with open(note, encoding="utf-8-sig", errors="replace") as lines:
            studies["note"] = printable(lines.readline(_LONGEST_NOTE).strip())
    return studies


def check_studies(
    studies: pd.DataFrame, y: ArrayLike | None = None, *, for_fit: bool = False
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Check a study table from any source before it is fitted or predicted.

    Parameters
    ----------
    studies : DataFrame of shape (n_studies, n_columns)
        Needs ``study_type`` (str) and ``views`` (tuple, list or array of paths); to fit also
        ``patient``, and ``label`` unless `y` is given. Other columns and the index are free. Where
        a column ``study`` exists, its keys must be unique, unless a column ``draw`` says that
        rows are drawn with replacement: then a study counts as often as it stands. Never modified.
        An array that scikit-learn has made of a table is read by `mura_skorch.arrays.as_table`.
    y : array-like of shape (n_studies,) or (n_studies, 1), default=None
        Labels, 0 or 1, in the order of the rows; they take the place of the column ``label``.
    for_fit : bool, default=False
        Whether the table is to be fitted: every study labelled, both classes, no study twice, and
        no file in studies of two labels or two patients.

    Returns
    -------
    studies : DataFrame of shape (n_studies, n_columns)
        The same table, in which every cell of ``views`` is a tuple of str.
    labels : ndarray of shape (n_studies,), int64, or None
        The labels, 0 or 1. None if there is nothing to fit and `y` is not given.

    Raises
    ------
    TypeError
        If `studies` is no DataFrame, or ``views`` or ``study_type`` hold values of another type.
    ValueError
        If the table is empty, lacks a column, or holds a missing, wrong or repeated value; if a
        study holds a file twice, under whatever paths; if the length of `y` differs from the
        table's.

    Warns
    -----
    UserWarning
        To fit: two studies share a file.

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
    studies = as_table(studies)
    if not isinstance(studies, pd.DataFrame):
        raise TypeError(
            "expected a DataFrame with one row per study, "
            f"got {type(studies).__name__}. Use read_studies(root), or build one:\n"
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
    is_first = _is_first_draw(studies, y) if "draw" in studies else np.ones(len(studies), bool)
    once = studies[is_first]
    _check_unique(once, by_views=for_fit)
    labels = None
    if y is not None or "label" in studies:
        labels = _check_labels(studies, y, for_fit=for_fit)
    if for_fit and labels is not None:
        check_no_repeated_file(once, labels[is_first])
    else:
        check_no_repeated_file(once)
    return studies, labels if for_fit or y is not None else None


def check_no_repeated_file(studies: pd.DataFrame, labels: np.ndarray | None = None) -> None:
    """Raise where a file counts twice, whatever the paths that lead to it.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table whose cells of ``views`` are tuples of str. With `labels` also ``patient``.
    labels : ndarray of shape (n_studies,), int64, default=None
        0 or 1. None looks within each study only.

    Raises
    ------
    ValueError
        A study holds a file twice. With `labels`: a file is in studies of two labels or of two
        patients, or two studies hold the same files in another order.

    Warns
    -----
    UserWarning
        With `labels`: two studies of one patient and label share some of their files.

    See Also
    --------
    mura_skorch.identity.file_codes : What the same file is.
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
            f"{printable(paths[twice[0]])} in {_row(studies, found.loc[twice[0], 'row'])}: a view "
            "that is given twice counts twice. Give each once"
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
            f"{_shared_files(studies, shared, paths)}; they count once for each study",
            stacklevel=3,
        )


def explode_views(studies: pd.DataFrame) -> pd.DataFrame:
    """Return a table of one-view studies, as the paper trains on: one row for each view.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table.

    Returns
    -------
    DataFrame of n_views rows
        A study table of its own, in the order of studies and views. ``views`` holds one path, the
        new column ``view`` its number in the study from 1, and ``study``, where there is one, the
        key ``<study>/<view>``. All other columns are the study's; the index counts from 0.

    Examples
    --------
    >>> studies = pd.DataFrame({"study": ["a", "b"], "views": [("1.png", "2.png"), ("3.png",)]})
    >>> explode_views(studies)
      study     views  view
    0   a/1  (1.png,)     1
    1   a/2  (2.png,)     2
    2   b/1  (3.png,)     1
    """
    n_views = studies["views"].map(len).to_numpy()
    exploded = studies.iloc[np.repeat(np.arange(len(studies)), n_views)].reset_index(drop=True)
    paths = [(path,) for views in studies["views"] for path in views]
    exploded["views"] = np.fromiter(paths, dtype=object, count=len(paths))
    exploded["view"] = [number + 1 for n in n_views for number in range(n)]
    if "study" in exploded:
        exploded["study"] = exploded["study"].astype(str) + "/" + exploded["view"].astype(str)
    return exploded


def is_exploded(studies: pd.DataFrame) -> bool:
    """Return whether the rows of a table are single views, as `explode_views` makes them."""
    return (
        "view" in studies
        and pd.api.types.is_integer_dtype(studies["view"])
        and bool(studies["views"].map(len).eq(1).all())
    )


# ------------------------------------------------------------------ the folder


def _find_root(path: Path) -> Path:
    """Return the folder that holds the splits: the path or its only child that does."""
    shown = printable(path)
    if not path.exists():
        raise FileNotFoundError(
            f"{shown}: expected the folder that holds train and valid, got no such folder. "
            "Check the path."
        )
    if not path.is_dir():
        raise NotADirectoryError(
            f"{shown}: expected the folder that holds train and valid, got a file. "
            "Pass the folder; an archive must be unpacked first."
        )
    if _is_root(path):
        return path
    children = [path / name for name in _subfolders(path)]
    roots = [child for child in children if _is_root(child)]
    if len(roots) == 1:
        return roots[0]
    expected = f"{shown}: expected a folder that holds train and valid, got"
    if roots:
        raise ValueError(
            f"{expected} one that holds several of them: {_some(map(str, roots))}. Choose one."
        )
    # The cap keeps a wrong path on a large disk cheap.
    grandchildren = (child / name for child in children[:100] for name in _subfolders(child)[:100])
    roots = [folder for folder in grandchildren if _is_root(folder)]
    if roots:
        raise ValueError(
            f"{expected} one too high. Pass {printable(' or '.join(map(str, roots[:_N_NAMED])))}"
        )
    for ancestor in (path, *path.parents)[:4]:
        if ancestor.name in SPLITS:
            raise ValueError(
                f"{expected} a folder inside its {ancestor.name}. Pass "
                f"{printable(ancestor.parent)} and "
                'select rows of the table, e.g. studies[studies.study_type == "XR_WRIST"]'
            )
    names = sorted(os.listdir(path), key=_natural)
    raise ValueError(
        f"{expected} {f'one with {_some(names)}' if names else 'an empty folder'}. "
        f"The layout is {_LAYOUT}"
    )


def _is_root(folder: Path) -> bool:
    return any((folder / split).is_dir() for split in SPLITS)


def _walk(root: Path, links: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each study's key with the names of its images, in the order of the table.

    Links to folders and to images that are met on the way are noted.
    """
    for split in SPLITS:
        for study_type in _subfolders(root / split, links):
            for patient in _subfolders(root / split / study_type, links):
                key = f"{split}/{study_type}/{patient}"
                folder = os.path.join(root, split, study_type, patient)
                for study in _subfolders(folder, links):
                    yield f"{key}/{study}", _images(os.path.join(folder, study), links)


def _subfolders(folder: str | Path, links: list[str] | None = None) -> list[str]:
    if not os.path.isdir(folder):
        return []
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name[0] != "." and e.is_dir()]
    return _sorted_names(found, links)


def _images(folder: str, links: list[str]) -> list[str]:
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name[0] != "." and e.is_file()]
    return _sorted_names([e for e in found if e.name.lower().endswith(IMAGE_SUFFIXES)], links)


def _sorted_names(entries: list[os.DirEntry[str]], links: list[str] | None) -> list[str]:
    if links is not None:
        # Of what the folder itself tells: nothing else is asked of the disk.
        links += [e.path for e in entries if e.is_symlink()]
    return sorted([e.name for e in entries], key=_natural)


def _check_links(root: Path, links: list[str]) -> None:
    """Raise where a link leaves the root, be it a split, a folder, an image, a CSV or the note."""
    suffixes = ("", "_image_paths.csv", "_labeled_studies.csv", ".csv")
    names = [f"{split}{suffix}" for split in SPLITS for suffix in suffixes]
    first = [os.path.join(root, name) for name in (*names, "NOTE.txt")]
    if found := outside(root, [*filter(os.path.islink, first), *links]):
        raise ValueError(
            f"{printable(root)}: expected links that stay within the folder, got {len(found):,} "
            f"that leave it: {_some(found)}. Copy what they lead to, or pass allow_outside=True "
            "if you trust who made them."
        )


def _check_names(root: Path, found: dict[str, list[str]]) -> None:
    """Raise where a name is in another encoding, which no table, page or run could hold."""
    if "".join(chain(found, *found.values())).isascii():
        return
    paths = (f"{study}/{name}" for study, names in found.items() for name in ("", *names))
    wrong = [path for path in paths if _SURROGATE.search(path)]
    if wrong:
        raise ValueError(
            f"{printable(root)}: expected names in UTF-8, got {len(wrong):,} in another encoding: "
            f"{_some(wrong)}. Rename them, as convmv does."
        )


def _natural(name: str) -> tuple[Any, ...]:
    """Order image2 before image10; the name itself settles image1 against image01."""
    parts = re.split(r"([0-9]+)", name)
    # Digits of any number: Python refuses to read more than 4,300 of them.
    numbers = (p.lstrip("0") for p in parts[1::2])
    parts[1::2] = [(len(n), n) for n in numbers]
    return (*parts, name)


def _folder_label(study: str) -> int | None:
    return _LABELS.get(study.rpartition("_")[2])


# --------------------------------------------------------------- the CSV files


def _join_csv(
    root: Path,
    split: str,
    found: dict[str, list[str]],
    labels: dict[str, int | None],
    *,
    allow_outside: bool,
) -> dict[str, set[str]]:
    """Fill in labels that folders do not tell; return where CSV files and folders disagree."""
    problems: dict[str, set[str]] = {}
    studies = {study for study in found if study.startswith(f"{split}/")}
    images = {f"{study}/{name}" for study in studies for name in found[study]}
    for suffix, present, labelled in (
        ("_image_paths.csv", images, False),
        ("_labeled_studies.csv", studies, True),
        (".csv", images, True),
    ):
        file = root / f"{split}{suffix}"
        if not file.is_file():
            continue
        by_study = present is studies
        depth = 4 if by_study else 5
        read = _read_csv(file, split, depth=depth, labelled=labelled, allow_outside=allow_outside)
        rows = list(_as_in_folder(read, present))
        counts = Counter(key for key, _ in rows)
        problems[f"listed in {file.name}, not in the folder"] = counts.keys() - present
        problems[f"in the folder, not listed in {file.name}"] = present - counts.keys()
        if by_study:
            problems[f"listed twice in {file.name}"] = {k for k, n in counts.items() if n > 1}
        contradicted: set[str] = set()
        for key, label in rows if labelled else ():
            study = key if by_study else key.rpartition("/")[0]
            if labels.get(study) is None:
                labels[study] = label
            elif labels[study] != label:
                contradicted.add(study)
        problems[f"label in {file.name} contradicts the folder or another row"] = contradicted
    return problems


def _read_csv(
    file: Path, split: str, *, depth: int, labelled: bool, allow_outside: bool
) -> Iterator[tuple[str, int | None]]:
    """Yield the last components of each row's path, joined by slashes, and its label."""
    form = "/".join(("...", split, "<study type>", "<patient>", "<study>", "<image>")[: depth + 1])
    columns = f"{form},label" if labelled else form
    try:
        text = read_text(file)
        sign = delimiter_of(text, lambda row: len(row) == 2) if labelled else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
        for row in reader:
            if not "".join(row).strip():
                continue
            where = f"{printable(file)}, row {reader.line_num}: expected"
            got = f"got {shorten(','.join(row), _LONGEST_ROW)!r}"
            if len(row) != 1 + labelled:
                raise ValueError(f"{where} {columns}, {got}")
            parts = [p for p in re.split(r"[\\/]", row[0].strip()) if p not in ("", ".")]
            key = parts[-depth:]
            if len(key) < depth or key[0] != split or ".." in key:
                raise ValueError(f"{where} {columns}, {got}")
            if not allow_outside and leaving(row[0]):
                raise ValueError(
                    f"{where} {columns}, below the root, {got}, an "
                    "absolute path or one with ..; write it relative to the root, or pass "
                    "allow_outside=True if you trust the file"
                )
            if any(part[0] == "." for part in key):
                continue
            if labelled and row[1].strip() not in ("0", "1"):
                raise ValueError(f"{where} label 0 or 1, got {shorten(row[1], _LONGEST_ROW)!r}")
            yield "/".join(key), int(row[1].strip()) if labelled else None
    except (csv.Error, UnicodeError) as error:
        raise ValueError(f"{printable(file)}: expected a CSV file in UTF-8, got {error}") from error


def _as_in_folder(
    rows: Iterable[tuple[str, int | None]], present: set[str]
) -> Iterator[tuple[str, int | None]]:
    """Yield rows with their keys in the Unicode form of the folder, which may be another one."""
    if "".join(present).isascii():
        yield from rows
        return
    forms = {unicodedata.normalize("NFC", key): key for key in present}
    for key, label in rows:
        yield key if key in present else forms.get(unicodedata.normalize("NFC", key), key), label


def _folder_problems(found: dict[str, list[str]]) -> dict[str, set[str]]:
    numbers = {study: re.sub("_(positive|negative)$", "", study) for study in found}
    counts = Counter(numbers.values())
    return {
        "study folder without an image": {s for s, names in found.items() if not names},
        "study number with two folders": {s for s, n in numbers.items() if counts[n] > 1},
    }


def _problem_report(root: Path, problems: dict[str, set[str]], *, use_csv: bool) -> str:
    lines = [
        f"  {what}: {len(which):,} ({_some(sorted(which, key=_natural))})"
        for what, which in problems.items()
        if which
    ]
    remedy = "The copy may be incomplete: copy it again, or remove the folders named."
    if use_csv:
        remedy += (
            " To take the folders as they are, with labels from their names: "
            "read_studies(root, use_csv=False)."
        )
    return "\n".join([f"{printable(root)}: expected complete studies, got", *lines, remedy])


# ------------------------------------------------------------------- the table


def _check_columns(studies: pd.DataFrame, *, with_patient: bool, with_label: bool) -> None:
    needed = ["study_type", *["patient"] * with_patient, "views", *["label"] * with_label]
    missing = [column for column in needed if column not in studies]
    if missing:
        got = _some(map(str, studies.columns), 20)
        raise ValueError(
            f"expected the columns {', '.join(needed)}, got {got}. "
            f"Missing: {', '.join(missing)}" + (" (or pass y)" if "label" in missing else "")
        )
    repeated = [column for column in needed if list(studies.columns).count(column) > 1]
    if repeated:
        raise ValueError(f"expected each column once, got several called {', '.join(repeated)}")
    for column in needed[: 1 + with_patient]:
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
    """Raise where a name is in another encoding, which no table, page or run could hold."""
    for column in ("study", "study_type", "patient"):
        if column not in studies or studies[column].dtype != object:
            continue
        values = studies[column].tolist()
        for row, value in enumerate(values):
            if isinstance(value, str) and not value.isascii() and _SURROGATE.search(value):
                raise ValueError(
                    f"expected {column} in UTF-8, got {value!r} in {_row(studies, row)}. Decode it "
                    'anew, such as value.encode("utf-8", "surrogateescape").decode("latin-1")'
                )


def _normal_views(studies: pd.DataFrame) -> list[tuple[str, ...]] | None:
    """Return the views as tuples of str, or None if they are already."""
    cells = studies["views"].tolist()
    changed = False
    for row, cell in enumerate(cells):
        # The usual cell, tested fast: tables may have a million rows.
        if type(cell) is tuple and set(map(type, cell)) == {str} and "" not in cell:
            continue
        changed = True
        cells[row] = _as_paths(cell)
        if not cells[row] or "" in cells[row]:
            raise _views_error(cell, _row(studies, row))
    return cells if changed else None


def _as_paths(cell: Any) -> tuple[str, ...]:
    """Return the paths as str, "" for an entry that is none, () for a cell that is none."""
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    if not isinstance(cell, tuple | list):
        return ()
    return tuple(str(os.fspath(p)) if isinstance(p, str | os.PathLike) else "" for p in cell)


def _views_error(cell: Any, row: str) -> Exception:
    expected = f"expected views as a tuple of image paths, got {cell!r} in {row}"
    if isinstance(cell, str | os.PathLike):
        return TypeError(f"{expected}. Write (path,) for a study of one view.")
    if not isinstance(cell, tuple | list | np.ndarray):
        return TypeError(f"{expected}. Give at least one path, or drop the row.")
    if len(cell) == 0:
        return ValueError(f"{expected}. Drop studies without a view from the table.")
    return TypeError(f"{expected}. Each entry must be a str or a path-like, and not empty.")


def _shared_files(studies: pd.DataFrame, shared: pd.DataFrame, paths: list[str]) -> str:
    """Return how many files several studies share, and the first of them with its studies."""
    first = shared[shared["code"] == shared["code"].iloc[0]]
    rows = " and ".join(_row(studies, row) for row in first["row"][:2])
    n = shared["code"].nunique()
    is_one = n == 1
    return (
        f"{n:,} file{'' if is_one else 's'} in several studies, {'' if is_one else 'such as '}"
        f"{printable(paths[first.index[0]])} in {rows}"
    )


def _is_first_draw(studies: pd.DataFrame, y: ArrayLike | None) -> np.ndarray:
    """Return which rows do not repeat an earlier one, label included."""
    rows = studies[studies.columns.intersection(["study", "study_type", "patient", "views"])]
    label = studies.get("label") if y is None else _as_array(y).ravel()
    if label is not None and len(label) == len(rows):  # another length is refused with the labels
        rows = rows.assign(label=np.asarray(label))
    try:
        return ~rows.duplicated().to_numpy()
    except TypeError:  # lists or dicts, which are refused with their column
        return np.ones(len(studies), bool)


def _check_unique(studies: pd.DataFrame, *, by_views: bool) -> None:
    repeated = pd.Series(dtype=object)
    remedy = 'Drop them: studies.drop_duplicates("study")'
    if "study" in studies:
        keys = studies["study"]
        try:
            repeated = keys[keys.notna() & keys.duplicated()]
        except TypeError as error:
            raise TypeError(
                f"expected study as texts or numbers, got others ({error}). Convert them: "
                'studies.assign(study=studies["study"].astype(str))'
            ) from error
    if by_views and repeated.empty:
        keys = studies["views"]
        repeated = keys[keys.duplicated()]
        remedy = 'Drop them: studies.drop_duplicates("views")'
    if not repeated.empty:
        raise ValueError(
            f"expected each study once, got {len(repeated):,} repeated: "
            f"{_some(map(str, repeated))}. {remedy}. Rows that are drawn with replacement need a "
            "column draw, which numbers them"
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
    """Return how values that are no labels become labels."""
    values = known.tolist()
    if all(isinstance(value, str) and value.strip() in ("0", "1") for value in values):
        return f"They are texts: {name}.astype(int)"
    if all(isinstance(value, int | float) and value in (1, 2) for value in values):
        return f"If 1 means normal and 2 abnormal: {name} - 1"
    return f'Map it, e.g. {name}.map({{"normal": 0, "abnormal": 1}})'


def _as_array(y: ArrayLike) -> np.ndarray:
    try:
        return np.asarray(y)
    except ValueError as error:  # rows of several lengths, or bytes among texts
        raise ValueError(
            f"expected y of shape (n_studies,), got what is no array ({error}). Give 0 or 1 for "
            "each study."
        ) from error


def _is_label(value: Any) -> bool:
    return isinstance(value, int | float | np.generic) and value in (0, 1)


# -------------------------------------------------------------------- messages


def _row(studies: pd.DataFrame, row: int) -> str:
    # Lists hold Python's own types: index 8, not np.int64(8).
    index = studies.index[[row]].tolist()[0]
    key = f", study {studies['study'].iloc[[row]].tolist()[0]!r}" if "study" in studies else ""
    return f"row {row} (index {index!r}{key})"


def _some(names: Iterable[str], n_named: int = _N_NAMED) -> str:
    names = list(names)
    named = [printable(shorten(name, _LONGEST_ROW)) for name in names[:n_named]]
    return ", ".join(named) + (", ..." if len(names) > n_named else "")
