"""Read studies: of a folder in MURA's layout, or of a table."""

import csv
import io
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from mura_skorch.studies.columns import SPLITS
from mura_skorch.studies.read_counts import with_read_counts
from mura_skorch.studies.remote_folder import RemoteFolder
from mura_skorch.studies.study_table import is_table_file, read_study_table
from mura_skorch.utils.csv_files import delimiter_of, read_text
from mura_skorch.utils.paths import is_unsafe_path, paths_outside
from mura_skorch.utils.remote import is_remote, open_file
from mura_skorch.utils.text import (
    LONGEST_NOTE,
    LONGEST_ROW,
    N_NAMED,
    printable,
    shorten,
    some_names,
)

__all__ = ["read_studies"]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".jp2", ".tif", ".tiff", ".bmp", ".pgm", ".webp")
_LAYOUT = "<root>/train/<study type>/<patient>/study1_positive/image1.png"
_LABELS = {"positive": 1, "negative": 0}
_CSV_SUFFIXES = ("_image_paths.csv", "_labeled_studies.csv", ".csv")  # after the split
_CSV_NAMES = {f"{split}{suffix}" for split in SPLITS for suffix in _CSV_SUFFIXES}
_DIGITS = re.compile("([0-9]+)")
_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python decodes bytes that are not UTF-8


