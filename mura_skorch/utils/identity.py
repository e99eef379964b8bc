"""Identity: decide which patients are the same person, and which paths are the same file."""

import filecmp
import hashlib
import os
import re
import time
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from itertools import chain
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.utils.text import printable, shorten, some_names

__all__ = [
    "copied_files",
    "count_patients",
    "file_codes",
    "patient_codes",
    "patient_key",
    "patient_keys",
    "text_key",
    "warn_of_lookalikes",
]

T = TypeVar("T")

LONGEST_NAME = 200  # characters of a name in a message
# Enough to hide the delay of a network disk. A local one answers sooner than threads take turns.
N_THREADS = 8
PATIENCE = 1e-4  # seconds for a file
PATHS_PER_TASK = 256
SAMPLE = 4096  # bytes at the start, in the middle and at the end: tell most files of a size apart


# ------------------------------------------------------------------- patients


def patient_keys(
    patients: ArrayLike | pd.Series, name: str = "patient", *, missing: str | None = None
) -> np.ndarray:
    """Return a text for each row that is the same exactly where the patient is the same.

    Parameters
    ----------
    patients : array-like of shape (n_rows,)
        Patient ids: texts or whole numbers, which may be mixed.
    name : str, default="patient"
        What messages call the column.
    missing : str or None, default=None
        The key of a missing id. None raises where an id is missing.

    Returns
    -------
    ndarray of shape (n_rows,), object
        Keys of type str. They are for comparison: show the ids as they were given.

    Raises
    ------
    TypeError
        An id is neither a text nor a number, such as bytes or a tuple.
    ValueError
        An id is missing, an empty text, not in UTF-8, not a whole number, or a float too large to
        hold every whole number.

    See Also
    --------
    patient_codes : Integers instead of texts.

    Notes
    -----
    - 7, 7.0, "7", " 7 " and "7.0" are one patient. So are all Unicode forms of a text: it is
      compared in the form NFKC, without characters that take no space, and with each run of blanks
      as one space.
    - "007" is not "7": in some registers they are two people. See `warn_of_lookalikes`.
    - Upper and lower case are different.

    Examples
    --------
    >>> patient_keys([7, 7.0, " 7 ", "007"]).tolist()
    ['7', '7', '7', '007']
    """
    codes, distinct = _factorize(patients, name)
    absent = codes < 0
    if missing is None and absent.any():
        raise ValueError(
            f"expected {name} without missing values, got one in row {int(np.argmax(absent))}; "
            "fill it in or leave that row out"
        )
    keys = np.empty(len(distinct) + 1, dtype=object)
    keys[-1] = missing  # what the code -1 finds
    for code, value in enumerate(distinct):
        try:
            keys[code] = patient_key(value)
        except (TypeError, ValueError) as error:
            row = int(np.argmax(codes == code))
            raise type(error)(f"expected {name} as {error} in row {row}; {_REMEDY}") from error
    return keys[codes]


def patient_codes(patients: ArrayLike | pd.Series, name: str = "patient") -> np.ndarray:
    """Return an integer from 0 on for each row, the same where the patient is the same.

    Parameters
    ----------
    patients : array-like of shape (n_rows,)
        Patient ids as in `patient_keys`, none of which may be missing.
    name : str, default="patient"
        What messages call the column.

    Returns
    -------
    ndarray of shape (n_rows,), int64
        In the order of the keys, so that the order of the rows does not decide what the same seed
        draws.

    Raises
    ------
    TypeError, ValueError
        As in `patient_keys`.

    Warns
    -----
    UserWarning
        As in `warn_of_lookalikes`.

    Examples
    --------
    >>> patient_codes(["b", "a", "b"]).tolist()
    [1, 0, 1]
    """
    keys = patient_keys(patients, name)
    distinct, codes = np.unique(keys, return_inverse=True)
    warn_of_lookalikes(distinct, stacklevel=3)
    return codes


def count_patients(patients: ArrayLike | pd.Series) -> int:
    """Return the number of patients in a column, without the rows that name none.

    Parameters
    ----------
    patients : array-like of shape (n_rows,)
        Patient ids as in `patient_keys`.

    Examples
    --------
    >>> count_patients(["7", 7.0, None, "8"])
    2
    """
    return len({*patient_keys(patients, missing="")} - {""})


