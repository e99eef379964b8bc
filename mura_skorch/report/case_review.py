"""Case review: predictions and their studies go in, the worst mistakes in pictures come out."""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mura_skorch.data.images import read_view
from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.inspection.overlay import map_limit, overlay_map
from mura_skorch.report.html import bytes_uri
from mura_skorch.utils.text import printable

__all__ = ["Case", "CaseView", "review_cases"]

MISS, FALSE_ALARM = "miss", "false alarm"
MIME = "image/jpeg"
QUALITY = 85  # of JPEG: some 20 kB for a radiograph and its overlay of 384 pixels


@dataclass(frozen=True)
class CaseView:
    """One view of a case, in two pictures of equal size.

    Attributes
    ----------
    number : int
        Which view of the study, counted from 1.
    score : float or None
        Probability of abnormality of this view alone; None where the model does not tell.
    radiograph, overlay : bytes or None
        The view, and the view with its activation map laid over (vermillion raises the score, sky
        blue lowers it); `mime` files. None without a picture or without a map.
    problem : str or None
        Why there is no picture.
    mime : str
        Type of both files.
    """

    number: int
    score: float | None = None
    radiograph: bytes | None = None
    overlay: bytes | None = None
    problem: str | None = None
    mime: str = MIME

    @property
    def radiograph_uri(self) -> str | None:
        """The radiograph as a data URI, None without a picture."""
        return bytes_uri(self.radiograph, self.mime) if self.radiograph else None

    @property
    def overlay_uri(self) -> str | None:
        """The overlay as a data URI, None without a map."""
        return bytes_uri(self.overlay, self.mime) if self.overlay else None


@dataclass(frozen=True)
class Case:
    """A study that the model got wrong.

    Attributes
    ----------
    kind : {"miss", "false alarm"}
        Abnormal and called normal, or normal and called abnormal.
    study, study_type : str
        Its key and its type.
    patient : str or None
        Its patient, where known.
    label : int
        1 abnormal, 0 normal.
    score, threshold : float
        Probability of abnormality, and the operating point it was held against.
    note : str or None
        Caveat, such as "phantoms: no clinical meaning".
    n_views : int
        Views of the study; `views` may hold fewer.
    views : tuple of CaseView
        The first views, in order.
    limit : float or None
        Where the colours of the overlays end, in logits: one scale for all views of the case.
    problem : str or None
        Why there are no views at all.
    """

    kind: str
    study: str
    study_type: str
    patient: str | None
    label: int
    score: float
    threshold: float
    note: str | None = None
    n_views: int = 0
    views: tuple[CaseView, ...] = ()
    limit: float | None = None
    problem: str | None = None


def review_cases(
    clf: Any,
    studies: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    n_cases: int = 4,
    max_views: int = 6,
    longest_side: int = 384,
) -> list[Case]:
    """Return the most confident misses, then the most confident false alarms.

    Parameters
    ----------
    clf : object
        The model. Its ``localize`` draws the maps and its ``predict_view_proba`` scores the
        views, where it has them, as `MuraClassifier` does; only the studies shown are computed.
    studies : DataFrame
        The study table that was predicted, with ``study`` as in `predictions`, or the index in its
        place; ``study_type`` and ``views`` are read.
    predictions : DataFrame
        A prediction table with ``study``, ``study_type``, ``label``, ``score`` and ``threshold``;
        ``patient`` and ``note`` where known. Rows without label or score are left out.
    n_cases : int, default=4
        Cases of each kind, at most.
    max_views : int, default=6
        Views of a case, at most.
    longest_side : int, default=384
        Of a picture, in pixels. Smaller views are enlarged.

    Returns
    -------
    list of Case
        Misses from the lowest score upwards, false alarms from the highest downwards. A view that
        cannot be read has its reason in the place of its pictures.

    Warns
    -----
    UserWarning
        The network is of a kind without exact maps; the overlays are left out.
    """
    rows = scored_rows(predictions)
    ranked = rows.sort_values("score", kind="stable")
    is_called, is_abnormal = ranked["score"] > ranked["threshold"], ranked["label"] == 1
    misses = ranked[is_abnormal & ~is_called].head(n_cases)
    alarms = ranked[~is_abnormal & is_called][::-1].head(n_cases)
    chosen = [(MISS, row) for _, row in misses.iterrows()]
    chosen += [(FALSE_ALARM, row) for _, row in alarms.iterrows()]
    keys = studies.get("study", studies.index)
    known = dict(zip(keys, studies["views"], strict=True))
    paths = [known.get(row["study"], ()) for _, row in chosen]
    views = [[_read(path) for path in own[:max_views]] for own in paths]
    found = _ask(clf, chosen, paths, views)
    return [
        _case(kind, row, len(own), own_views, own_found, longest_side)
        for (kind, row), own, own_views, own_found in zip(chosen, paths, views, found, strict=True)
    ]