def read_studies(
    root: str | os.PathLike[str], *, use_csv: bool = True, allow_outside: bool = False
) -> pd.DataFrame:
    """Read a folder in MURA's layout, or a table of studies, as a study table.

    Parameters
    ----------
    root : str or path-like
        The folder with ``train`` and ``valid``, of any name, or its parent; of MURA 1.0 or 1.1. A
        str may be an address of an object store, such as ``s3://bucket/MURA-v1.1`` or ``gs://...``,
        of which everything below is listed at once. Or a table of studies, see Notes: a file or an
        address that ends in ``.csv`` or ``.parquet``.
    use_csv : bool, default=True
        Compare the folders with the CSV files in the root, if any, and also take labels from them.
        False ignores the files and takes labels from the names of folders. Of no use for a table.
    allow_outside : bool, default=False
        Follow links that leave the root, and accept absolute paths and ``..`` in CSV files. The
        root itself may be a link, and links within it are always followed. A table on this machine
        may always name any file, one at an address only those next to it and other addresses.

    Returns
    -------
    studies : DataFrame of shape (n_studies, 6)
        Of a folder, sorted by split, study type, patient, study. ``study`` is the unique key
        ``<split>/<study type>/<patient>/<study folder>``; ``split``, ``study_type`` and
        ``patient`` are its parts; ``views`` is a tuple of absolute image paths, or addresses, in
        natural order (image2 before image10); ``label`` is Int8, 1 abnormal, 0 normal, ``<NA>``
        unlabelled.
        The first line of a file ``NOTE.txt`` in the root becomes a seventh column ``note``, a
        caveat that all outputs show. A table keeps its order and further columns, and has no
        ``split`` if the file has none.

    Raises
    ------
    FileNotFoundError
        The folder or the table does not exist, or an image that the table names.
    NotADirectoryError
        The root is a file.
    ImportError
        The package for an address is not installed.
    OSError
        The store of an address does not answer or denies access.
    ValueError
        The folder holds no study or is not the root; folders and CSV files disagree; a study has
        no image, two labels or two rows; a row of a CSV file is invalid; a link or a row leaves
        the root; a name is not in UTF-8; a cell of a table is invalid.

    See Also
    --------
    mura_skorch.studies.write_studies : Writes a table.

    Notes
    -----
    **A table** has the columns ``study`` (a unique key), ``study_type``, ``patient`` and ``views``,
    and may have ``split`` (train, valid or test), ``label`` (0 or normal, 1 or abnormal, empty
    unlabelled) and any others. ``views`` holds paths with semicolons between them, a JSON list or
    the tuple that pandas writes; in parquet also a list. Or the table has a row per view, with
    ``path`` (or ``view``) instead of ``views``: rows with the same ``study`` become one study, in
    their order. Relative paths start at the folder of the table. In CSV files, all ids are
    texts ("0010" stays so), and the forms of spreadsheets are read: semicolons or tabs between
    fields, a byte order mark, UTF-16, empty rows and columns.

    **A folder's** CSV files are ``<split>_image_paths.csv`` and ``<split>_labeled_studies.csv``
    (v1.1) and ``<split>.csv`` (v1.0), in UTF-8 or UTF-16. Their paths are matched by their last
    components, in any Unicode form, so that the root may have any name. Hidden files, which start
    with a dot, and files of other types are ignored. No row of a CSV file is ever opened as a path.

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
    if is_table_file(root) and not str(root).endswith(_CSV_SUFFIXES[:2]):  # which MURA's have
        return read_study_table(root, allow_outside=allow_outside)
    listing: RemoteFolder | None = None
    if is_remote(root):
        listing = RemoteFolder(str(root))
        folder = _find_root(listing.root, listing)
    else:
        folder = _find_root(_check_folder(Path(root).expanduser().resolve()))
    links: list[str] = []
    found = dict(_walk(folder, links, listing))
    _check_names(folder, found)
    if not allow_outside and listing is None:
        _check_links(folder, links)
    labels: dict[str, int | None] = {study: _folder_label(study) for study in found}
    problems = _folder_problems(found)
    names = _files(folder, listing)
    if use_csv:
        for split in SPLITS:
            problems |= _join_csv(folder, split, found, labels, names, allow_outside=allow_outside)
    if any(problems.values()):
        raise ValueError(_problem_report(folder, problems, use_csv=use_csv))
    if not found:
        raise ValueError(
            f"{printable(folder)}: expected studies as in {_LAYOUT}, got no study folder"
        )

    keys = [study.split("/") for study in found]
    places = [_join(folder, *key, "") for key in keys]
    studies = pd.DataFrame(
        {
            "study": list(found),
            "split": [key[0] for key in keys],
            "study_type": [key[1] for key in keys],
            "patient": [key[2] for key in keys],
            "views": [
                tuple([place + name for name in names])
                for place, names in zip(places, found.values(), strict=True)
            ],
            "label": pd.array([labels[study] for study in found], dtype="Int8"),
        }
    )
    if "NOTE.txt" in names:
        with (
            open_file(_join(folder, "NOTE.txt")) as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace") as lines,
        ):
            studies["note"] = printable(lines.readline(LONGEST_NOTE).strip())
    return with_read_counts(studies)


def _check_folder(path: Path) -> str:
    """Return the path as a text; raise if it is no folder."""
    shown = printable(path)
    if not path.exists():
        is_address = not {"s3:", "gs:"}.isdisjoint(path.parts)
        remedy = "Pass an address as str, not as Path." if is_address else "Check the path."
        raise FileNotFoundError(
            f"{shown}: expected the folder that holds train and valid, got no such folder. {remedy}"
        )
    if not path.is_dir():
        raise NotADirectoryError(
            f"{shown}: expected the folder that holds train and valid, or a table of studies "
            "(.csv or .parquet), got a file. Pass the folder; an archive must be unpacked first, "
            "and a spreadsheet saved as CSV."
        )
    return str(path)


def _join(folder: str, *names: str) -> str:
    return "/".join((folder, *names)) if is_remote(folder) else os.path.join(folder, *names)


def _find_root(path: str, listing: RemoteFolder | None = None) -> str:
    """Return the folder with the splits: the path itself, or its only child with splits."""
    if _is_root(path, listing):
        return path
    children = [_join(path, name) for name in _subfolders(path, listing=listing)]
    roots = [child for child in children if _is_root(child, listing)]
    if len(roots) == 1:
        return roots[0]
    expected = f"{printable(path)}: expected a folder that holds train and valid, got"
    if roots:
        raise ValueError(
            f"{expected} one that holds several of them: {some_names(roots)}. Choose one."
        )
    # Limited, so that a wrong path on a large disk fails quickly.
    grandchildren = (
        _join(child, name)
        for child in children[:100]
        for name in _subfolders(child, listing=listing)[:100]
    )
    roots = [folder for folder in grandchildren if _is_root(folder, listing)]
    if roots:
        raise ValueError(f"{expected} one too high. Pass {printable(' or '.join(roots[:N_NAMED]))}")
    above = path
    for _ in range(4):
        above, name = os.path.split(above)
        if name in SPLITS:
            raise ValueError(
                f"{expected} a folder inside its {name}. Pass {printable(above)} and "
                'select rows of the table, e.g. studies[studies.study_type == "XR_WRIST"]'
            )
    present = os.listdir(path) if listing is None else listing.folders[path] | listing.files[path]
    names = sorted(present, key=_natural)
    raise ValueError(
        f"{expected} {f'one with {some_names(names)}' if names else 'an empty folder'}. "
        f"The layout is {_LAYOUT}"
    )


def _is_root(folder: str, listing: RemoteFolder | None) -> bool:
    """Return whether the folder has a split."""
    if listing is not None:
        return not listing.folders[folder].isdisjoint(SPLITS)
    return any(os.path.isdir(os.path.join(folder, split)) for split in SPLITS)


def _walk(
    root: str, links: list[str], listing: RemoteFolder | None
) -> Iterator[tuple[str, list[str]]]:
    """Yield each study's key with the names of its images, in the order of the table.

    Links to folders and images are appended to `links`.
    """
    for split in SPLITS:
        for study_type in _subfolders(_join(root, split), links, listing):
            for patient in _subfolders(_join(root, split, study_type), links, listing):
                key = f"{split}/{study_type}/{patient}"
                folder = _join(root, split, study_type, patient)
                for study in _subfolders(folder, links, listing):
                    yield f"{key}/{study}", _images(_join(folder, study), links, listing)


def _subfolders(
    folder: str, links: list[str] | None = None, listing: RemoteFolder | None = None
) -> list[str]:
    """Return the names of subfolders in natural order; append links to `links`."""
    if listing is not None:
        return sorted((n for n in listing.folders[folder] if n[:1] not in ("", ".")), key=_natural)
    try:
        with os.scandir(folder) as entries:
            found = [e for e in entries if e.name[0] != "." and e.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    return _sorted_names(found, links)


def _images(folder: str, links: list[str], listing: RemoteFolder | None) -> list[str]:
    """Return the names of images in natural order; append links to `links`."""
    if listing is not None:
        named = (n for n in listing.files[folder] if n[:1] != ".")
        return sorted((n for n in named if n.lower().endswith(IMAGE_SUFFIXES)), key=_natural)
    with os.scandir(folder) as entries:
        found = [e for e in entries if e.name[0] != "." and e.is_file()]
    return _sorted_names([e for e in found if e.name.lower().endswith(IMAGE_SUFFIXES)], links)


def _files(folder: str, listing: RemoteFolder | None) -> set[str]:
    """Return the names of the files in a folder."""
    if listing is not None:
        return listing.files[folder]
    with os.scandir(folder) as entries:
        return {e.name for e in entries if e.is_file()}


def _sorted_names(entries: list[os.DirEntry[str]], links: list[str] | None) -> list[str]:
    if links is not None:
        # The directory entries know which are links, without further disk access.
        links += [e.path for e in entries if e.is_symlink()]
    return sorted([e.name for e in entries], key=_natural)


def _check_links(root: str, links: list[str]) -> None:
    """Raise a ValueError if a link to a folder, image, CSV file or the note leaves the root."""
    first = [os.path.join(root, name) for name in (*SPLITS, *sorted(_CSV_NAMES), "NOTE.txt")]
    if found := paths_outside(root, [*filter(os.path.islink, first), *links]):
        raise ValueError(
            f"{printable(root)}: expected links that stay within the folder, got {len(found):,} "
            f"that leave it: {some_names(found)}. Copy their targets, or pass "
            "allow_outside=True if you trust their source."
        )


def _check_names(root: str, found: dict[str, list[str]]) -> None:
    """Raise a ValueError if a name is not in UTF-8: neither CSV, HTML nor MLflow could hold it."""
    if "".join(chain(found, *found.values())).isascii():
        return
    paths = (f"{study}/{name}" for study, names in found.items() for name in ("", *names))
    wrong = [path for path in paths if _SURROGATE.search(path)]
    if wrong:
        raise ValueError(
            f"{printable(root)}: expected names in UTF-8, got {len(wrong):,} in another encoding: "
            f"{some_names(wrong)}. Rename them, for example with convmv."
        )


@lru_cache(maxsize=1024)  # a folder of MURA has 40,000 images of a dozen names
def _natural(name: str) -> tuple[Any, ...]:
    """Sort key of natural order: image2 before image10. Ties are sorted by name."""
    parts: list[Any] = _DIGITS.split(name)
    # Compared as text, since int() refuses more than 4,300 digits.
    numbers = (p.lstrip("0") for p in parts[1::2])
    parts[1::2] = [(len(n), n) for n in numbers]
    return (*parts, name)


def _folder_label(study: str) -> int | None:
    """Return the label at the end of a study folder's name, None without one."""
    return _LABELS.get(study.rpartition("_")[2])


