"""Read a folder of DICOM files as a study table."""

import hashlib
import hmac
import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import pandas as pd

from mura_skorch.dicom.body_parts import with_study_types
from mura_skorch.dicom.scan import DAMAGED, LeftOut, counted, read_headers
from mura_skorch.studies.labels import join_labels
from mura_skorch.studies.read_counts import with_read_counts
from mura_skorch.utils.identity import patient_key, patient_keys, text_key
from mura_skorch.utils.text import some_names

__all__ = ["read_dicom_studies"]

NO_ID = {name: f"without a {name}" for name in ("StudyInstanceUID", "PatientID")}
N_BAD = 100  # most paths of bad files in a warning
N_HEX = 16  # 64 bits: a collision among a million ids has a probability of 1 in 40 million


def read_dicom_studies(
    folder: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    keep: Iterable[str] = (),
    study_types: Mapping[str, str | None] | None = None,
    modalities: Iterable[str] = ("CR", "DX", "RF"),
    hash_patients: str | None = None,
    on_bad_file: Literal["raise", "skip"] = "raise",
) -> pd.DataFrame:
    """Read a folder of DICOM files, with any names and subfolders, as a study table.

    Parameters
    ----------
    folder : path
        Searched with all subfolders; not an address such as s3://bucket/export. Files that are not
        DICOM are skipped. Links to files are followed, links to folders are not.
    labels : path, optional
        A CSV file with the columns ``study`` (the StudyInstanceUID) and ``label``, see
        `mura_skorch.studies.join_labels`. None leaves all studies unlabelled.
    keep : iterable of str, default=()
        Further columns of `labels` to copy, such as site or scanner.
    study_types : dict of str to str or None, optional
        Study types by BodyPartExamined or, if that is missing, by the region in
        AnatomicRegionSequence. They extend or override the known ones. Case, spaces, hyphens and
        underscores do not matter. "" stands for files without a body part; None skips the files of
        a body part. Any name is allowed as a study type.
    modalities : iterable of str, default=("CR", "DX", "RF")
        Modalities to read.
    hash_patients : str, optional
        A secret key. Patient ids and study UIDs are replaced by 16 hexadecimal digits of their
        HMAC-SHA256. None leaves them unchanged.
    on_bad_file : {"raise", "skip"}, default="raise"
        How to handle files with an unreadable header, or without a PatientID or StudyInstanceUID.
        "skip" leaves them out of their studies and names the first hundred in a warning. Pixels
        are checked when studies are fitted or predicted, not here.

    Returns
    -------
    DataFrame of n_studies rows
        Sorted by study type, patient and study. ``study`` is the StudyInstanceUID, ``study_type``,
        ``patient`` the PatientID, ``views`` a tuple of absolute paths in the order of series and
        instance numbers, ``label`` Int8, ``<NA>`` if unlabelled; then the columns in `keep`.

    Warns
    -----
    UserWarning
        Files were skipped, with their numbers by reason; different pictures or patients have the
        same SOPInstanceUID; or files have several frames, of which `mura_skorch.data.read_view`
        reads the first.

    Raises
    ------
    FileNotFoundError
        The folder does not exist.
    ImportError
        pydicom is not installed.
    OSError
        A folder or a file cannot be opened.
    ValueError
        The folder holds no radiograph; a file cannot be read or lacks a PatientID or a
        StudyInstanceUID; a study has two patients; a body part has no study type; or the file of
        labels does not match.

    Notes
    -----
    - A study of several study types, such as hand and wrist, becomes one row per type, with the
      key ``<StudyInstanceUID>/<study type>``, which `labels` must then use. Files without a body
      part belong to the type of their study, if it has only one.
    - Left and right of one study and type become two rows, ``<StudyInstanceUID>/<study type>/L``
      and ``.../R``, since a study of MURA shows one limb. The side is ImageLaterality or
      Laterality. Views of both or unknown sides form a third row without a side in its key; in a
      study of one side only, they belong to its row.
    - Images "for processing" are skipped, since they are not meant for viewing. So are secondary
      captures by their SOPClassUID (screenshots, and film digitised under that class), and copies:
      files with the SOPInstanceUID, picture, patient and study of another. Different files with the
      same SOPInstanceUID are read, with a warning.
    - Display shutters are not applied: `mura_skorch.data.read_view` shows the covered regions.
    - Only the elements named here are read; names, dates and addresses are skipped. Messages name
      paths and study UIDs, never patients: rename folders that contain patients' names.
    - Without the secret, hashed ids can neither be read nor found by trying a list of ids. A
      patient has the same hash wherever the same secret is used, as splits and comparisons
      require. Hashing hides neither paths, which ``views`` holds, nor text burnt into pixels. With
      the secret and a list of ids, patients can be identified.

    Examples
    --------
    >>> read_dicom_studies("no/such/folder")
    Traceback (most recent call last):
    ...
    FileNotFoundError: no/such/folder: expected a folder of DICOM files, got none. Check the path.
    """
    if hash_patients is not None and not hash_patients:
        raise ValueError(
            "expected hash_patients as a secret, got an empty string; pass a long one, or None"
        )
    if on_bad_file not in ("raise", "skip"):
        raise ValueError(f"expected on_bad_file as raise or skip, got {on_bad_file!r}")
    modalities = {modalities} if isinstance(modalities, str) else set(modalities)
    files, left_out = read_headers(folder, modalities, skip=on_bad_file == "skip")
    files = _with_ids(files, left_out, skip=on_bad_file == "skip")
    _check_patients(files)
    files = with_study_types(files, study_types or {}, left_out)
    _warn(folder, files, left_out)
    _warn_of_shared_uids(folder, files)
    studies, uids = _table(files)
    if labels is not None:
        studies = join_labels(studies, labels, keep=keep)
    if hash_patients is not None:
        keys = patient_keys(studies["patient"])  # the same digits for one patient
        studies["patient"] = [_hashed(key, "patient", hash_patients) for key in keys]
        # The rest of a key identifies nobody, and shows which rows belong to one study.
        studies["study"] = [
            _hashed(uids[key], "study", hash_patients) + key.removeprefix(uids[key])
            for key in studies["study"]
        ]
    studies = studies.sort_values(["study_type", "patient", "study"], ignore_index=True)
    return with_read_counts(studies, {reason: len(paths) for reason, paths in left_out.items()})


