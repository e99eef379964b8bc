"""Decide which patient ids are the same person, and which paths are the same file."""

import filecmp
import hashlib
import os
import re
import time
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from decimal import Decimal
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.remote import is_remote, stat_files
from mura_skorch.utils.text import printable, shorten, some_names

__all__ = [
    "copied_files",
    "count_patients",
    "file_codes",
    "map_files",
    "patient_codes",
    "patient_key",
    "patient_keys",
    "text_key",
    "warn_of_lookalikes",
]

T = TypeVar("T")

LONGEST_NAME = 200  # characters of a name in a message
# Threads hide the delay of a network disk. A local disk is faster without them.
N_THREADS = 8
SLOW = 1e-4  # seconds per file above which threads are used
N_TIMED = 256  # files that are timed, or read by a thread, together
SAMPLE = 4096  # bytes read at the start, the middle and the end of a file


# ------------------------------------------------------------------- patients


def patient_keys(
    patients: ArrayLike | pd.Series, name: str = "patient", *, missing: str | None = None
) -> np.ndarray:
    """Return a key for each row: two keys are equal if and only if the patient is the same.

    Parameters
    ----------
    patients : array-like of shape (n_rows,)
        Patient ids: texts or whole numbers, also mixed.
    name : str, default="patient"
        Name of the column in messages.
    missing : str or None, default=None
        The key of a missing id. None raises if an id is missing.

    Returns
    -------
    ndarray of shape (n_rows,), object
        Keys of type str, for comparison only. Show users the original ids.

    Raises
    ------
    TypeError
        An id is neither a text nor a number, such as bytes or a tuple.
    ValueError
        An id is missing, an empty text, not in UTF-8, not a whole number, or a float that is too
        large to be exact.

    See Also
    --------
    patient_codes : Integers instead of keys.

    Notes
    -----
    - 7, 7.0, "7", " 7 " and "7.0" are one patient. So are all Unicode forms of a text, see
      `text_key`.
    - "007" is not "7": in some registers they are two people. See `warn_of_lookalikes`.
    - Upper and lower case differ.

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
            "fill it in or drop that row"
        )
    keys = np.empty(len(distinct) + 1, dtype=object)
    keys[-1] = missing  # the code of a missing id is -1
    for code, value in enumerate(distinct):
        try:
            keys[code] = patient_key(value)
        except (TypeError, ValueError) as error:
            row = int(np.argmax(codes == code))
            raise type(error)(f"expected {name} as {error} in row {row}; {_REMEDY}") from error
    return keys[codes]


def patient_codes(patients: ArrayLike | pd.Series, name: str = "patient") -> np.ndarray:
    """Return an integer for each row, from 0, the same for the same patient.

    Parameters
    ----------
    patients : array-like of shape (n_rows,)
        Patient ids as in `patient_keys`, without missing ones.
    name : str, default="patient"
        Name of the column in messages.

    Returns
    -------
    ndarray of shape (n_rows,), int64
        In the order of the keys: with a fixed seed, the order of the rows changes no random draw.

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
    """Return the number of patients in a column; rows without an id do not count.

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
    """Warn if keys differ only in leading zeros, such as 007 and 7.

    Parameters
    ----------
    keys : iterable of str
        As `patient_keys` returns them.
    stacklevel : int, default=2
        As in `warnings.warn`.

    Warns
    -----
    UserWarning
        It names the keys and says how to unify them.
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
            "they are the same, write them alike: read the file with dtype=str, and pad with "
            'zeros, as studies.assign(patient=studies["patient"].astype(str).str.zfill(5)) does',
            stacklevel=stacklevel + 1,
        )


def text_key(text: str) -> str:
    """Return a normal form of a text, equal for all Unicode forms of it.

    Parameters
    ----------
    text : str
        Any text.

    Returns
    -------
    str
        In the form NFKC, without invisible characters, with each run of blanks as one space and
        none at the ends.

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
    """Return codes and the distinct values, with their types."""
    if not isinstance(values, pd.Series):
        if isinstance(values, pd.Index | pd.api.extensions.ExtensionArray):
            values = pd.Series(values)
        elif not isinstance(values, np.ndarray):
            values = pd.Series(list(values), dtype=object)  # keep 7 and "7" apart
    try:
        codes, distinct = pd.factorize(values)
    except TypeError as error:  # lists and other unhashable values
        raise TypeError(
            f"expected {name} as texts or whole numbers, got others ({error}); {_REMEDY}"
        ) from error
    return np.asarray(codes), list(distinct)


def patient_key(value: Any) -> str:
    """Return the key of one patient, see `patient_keys`.

    Parameters
    ----------
    value : str or number
        A patient id.

    Raises
    ------
    TypeError, ValueError
        As in `patient_keys`; the message continues "expected a patient as".

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
    """Return the number above which floats of a type skip whole numbers."""
    return 2 ** (int(np.finfo(type(value)).nmant) + 1)


