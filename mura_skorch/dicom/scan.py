"""Scan a folder for DICOM radiographs and read their headers."""

import filecmp
import os
from collections import defaultdict
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from mura_skorch.dicom.headers import import_pydicom
from mura_skorch.dicom.reader import is_dicom, read_dicom_fields, read_stored_values
from mura_skorch.utils.identity import patient_key, text_key
from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.remote import is_remote
from mura_skorch.utils.text import printable, some_names

__all__ = ["LeftOut", "holds_dicom", "read_headers"]

DAMAGED = "truncated or damaged"
# DICOM PS3.6, annex A: screenshots, scanned paper and the like, of one or several frames.
_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SECONDARY_CAPTURES = {_CAPTURE, *(f"{_CAPTURE}.{n}" for n in range(1, 5))}

LeftOut = defaultdict[str, list[str]]  # paths by the reason


def read_headers(
    folder: str | os.PathLike[str], modalities: set[str], *, skip: bool = False
) -> tuple[list[dict[str, Any]], LeftOut]:
    """Read the identifying header elements of all radiographs in a folder.

    Parameters
    ----------
    folder : path
        Searched with all subfolders except hidden ones.
    modalities : set of str
        Modalities to read, such as DX.
    skip : bool, default=False
        Skip damaged files instead of raising.

    Returns
    -------
    files : list of dict
        For each file, its absolute ``path`` and what
        `mura_skorch.dicom.reader.read_dicom_fields` returns; also ``shares_uid``, True, if another
        patient or another picture has the same SOPInstanceUID.
    left_out : dict of str to list of str
        The paths of skipped files, and of links to folders, by reason.

    Raises
    ------
    FileNotFoundError, ImportError, OSError, ValueError
        As in `mura_skorch.dicom.read_dicom_studies`.
    """
    if is_remote(folder):
        raise ValueError(
            f"expected a folder on disk, got {printable(folder)}; DICOM headers are not read over "
            "a network: copy the folder, or make a table whose views are addresses"
        )
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(
            f"{folder}: expected a folder of DICOM files, got none. Check the path."
        )
    left_out: LeftOut = defaultdict(list)
    paths, links = _paths(root)
    if links:
        left_out["links to folders, which are not followed"] = links
    with import_pydicom().config.disable_value_validation():  # its warnings would quote ids
        found = map_in_threads(_fields, paths, desc="DICOM headers", unit="file")
    pairs = list(zip(paths, found, strict=True))
    if broken := [path for path, fields in pairs if fields == {}]:
        if not skip:
            raise ValueError(
                f"{folder}: expected readable DICOM files, got {len(broken):,} {DAMAGED}: "
                f"{some_names(broken)}. Copy them again, or skip them with on_bad_file."
            )
        left_out[DAMAGED] = broken
    files = [{"path": path, **(fields or {})} for path, fields in pairs if fields != {}]
    files = _images(files, modalities, left_out)
    if not files:
        raise ValueError(
            f"{folder}: expected DICOM files of modality {', '.join(sorted(modalities))}, got "
            f"{counted(left_out) or 'no file'}. Check the folder, or pass other modalities."
        )
    return files, left_out


def holds_dicom(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder or any of its subfolders holds a DICOM file."""
    for path in _paths(folder)[0]:
        with open(path, "rb") as file:
            if is_dicom(file):
                return True
    return False


def counted(left_out: LeftOut) -> str:
    """Describe the number of files by reason, most frequent first."""
    ordered = sorted(left_out.items(), key=lambda item: -len(item[1]))
    return ", ".join(f"{len(paths):,} {reason}" for reason, paths in ordered)


def _paths(folder: str | os.PathLike[str]) -> tuple[list[str], list[str]]:
    """Return all files below a folder and the links to folders, without hidden ones."""
    found, links = [], []
    for place, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        below = [os.path.join(place, name) for name in folders]
        links += [path for path in below if os.path.islink(path)]  # os.walk enters none of them
        found += [os.path.join(place, name) for name in sorted(names) if name[0] != "."]
    return found, links


def _refuse(error: OSError) -> NoReturn:
    """Raise an error that names the unreadable folder."""
    raise OSError(
        error.errno,
        f"expected a readable folder, got {error.strerror}. Check its permissions",
        error.filename,
    ) from None


def _fields(path: str) -> dict[str, Any] | None:
    """Return the header elements of a file, None if it is not DICOM, {} if it is damaged."""
    try:
        return read_dicom_fields(path)
    except OSError:
        raise
    except Exception:  # of many types, whose texts may quote the header
        return {}


def _images(
    files: list[dict[str, Any]], modalities: set[str], left_out: LeftOut
) -> list[dict[str, Any]]:
    """Return the radiographs, and add the other files to `left_out`."""
    radiographs: list[dict[str, Any]] = []
    same_uid: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in files:
        if reason := _reason(file, modalities):
            left_out[reason].append(file["path"])
            continue
        radiographs.append(file)
        if uid := file["SOPInstanceUID"]:
            same_uid[uid].append(file)
    groups = [group for group in same_uid.values() if len(group) > 1]
    if not groups:
        return radiographs
    copies = set(chain.from_iterable(map_in_threads(_copies, groups, desc="copies", unit="UID")))
    left_out["second copies"] += [file["path"] for file in radiographs if file["path"] in copies]
    for group in groups:
        different = [file for file in group if file["path"] not in copies]
        if len(different) > 1:
            for file in different:
                file["shares_uid"] = True
    if not left_out["second copies"]:
        del left_out["second copies"]
    return [file for file in radiographs if file["path"] not in copies]


def _copies(group: list[dict[str, Any]]) -> list[str]:
    """Return the paths of files that repeat an earlier one of the same SOPInstanceUID."""
    copies: list[str] = []
    originals: list[dict[str, Any]] = []
    for file in group:
        if any(_is_copy(file, other) for other in originals):
            copies.append(file["path"])
        else:
            originals.append(file)
    return copies


def _is_copy(file: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two files show the same picture of the same patient and study."""
    if file["StudyInstanceUID"] != other["StudyInstanceUID"] or _who(file) != _who(other):
        return False
    if filecmp.cmp(file["path"], other["path"], shallow=False):
        return True
    try:
        with open(file["path"], "rb") as first, open(other["path"], "rb") as second:
            return np.array_equal(read_stored_values(first), read_stored_values(second))
    except (ImportError, OSError, ValueError, Image.DecompressionBombError):
        return False  # cannot compare the pictures; `fit` will report the error


def _who(file: dict[str, Any]) -> str:
    """Return the key of the patient, "" if unknown."""
    return patient_key(file["PatientID"]) if text_key(file["PatientID"]) else ""


def _reason(file: dict[str, Any], modalities: set[str]) -> str:
    """Return the reason to skip a file, "" for a radiograph."""
    if "Modality" not in file:
        return "not DICOM"
    if file["Modality"] not in modalities:
        return f"of modality {file['Modality'] or 'unknown'}"
    if file["SOPClassUID"] in SECONDARY_CAPTURES:
        return "secondary captures, such as screenshots"
    if not file["Rows"]:
        return "without an image"
    if file["PresentationIntentType"].upper() == "FOR PROCESSING":
        return "for processing, not for viewing"
    return ""
