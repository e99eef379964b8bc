"""DICOM studies: a folder of DICOM files goes in, a study table comes out."""

import hashlib
import hmac
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mura_skorch.dicom.folder import counted, read_headers, some
from mura_skorch.labels import join_labels

__all__ = ["read_dicom_studies"]

# Body parts as DICOM PS3.16, annex L and common devices call them, without spaces and hyphens.
STUDY_TYPES = {
    **{"ELBOW": "XR_ELBOW", "FINGER": "XR_FINGER", "FINGERS": "XR_FINGER", "THUMB": "XR_FINGER"},
    **{"FOREARM": "XR_FOREARM", "LOWERARM": "XR_FOREARM", "RADIUSULNA": "XR_FOREARM"},
    **{"HAND": "XR_HAND", "HANDS": "XR_HAND", "HUMERUS": "XR_HUMERUS", "UPPERARM": "XR_HUMERUS"},
    **{"SHOULDER": "XR_SHOULDER", "WRIST": "XR_WRIST"},
}
N_HEX = 16  # 64 bits: among a million ids, two that agree have a chance of 1 in 40 million


def read_dicom_studies(
    folder: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    keep: Iterable[str] = (),
    study_types: Mapping[str, str | None] | None = None,
    modalities: Iterable[str] = ("CR", "DX", "RF"),
    hash_patients: str | None = None,
) -> pd.DataFrame:
    """Read a folder of DICOM files, however they are named and nested, as a table of studies.

    Parameters
    ----------
    folder : path
        Searched with all its subfolders; files that are no DICOM are skipped.
    labels : path, optional
        A CSV file with the columns ``study`` (the StudyInstanceUID) and ``label``, see
        `mura_skorch.labels.join_labels`. None leaves all studies unlabelled.
    keep : iterable of str, default=()
        Further columns of `labels` to take, such as site or scanner.
    study_types : dict of str to str or None, optional
        Study types by BodyPartExamined, beside or in place of the known ones in ``STUDY_TYPES``.
        Case, spaces, hyphens and underscores do not matter; "" is a file that names no body part;
        None leaves the files of a body part out. Any name will do as a study type.
    modalities : iterable of str, default=("CR", "DX", "RF")
        Whose files are taken.
    hash_patients : str, optional
        A secret. Patient ids and study UIDs are replaced by 16 hexadecimal digits of their
        HMAC-SHA256 under it. None keeps them as they are.

    Returns
    -------
    DataFrame of n_studies rows
        Sorted by study type, patient and study. ``study`` is the StudyInstanceUID, ``study_type``,
        ``patient`` the PatientID, ``views`` a tuple of absolute paths in the order of series and
        instance numbers, ``label`` is Int8, ``<NA>`` where unlabelled; then the columns to keep.

    Warns
    -----
    UserWarning
        Files were left out; says how many and why.

    Raises
    ------
    FileNotFoundError
        There is no such folder.
    ImportError
        pydicom is not installed.
    ValueError
        The folder holds no radiograph; a file cannot be read or lacks a PatientID or a
        StudyInstanceUID; a study is of two patients; a body part has no study type; or the file
        of labels does not fit.

    Notes
    -----
    - A study of several study types, such as hand and wrist, becomes one row for each, with the
      key ``<StudyInstanceUID>/<study type>``, which `labels` must use then. Files that name no
      body part belong to the study's only type, where it has one.
    - Images "for processing" are left out: they are not made for viewing. So are second copies of
      a file, by their SOPInstanceUID.
    - Only the fields named here are read; names, dates and addresses are skipped. Messages name
      paths and study UIDs, never patients: rename folders that are called after people.
    - Hashing protects a table from those who do not know the secret: they can neither read ids
      nor try out a list of them. It keeps the same patient the same wherever the same secret is
      used, as splits and comparisons need. It does not hide paths, which ``views`` holds, nor
      what is burnt into pixels; and who knows the secret and the ids can find each.

    Examples
    --------
    >>> read_dicom_studies("no/such/folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: no/such/folder: expected a folder of DICOM files, got none. Check the path.
    """
    if hash_patients is not None and not hash_patients:
        raise ValueError("expected hash_patients as a secret of some length, got an empty one")
    modalities = {modalities} if isinstance(modalities, str) else set(modalities)
    files, left_out = read_headers(folder, modalities)
    _check_identity(files)
    files = _with_study_types(files, study_types or {}, left_out)
    if left_out:
        warnings.warn(
            f"{folder}: {left_out.total():,} files left out: {counted(left_out)}. "
            "If they belong to studies, see modalities and study_types.",
            stacklevel=2,
        )
    studies = _table(files)
    if labels is not None:
        studies = join_labels(studies, labels, keep=keep)
    if hash_patients is not None:
        for name in ("patient", "study"):
            studies[name] = [_hashed(text, name, hash_patients) for text in studies[name]]
    return studies.sort_values(["study_type", "patient", "study"], ignore_index=True)