def _got(value: Any) -> str:
    return f"got {printable(shorten(repr(value), LONGEST_NAME))}"


# ---------------------------------------------------------------------- files


def file_codes(paths: Iterable[str | os.PathLike[str]]) -> np.ndarray:
    """Return an integer for each path, the same for paths to the same file.

    Parameters
    ----------
    paths : iterable of str or path-like
        Files; they are not opened.

    Returns
    -------
    ndarray of shape (n_paths,), int64

    Notes
    -----
    Files are compared by device and inode, at the cost of one call per path. This covers relative
    paths, ``..``, doubled slashes, links, hard links and Unicode forms of a name. Some network
    disks give two files the same inode: such paths must also have the same real path or the same
    bytes. A path without a file is compared as an absolute path, an address as it is written.

    Examples
    --------
    >>> file_codes(["a.png", "b/../a.png", "b.png"]).tolist()
    [0, 0, 1]
    """
    names = [str(os.fspath(path)) for path in paths]
    distinct = list(dict.fromkeys(names))
    places = dict(zip(distinct, map_files(_place, distinct), strict=True))
    if len(set(places.values())) < len(distinct):
        _split_shared_inodes(places)
    return pd.factorize(pd.Series([places[name] for name in names], dtype=object))[0]


def copied_files(paths: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the files that have the same bytes as another one.

    Parameters
    ----------
    paths : iterable of str
        Files. Unreadable and empty ones are ignored.

    Returns
    -------
    list of tuple of str
        The paths of each group of equal files, in the given order.

    Notes
    -----
    Only files of the same size are opened. Only those with the same three samples are read
    completely. Remote files are not read: their stores name digests of them (an ETag of s3://, an
    MD5 of gs://); of web servers, copies are not found.

    Examples
    --------
    >>> copied_files(["no/such/image1.png", "no/such/image2.png"])
    []
    """
    paths = list(dict.fromkeys(paths))
    remote = stat_files(paths, fresh=False)
    of_stores: dict[tuple[int, str], list[str]] = defaultdict(list)
    for path, found in remote.items():
        if found.size > 0 and found.digest:
            of_stores[found.size, found.digest].append(path)
    groups = [[path for path in paths if path not in remote]]
    for property_of in (_size, _sample, _digest):
        groups = list(_divide(groups, property_of))
    groups += [group for group in of_stores.values() if len(group) > 1]
    return [tuple(group) for group in groups]


def _divide(groups: list[list[str]], property_of: Callable[[str], Any]) -> Iterator[list[str]]:
    """Divide groups of paths by a property of their files; drop groups of one path."""
    found = iter(map_files(property_of, [path for group in groups for path in group]))
    for group in groups:
        parts: dict[Any, list[str]] = defaultdict(list)
        for path in group:
            parts[next(found)].append(path)
        parts.pop(None, None)
        yield from (part for part in parts.values() if len(part) > 1)


def map_files(function: Callable[[str], T], paths: list[str]) -> list[T]:
    """Return the results of a function for files, computed in threads if the disk is slow."""
    found: list[T] = []
    for start in range(0, len(paths), N_TIMED):
        part = paths[start : start + N_TIMED]
        begin = time.perf_counter()
        found += [function(path) for path in part]
        if time.perf_counter() - begin > SLOW * len(part):
            return found + map_in_threads(
                function,
                paths[start + N_TIMED :],
                desc="look at files",
                unit="file",
                n_threads=N_THREADS,
                chunksize=N_TIMED,
                leave=False,
                delay=1.0,
            )
    return found


def _place(path: str) -> Hashable:
    """Return device and inode of a file, or the absolute path if there is no file."""
    if is_remote(path):
        return path
    try:
        found = os.stat(path)
        return (found.st_dev, found.st_ino) if found.st_ino else os.path.realpath(path)
    except (OSError, ValueError):  # missing, forbidden or invalid: reading it will raise
        return os.path.abspath(path)


def _split_shared_inodes(places: dict[str, Hashable]) -> None:
    """Separate paths with the same inode that are neither links nor have the same bytes."""
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