def warn_of_lookalikes(keys: Iterable[str], *, stacklevel: int = 2) -> None:
    """Warn where keys differ only in leading zeros, such as 007 and 7.

    Parameters
    ----------
    keys : iterable of str
        What `patient_keys` returns.
    stacklevel : int, default=2
        As in `warnings.warn`.

    Warns
    -----
    UserWarning
        Names the keys and says how to make them one.
    """
    alike: dict[str, set[str]] = defaultdict(set)
    for key in set(keys):
        if re.fullmatch(r"-?[0-9]+", key):
            alike[re.sub(r"^(-?)0+(?=[0-9])", r"\1", key)].add(key)
    found = [sorted(same) for same in alike.values() if len(same) > 1]
    if found:
        pairs = some_names(sorted(" and ".join(same) for same in found))
        warnings.warn(
            f"patients that differ only in leading zeros count as different people: {pairs}. If "
            "they are the same, write them alike: read the file with dtype=str, and fill up with "
            'zeros, as studies.assign(patient=studies["patient"].astype(str).str.zfill(5)) does',
            stacklevel=stacklevel + 1,
        )


def text_key(text: str) -> str:
    """Return the form of a text in which look-alikes of other encodings compare as equal.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        In the Unicode form NFKC, without characters that take no space, and with each run of
        blanks as one space, none at the ends.

    Examples
    --------
    >>> text_key(" M\u0075\u0308ller\u00a0A ") == "M\u00fcller A"
    True
    """
    if text.isascii() and text.isprintable() and "  " not in text:
        return text.strip()
    text = unicodedata.normalize("NFKC", text)
    kept = (c for c in text if c.isspace() or unicodedata.category(c) not in ("Cf", "Cc"))
    return " ".join(unicodedata.normalize("NFKC", "".join(kept)).split())


_WHOLE = re.compile(r"^(-?(?:0|[1-9][0-9]*))\.0+$")  # 7.0, not 007.0
_REMEDY = (
    "give each patient a text or a whole number, as "
    'studies.assign(patient=studies["patient"].astype(str)) does'
)


def _factorize(values: Any, name: str) -> tuple[np.ndarray, list[Any]]:
    """Return codes and the distinct values, in their own types."""
    if not isinstance(values, pd.Series):
        if isinstance(values, pd.Index | pd.api.extensions.ExtensionArray):
            values = pd.Series(values)
        elif not isinstance(values, np.ndarray):
            values = pd.Series(list(values), dtype=object)  # 7 beside "7" stays what it is
    try:
        codes, distinct = pd.factorize(values)
    except TypeError as error:  # lists and others without a hash
        raise TypeError(
            f"expected {name} as texts or whole numbers, got others ({error}); {_REMEDY}"
        ) from error
    return np.asarray(codes), list(distinct)


def patient_key(value: Any) -> str:
    """Return the key of one patient, as `patient_keys` does for a column.

    Parameters
    ----------
    value : str or number
        A patient id.

    Raises
    ------
    TypeError, ValueError
        As in `patient_keys`; the message completes the words "expected a patient as".

    Examples
    --------
    >>> patient_key(" 7.0 ")
    '7'
    """
    if isinstance(value, str):
        key = text_key(value)
        if not key:
            raise ValueError(f"a text that is not empty, {_got(value)}")
        if not key.isascii() and re.search("[\ud800-\udfff]", key):
            raise ValueError(f"a text in UTF-8, {_got(value)}")
        return _WHOLE.sub(r"\1", key) if key[-1] == "0" else key
    if isinstance(value, Integral) and not isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating | Decimal):
        if not np.isfinite(float(value)) or value != int(value):
            raise ValueError(f"a whole number, {_got(value)}")
        if not isinstance(value, Decimal) and abs(int(value)) >= _exact_below(value):
            limit = f"{_exact_below(value):,}"
            raise ValueError(f"a number that is stored exactly, below {limit}, {_got(value)}")
        return str(int(value))
    raise TypeError(f"a text or a whole number, {_got(value)} ({type(value).__name__})")


def _exact_below(value: float | np.floating) -> int:
    """Return the number from which on floats of a type skip whole numbers."""
    return 2 ** (int(np.finfo(type(value)).nmant) + 1)


def _got(value: Any) -> str:
    return f"got {printable(shorten(repr(value), LONGEST_NAME))}"


# ---------------------------------------------------------------------- files