def _with_ids(
    files: list[dict[str, Any]], left_out: LeftOut, *, skip: bool
) -> list[dict[str, Any]]:
    """Return the files that have a study and a patient."""
    for name, reason in NO_ID.items():
        missing = [file["path"] for file in files if not text_key(file[name])]
        files = [file for file in files if text_key(file[name])]
        if missing and not (skip and files):
            raise ValueError(
                f"expected a {name} in every file, got {len(missing):,} without: "
                f"{some_names(missing)}. "
                "Without ids, no split can separate patients: assign them when files are "
                "de-identified, or skip the files with on_bad_file."
            )
        if missing:
            left_out[reason] += missing
    return files


def _check_patients(files: list[dict[str, Any]]) -> None:
    """Raise if a study has several patients."""
    patients: dict[str, dict[str, str]] = {}
    for file in files:
        key = patient_key(file["PatientID"])
        patients.setdefault(file["StudyInstanceUID"], {})[key] = file["path"]
    if mixed := [paths for paths in patients.values() if len(paths) > 1]:
        raise ValueError(
            f"expected studies of one patient each, got {len(mixed):,} with two PatientIDs, such "
            f"as in {some_names(mixed[0].values())}. Correct the files, or move them elsewhere."
        )


def _warn(folder: Any, files: list[dict[str, Any]], left_out: LeftOut) -> None:
    """Warn about skipped files, and about files of several frames."""
    if left_out:
        bad = [path for reason in (DAMAGED, *NO_ID.values()) for path in left_out.get(reason, [])]
        warnings.warn(
            f"{folder}: {sum(map(len, left_out.values())):,} files left out: {counted(left_out)}. "
            "If they belong to studies, see modalities and study_types."
            + (f" Bad files: {some_names(bad, N_BAD)}." if bad else ""),
            stacklevel=3,
        )
    if n_cines := sum((file["NumberOfFrames"] or 1) > 1 for file in files):
        warnings.warn(
            f"{folder}: {n_cines:,} files of several frames, of which the first is read. If they "
            "are not radiographs, leave them out, for example by modalities without RF.",
            stacklevel=3,
        )


def _warn_of_shared_uids(folder: Any, files: list[dict[str, Any]]) -> None:
    """Warn about different pictures with the same SOPInstanceUID."""
    if paths := [file["path"] for file in files if file.get("shares_uid")]:
        warnings.warn(
            f"{folder}: {len(paths):,} files share their SOPInstanceUID with another picture or "
            f"patient: {some_names(paths)}. All are read. An anonymiser may have "
            "reused the UID: check that patients and studies are correct.",
            stacklevel=3,
        )


def _table(files: list[dict[str, Any]]) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the study table, and the StudyInstanceUID of each key."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for file in sorted(files, key=_place):
        found.setdefault((file["StudyInstanceUID"], file["study_type"]), []).append(file)
    n_types = Counter(study for study, _ in found)
    rows, uids = [], {}
    for (uid, study_type), files in found.items():
        for side, views in _by_side(files).items():
            key = uid if n_types[uid] == 1 and not side else f"{uid}/{study_type}{side}"
            uids[key] = uid
            rows.append(
                {
                    "study": key,
                    "study_type": study_type,
                    "patient": views[0]["PatientID"],
                    "views": tuple(view["path"] for view in views),
                }
            )
    return pd.DataFrame(rows).assign(label=pd.array([pd.NA] * len(rows), dtype="Int8")), uids


def _by_side(files: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Group files by "/L", "/R" and ""; all under "" unless both sides are present."""
    sides: dict[str, list[dict[str, Any]]] = {}
    for file in files:
        side = (file["ImageLaterality"] or file["Laterality"]).upper()[:1]
        sides.setdefault(f"/{side}" if side in ("L", "R") else "", []).append(file)
    return sides if {"/L", "/R"} <= set(sides) else {"": files}


def _place(file: dict[str, Any]) -> tuple[Any, ...]:
    """Sort key: series and instance number, missing numbers last."""
    numbers = (file["SeriesNumber"], file["InstanceNumber"])
    return *((n is None, n or 0) for n in numbers), file["path"]


def _hashed(text: str, kind: str, secret: str) -> str:
    """Return the first digits of the HMAC-SHA256 of a text."""
    found = hmac.new(secret.encode(), f"{kind}:{text}".encode(), hashlib.sha256)
    return found.hexdigest()[:N_HEX]
