"""DICOM folders: a folder goes in, the header fields of the radiographs in it come out."""

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mura_skorch.dicom.files import is_dicom, read_dicom_fields
from mura_skorch.dicom.headers import import_pydicom
from mura_skorch.progress import map_in_threads

__all__ = ["holds_dicom", "read_headers"]

N_NAMED = 5


def read_headers(
    folder: str | os.PathLike[str], modalities: set[str]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Read what orders the radiographs of a folder, without their pixels.

    Parameters
    ----------
    folder : path
        Searched with all its subfolders, but not hidden ones.
    modalities : set of str
        Whose files are taken, such as DX.

    Returns
    -------
    files : list of dict
        For each file taken, its absolute ``path`` and what
        `mura_skorch.dicom.files.read_dicom_fields` returns.
    left_out : Counter
        How many files were not taken, by the reason.

    Raises
    ------
    FileNotFoundError, ImportError, ValueError
        As in `mura_skorch.dicom.read_dicom_studies`.
    """
    root = Path(folder).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(
            f"{folder}: expected a folder of DICOM files, got none. Check the path."
        )
    paths = _paths(root)
    with import_pydicom().config.disable_value_validation():  # its warnings would quote ids
        found = map_in_threads(_fields, paths, desc="DICOM headers", unit="file")
    pairs = list(zip(paths, found, strict=True))
    if broken := [path for path, fields in pairs if fields == {}]:
        raise ValueError(
            f"{folder}: expected readable DICOM files, got {len(broken):,} truncated or damaged: "
            f"{some(broken)}. Copy them again, or move them elsewhere."
        )
    left_out: Counter[str] = Counter()
    files = _images([{"path": p, **(f or {})} for p, f in pairs], modalities, left_out)
    if not files:
        raise ValueError(
            f"{folder}: expected DICOM files of modality {', '.join(sorted(modalities))}, got "
            f"{counted(left_out) or 'no file'}. Check the folder, or name other modalities."
        )
    return files, left_out


def holds_dicom(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder or a subfolder of it holds a DICOM file."""
    for path in _paths(folder):
        with open(path, "rb") as file:
            if is_dicom(file):
                return True
    return False


def counted(left_out: Counter[str]) -> str:
    """Return counts as a text, the largest first."""
    return ", ".join(f"{n:,} {reason}" for reason, n in left_out.most_common())


def some(paths: Iterable[str]) -> str:
    """Return the first few paths as a text."""
    paths = list(paths)
    return ", ".join(paths[:N_NAMED]) + (", ..." if len(paths) > N_NAMED else "")


def _paths(folder: str | os.PathLike[str]) -> list[str]:
    """Return all files below a folder but hidden ones, in order."""
    found = []
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != ".")
        found += [os.path.join(place, name) for name in sorted(names) if name[0] != "."]
    return found


def _fields(path: str) -> dict[str, Any] | None:
    """Return the header fields of a file, None if it is no DICOM, {} if it is broken."""
    try:
        return read_dicom_fields(path)
    except OSError:
        raise
    except Exception:  # pydicom raises of many kinds, and their texts may quote the header
        return {}


def _images(files: list[dict[str, Any]], modalities: set[str], left_out: Counter) -> list[dict]:
    """Return the files to take, and count the others by the reason."""
    taken: dict[str, dict[str, Any]] = {}
    for file in files:
        if "Modality" not in file:
            left_out["no DICOM"] += 1
        elif file["Modality"] not in modalities:
            left_out[f"of modality {file['Modality'] or 'unknown'}"] += 1
        elif not file["Rows"]:
            left_out["without an image"] += 1
        elif file["PresentationIntentType"].upper() == "FOR PROCESSING":
            left_out["for processing, not for viewing"] += 1
        elif (key := file["SOPInstanceUID"] or file["path"]) in taken:
            left_out["second copies"] += 1
        else:
            taken[key] = file
    return list(taken.values())