def _check_identity(files: list[dict[str, Any]]) -> None:
    patients: dict[str, dict[str, str]] = {}
    for name in ("StudyInstanceUID", "PatientID"):
        if missing := [file["path"] for file in files if not file[name]]:
            raise ValueError(
                f"expected a {name} in every file, got {len(missing):,} without: {some(missing)}. "
                "Give each patient and study an id when files are de-identified: without, no "
                "split can keep patients apart."
            )
    for file in files:
        patients.setdefault(file["StudyInstanceUID"], {})[file["PatientID"]] = file["path"]
    if mixed := [paths for paths in patients.values() if len(paths) > 1]:
        raise ValueError(
            f"expected studies of one patient each, got {len(mixed):,} with two PatientIDs, such "
            f"as in {some(mixed[0].values())}. Correct the files, or move them elsewhere."
        )


def _with_study_types(
    files: list[dict[str, Any]], own: Mapping[str, str | None], left_out: Counter
) -> list[dict[str, Any]]:
    """Return the files with their study type, without those that are to be left out."""
    known = {**STUDY_TYPES, **{_plain(part): name for part, name in own.items()}}
    parts = [_plain(file["BodyPartExamined"]) for file in files]
    by_study: dict[str, set[str]] = {}
    for file, part in zip(files, parts, strict=True):
        if part and (name := known.get(part)):
            by_study.setdefault(file["StudyInstanceUID"], set()).add(name)
    unknown: Counter[str] = Counter()
    typed = []
    for file, part in zip(files, parts, strict=True):
        others = by_study.get(file["StudyInstanceUID"], set())
        if not part and len(others) == 1:
            typed.append({**file, "study_type": next(iter(others))})
        elif part not in known:
            unknown[file["BodyPartExamined"]] += 1
        elif (name := known[part]) is None:
            left_out["of a body part that study_types leaves out"] += 1
        else:
            typed.append({**file, "study_type": name})
    if unknown:
        named = ", ".join(f"{part!r} ({n:,} files)" for part, n in unknown.most_common())
        example = next(iter(unknown))
        raise ValueError(
            f"expected a study type for each BodyPartExamined, got none for {named}. Name them, or "
            f'leave them out with None: study_types={{{example!r}: "XR_HAND", ...}}'
        )
    if not typed:
        raise ValueError("expected body parts to take, got study_types that leave all out")
    return typed


def _table(files: list[dict[str, Any]]) -> pd.DataFrame:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in sorted(files, key=_place):
        found.setdefault((file["StudyInstanceUID"], file["study_type"]), []).append(file)
    n_types = Counter(study for study, _ in found)
    rows = [
        {
            "study": study if n_types[study] == 1 else f"{study}/{study_type}",
            "study_type": study_type,
            "patient": views[0]["PatientID"],
            "views": tuple(view["path"] for view in views),
        }
        for (study, study_type), views in found.items()
    ]
    return pd.DataFrame(rows).assign(label=pd.array([pd.NA] * len(rows), dtype="Int8"))


def _place(file: dict[str, Any]) -> tuple[Any, ...]:
    """Order files by series and instance number, those without last."""
    numbers = (file["SeriesNumber"], file["InstanceNumber"])
    return *((n is None, n or 0) for n in numbers), file["path"]


def _plain(part: str) -> str:
    return re.sub(r"[\s_-]", "", part).upper()


def _hashed(text: str, kind: str, secret: str) -> str:
    found = hmac.new(secret.encode(), f"{kind}:{text}".encode(), hashlib.sha256)
    return found.hexdigest()[:N_HEX]
