"""Body parts: files and what their headers call them go in, the files' study types come out."""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mura_skorch.dicom.scan import LeftOut

__all__ = ["with_study_types"]

# Body parts as DICOM PS3.16, annex L and common devices call them, without spaces and hyphens.
STUDY_TYPES = {
    **{"ELBOW": "XR_ELBOW", "FINGER": "XR_FINGER", "FINGERS": "XR_FINGER", "THUMB": "XR_FINGER"},
    **{"FOREARM": "XR_FOREARM", "LOWERARM": "XR_FOREARM", "RADIUSULNA": "XR_FOREARM"},
    **{"HAND": "XR_HAND", "HANDS": "XR_HAND", "HUMERUS": "XR_HUMERUS", "UPPERARM": "XR_HUMERUS"},
    **{"SHOULDER": "XR_SHOULDER", "WRIST": "XR_WRIST"},
    **{f"{joint}JOINT": f"XR_{joint}" for joint in ("ELBOW", "SHOULDER", "WRIST")},
}


def with_study_types(
    files: list[dict[str, Any]], own: Mapping[str, str | None], left_out: LeftOut
) -> list[dict[str, Any]]:
    """Return the files with their ``study_type``, without those that are to be left out.

    Parameters
    ----------
    files : list of dict
        As `mura_skorch.dicom.scan.read_headers` returns them.
    own : dict of str to str or None
        Study types by body part, beside or in place of the known ones; None leaves files out.
    left_out : dict of str to list of str
        Takes the paths of those that are.

    Returns
    -------
    list of dict
        A file that names no body part has the only type of its study, where there is one.

    Raises
    ------
    ValueError
        A body part has no study type, or none is left.
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
            left_out["of a body part that study_types leaves out"].append(file["path"])
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


def _plain(part: str) -> str:
    return re.sub(r"[\s_-]", "", part).upper()