def _join_csv(
    root: str,
    split: str,
    found: dict[str, list[str]],
    labels: dict[str, int | None],
    names: set[str],
    *,
    allow_outside: bool,
) -> dict[str, set[str]]:
    """Add labels that folder names lack; return where CSV files and folders disagree."""
    problems: dict[str, set[str]] = {}
    studies = {study for study in found if study.startswith(f"{split}/")}
    images = {f"{study}/{name}" for study in studies for name in found[study]}
    kinds = ((images, False), (studies, True), (images, True))
    for suffix, (present, labelled) in zip(_CSV_SUFFIXES, kinds, strict=True):
        name = f"{split}{suffix}"
        if name not in names:
            continue
        file = _join(root, name)
        by_study = present is studies
        depth = 4 if by_study else 5
        read = _read_csv(file, split, depth=depth, labelled=labelled, allow_outside=allow_outside)
        rows = list(_as_in_folder(read, present))
        counts = Counter(key for key, _ in rows)
        problems[f"listed in {name}, not in the folder"] = counts.keys() - present
        problems[f"in the folder, not listed in {name}"] = present - counts.keys()
        if by_study:
            problems[f"listed twice in {name}"] = {k for k, n in counts.items() if n > 1}
        contradicted: set[str] = set()
        for key, label in rows if labelled else ():
            study = key if by_study else key.rpartition("/")[0]
            if labels.get(study) is None:
                labels[study] = label
            elif labels[study] != label:
                contradicted.add(study)
        problems[f"label in {name} contradicts the folder or another row"] = contradicted
    return problems