def _read(path):
    """Return the view, or the reason why not as a str that names the file without its folder."""
    try:
        return read_view(path)
    except (OSError, ValueError) as error:
        return str(error).replace(printable(path), printable(Path(path).name))


def _ask(clf, chosen, paths, views):
    """Return (map, score) of each view of each case, (None, None) where there is none.

    Each readable view is asked about as a study of its own, so that a bad one costs only itself.
    """
    found = [[(None, None)] * len(own) for own in views]
    at = [
        (i, j) for i, own in enumerate(views) for j, view in enumerate(own) if not _is_reason(view)
    ]
    if not at:
        return found
    table = pd.DataFrame(
        {
            "study_type": [chosen[i][1]["study_type"] for i, _ in at],
            "views": [(paths[i][j],) for i, j in at],
        }
    )
    maps: list[Any] = [None] * len(at)
    scores: list[Any] = [None] * len(at)
    if hasattr(clf, "localize"):
        try:
            maps = [own[0] for own in clf.localize(table)]
        except TypeError as error:  # a network without exact maps
            warnings.warn(f"the case review goes without maps: {error}", stacklevel=3)
    if hasattr(clf, "predict_view_proba"):
        scores = [float(own[0]) for own in clf.predict_view_proba(table)]
    for (i, j), cam, score in zip(at, maps, scores, strict=True):
        found[i][j] = (cam, score)
    return found


def _case(kind, row, n_views, views, found, longest_side):
    """Return the case with its pictures."""
    maps = [cam for cam, _ in found if cam is not None]
    limit = map_limit(*maps) if maps else None
    shown = tuple(
        _case_view(number, view, cam, score, limit, longest_side)
        for number, (view, (cam, score)) in enumerate(zip(views, found, strict=True), start=1)
    )
    return Case(
        kind=kind,
        study=str(row["study"]),
        study_type=str(row["study_type"]),
        patient=_text(row.get("patient")),
        label=int(row["label"]),
        score=float(row["score"]),
        threshold=float(row["threshold"]),
        note=_text(row.get("note")),
        n_views=n_views,
        views=shown,
        limit=limit,
        problem=None if n_views else "the table of studies does not have this study",
    )


def _case_view(number, view, cam, score, limit, longest_side):
    """Return one view with its pictures, or with the reason why there are none."""
    if _is_reason(view):
        return CaseView(number, problem=view)
    scale = longest_side / max(view.shape)
    height, width = (max(1, round(scale * side)) for side in view.shape)
    small = np.asarray(Image.fromarray(view).resize((width, height), Image.Resampling.LANCZOS))
    overlay = None if cam is None else _jpeg(overlay_map(small, cam, limit))
    return CaseView(number, score, _jpeg(small), overlay)


def _is_reason(view):
    return isinstance(view, str)


def _jpeg(picture):
    """Return the file of an array of shape (H, W) or (H, W, 3), uint8."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def _text(value):
    """Return a cell as str, None where it is empty."""
    return None if value is None or pd.isna(value) else str(value)