def file_codes(paths: Iterable[str | os.PathLike[str]]) -> np.ndarray:
    """Return an integer for each path, the same where two paths lead to the same file.

    Parameters
    ----------
    paths : iterable of str or path-like
        Files, which are asked for but not opened.

    Returns
    -------
    ndarray of shape (n_paths,), int64

    Notes
    -----
    The disk decides by device and inode, so that relative paths, ``..``, doubled slashes, links,
    hard links and other Unicode forms of a name are seen through at the cost of one call per path.
    Some network disks give one number to two files: names of a number must lead to one place or
    hold the same bytes. A path without a file is compared as an absolute path.

    Examples
    --------
    >>> file_codes(["a.png", "b/../a.png", "b.png"]).tolist()
    [0, 0, 1]
    """
    names = [str(os.fspath(path)) for path in paths]
    distinct = list(dict.fromkeys(names))
    places = dict(zip(distinct, _asked(_place, distinct), strict=True))
    if len(set(places.values())) < len(distinct):
        _settle(places)
    return pd.factorize(pd.Series([places[name] for name in names], dtype=object))[0]


def copied_files(paths: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the files that hold the same bytes as another one.

    Parameters
    ----------
    paths : iterable of str
        Files. Those that cannot be read, and empty ones, are left out.

    Returns
    -------
    list of tuple of str
        The paths of each group of equal files, in the order given.

    Notes
    -----
    Only files of the same size are opened. Of those, only files that agree in three samples are
    read to their end.

    Examples
    --------
    >>> copied_files(["no/such/image1.png", "no/such/image2.png"])
    []
    """
    groups = [list(dict.fromkeys(paths))]
    for what in (_size, _sample, _digest):
        groups = list(_divide(groups, what))
    return [tuple(group) for group in groups]


def _divide(groups: list[list[str]], what: Callable[[str], Any]) -> Iterator[list[str]]:
    """Divide groups of paths by what is found of their files, and drop those without a second."""
    found = iter(_asked(what, [path for group in groups for path in group]))
    for group in groups:
        parts: dict[Any, list[str]] = defaultdict(list)
        for path in group:
            parts[next(found)].append(path)
        parts.pop(None, None)
        yield from (part for part in parts.values() if len(part) > 1)


def _asked(function: Callable[[str], T], paths: list[str]) -> list[T]:
    """Return what a function finds of each file: in threads once the disk lets it wait."""
    found: list[T] = []
    tasks = [paths[i : i + PATHS_PER_TASK] for i in range(0, len(paths), PATHS_PER_TASK)]
    for number, task in enumerate(tasks, start=1):
        begin = time.perf_counter()
        found += map(function, task)
        if time.perf_counter() - begin > PATIENCE * len(task):
            with ThreadPoolExecutor(N_THREADS) as pool:
                blocks = pool.map(lambda task: list(map(function, task)), tasks[number:])
                return [*found, *chain.from_iterable(blocks)]
    return found


def _place(path: str) -> Hashable:
    """Return device and inode of a file, or the absolute path where there is none."""
    try:
        found = os.stat(path)
        return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)
    except (OSError, ValueError):  # missing, forbidden, or no path at all: reading it will say so
        return os.path.abspath(path)


def _settle(places: dict[str, Hashable]) -> None:
    """Part the paths of one inode that are neither links nor of the same bytes."""
    groups: dict[Hashable, list[str]] = defaultdict(list)
    for path, place in places.items():
        groups[place].append(path)
    for group in groups.values():
        real = {path: os.path.realpath(path) for path in group} if len(group) > 1 else {}
        if len(set(real.values())) < 2:
            continue
        known: list[str] = []
        for path, target in real.items():
            same = next((k for k in known if k == target or _are_equal(k, target)), None)
            if same is None:
                known.append(target)
            places[path] = same or target


def _are_equal(first: str, second: str) -> bool:
    try:
        return filecmp.cmp(first, second, shallow=False)
    except OSError:
        return False


def _size(path: str) -> int | None:
    try:
        return os.path.getsize(path) or None
    except (OSError, ValueError):
        return None


def _sample(path: str) -> bytes | None:
    """Return a digest of the start, the middle and the end of a file."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            found = hashlib.blake2b()
            for place in (0, max(size - SAMPLE, 0) // 2, max(size - SAMPLE, 0)):
                file.seek(place)
                found.update(file.read(SAMPLE))
            return found.digest()
    except OSError:
        return None


def _digest(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "blake2b").digest()
    except OSError:
        return None