def _read_csv(
    file: str, split: str, *, depth: int, labelled: bool, allow_outside: bool
) -> Iterator[tuple[str, int | None]]:
    """Yield the key of each row (the last components of its path) and its label."""
    form = "/".join(("...", split, "<study type>", "<patient>", "<study>", "<image>")[: depth + 1])
    columns = f"{form},label" if labelled else form
    try:
        text = read_text(file)
        sign = delimiter_of(text, lambda row: len(row) == 2) if labelled else ","
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=sign)
        for row in reader:
            if not "".join(row).strip():
                continue
            if len(row) != 1 + labelled:
                raise _row_error(file, reader.line_num, columns, row)
            parts = row[0].strip().replace("\\", "/").split("/")
            key = [part for part in parts if part not in ("", ".")][-depth:]
            if len(key) < depth or key[0] != split or ".." in key:
                raise _row_error(file, reader.line_num, columns, row)
            if not allow_outside and is_unsafe_path(row[0]):
                raise _row_error(
                    file,
                    reader.line_num,
                    f"{columns}, below the root",
                    row,
                    ", an absolute path or one with ..; write it relative to the root, or pass "
                    "allow_outside=True if you trust the file",
                )
            path = "/".join(key)
            if path[0] == "." or "/." in path:  # hidden
                continue
            label = row[1].strip() if labelled else ""
            if labelled and label not in ("0", "1"):
                raise _row_error(file, reader.line_num, "label 0 or 1", row[1:])
            yield path, int(label) if labelled else None
    except (csv.Error, UnicodeError) as error:
        raise ValueError(f"{printable(file)}: expected a CSV file in UTF-8, got {error}") from error


def _row_error(
    file: str, number: int, expected: str, got: list[str], remedy: str = ""
) -> ValueError:
    """Return the error for a row of a CSV file."""
    where = f"{printable(file)}, row {number}"
    shown = shorten(",".join(got), LONGEST_ROW)
    return ValueError(f"{where}: expected {expected}, got {shown!r}{remedy}")


def _as_in_folder(
    rows: Iterable[tuple[str, int | None]], present: set[str]
) -> Iterator[tuple[str, int | None]]:
    """Yield rows with their keys in the Unicode form of the folder."""
    if "".join(present).isascii():
        yield from rows
        return
    forms = {unicodedata.normalize("NFC", key): key for key in present}
    for key, label in rows:
        yield key if key in present else forms.get(unicodedata.normalize("NFC", key), key), label


def _folder_problems(found: dict[str, list[str]]) -> dict[str, set[str]]:
    """Return studies without an image, and those with two folders, by problem."""
    numbers = {study: re.sub("_(positive|negative)$", "", study) for study in found}
    counts = Counter(numbers.values())
    return {
        "study folder without an image": {s for s, names in found.items() if not names},
        "study number with two folders": {s for s, n in numbers.items() if counts[n] > 1},
    }


def _problem_report(root: str, problems: dict[str, set[str]], *, use_csv: bool) -> str:
    """Return the error message with all problems and the remedy."""
    lines = [
        f"  {what}: {len(which):,} ({some_names(sorted(which, key=_natural))})"
        for what, which in problems.items()
        if which
    ]
    remedy = "The copy may be incomplete: copy it again, or remove the listed folders."
    if use_csv:
        remedy += (
            " To ignore the CSV files and take labels from folder names: "
            "read_studies(root, use_csv=False)."
        )
    return "\n".join([f"{printable(root)}: expected complete studies, got", *lines, remedy])
