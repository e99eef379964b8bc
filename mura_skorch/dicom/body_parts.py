"""Map body parts of DICOM headers to study types."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mura_skorch.dicom.scan import LeftOut

__all__ = ["with_study_types"]

# Terms of DICOM PS3.16, annex L and of common devices, without spaces and hyphens.
STUDY_TYPES = {
    "ELBOW": "XR_ELBOW",
    "ELBOWJOINT": "XR_ELBOW",
    "FINGER": "XR_FINGER",
    "FINGERS": "XR_FINGER",
    "THUMB": "XR_FINGER",
    "FOREARM": "XR_FOREARM",
    "LOWERARM": "XR_FOREARM",
    "RADIUSULNA": "XR_FOREARM",
    "HAND": "XR_HAND",
    "HANDS": "XR_HAND",
    "HUMERUS": "XR_HUMERUS",
    "UPPERARM": "XR_HUMERUS",
    "SHOULDER": "XR_SHOULDER",
    "SHOULDERJOINT": "XR_SHOULDER",
    "WRIST": "XR_WRIST",
    "WRISTJOINT": "XR_WRIST",
}


def with_study_types(
    files: list[dict[str, Any]], own: Mapping[str, str | None], left_out: LeftOut
) -> list[dict[str, Any]]:
    """Add ``study_type`` to files, and drop body parts that are left out.

    Parameters
    ----------
    files : list of dict
        As `mura_skorch.dicom.scan.read_headers` returns them.
    own : dict of str to str or None
        Study types by body part, which extend or override the known ones. None drops files.
    left_out : dict of str to list of str
        The paths of dropped files are added here.

    Returns
    -------
    list of dict
        A file without a body part gets the type of its study, if that has only one.

    Raises
    ------
    ValueError
        A body part has no study type, or no file is left.
    """
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
            left_out["of a body part that study_types drops"].append(file["path"])
        else:
            typed.append({**file, "study_type": name})
    if unknown:
        named = ", ".join(f"{part!r} ({n:,} files)" for part, n in unknown.most_common())
        example = next(iter(unknown))
        raise ValueError(
            f"expected a study type for each BodyPartExamined, got none for {named}. Add them, or "
            f'drop them with None: study_types={{{example!r}: "XR_HAND", ...}}'
        )
    if not typed:
        raise ValueError(
            "expected at least one body part with a study type, got study_types that drop all of "
            "them; give one of them a name"
        )
    return typed


def _plain(part: str) -> str:
    """Return a body part without case, blanks, hyphens and underscores."""
    return re.sub(r"[\s_-]", "", part).upper()
