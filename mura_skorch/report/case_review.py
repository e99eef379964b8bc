"""Case review: pictures and maps of the most confident errors, and of a right call."""

import io
import warnings
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mura_skorch.data.images import read_view
from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.inspection.neighbours import nearest_studies
from mura_skorch.inspection.overlay import map_limit, overlay_map
from mura_skorch.report.html import bytes_uri
from mura_skorch.utils.text import printable

__all__ = ["Case", "CaseView", "SimilarStudy", "map_text", "review_cases", "show_views"]

FALSE_NEGATIVE, FALSE_POSITIVE = "false negative", "false positive"
TRUE_POSITIVE = "true positive"
MIME = "image/jpeg"
LEAST_CELLS = 4  # along a side of a map: with fewer it is a veil and shows no place
QUALITY = 85  # of JPEG: about 20 kB for a radiograph with its overlay, 384 pixels each


@dataclass(frozen=True)
class CaseView:
    """One view of a case: the radiograph and its overlay, of equal size.

    Attributes
    ----------
    number : int
        Number of the view in the study, from 1.
    score : float or None
        Probability of abnormality of this view alone; None if the model has no view scores.
    radiograph, overlay : bytes or None
        Encoded images of type `mime`: the view, and the view under its activation map (vermillion
        raises the score, sky blue lowers it). None without a readable view or without a map.
    problem : str or None
        Reason for a missing picture.
    mime : str
        MIME type of both images.
    map_cells : tuple of (int, int) or None
        Rows and columns of the activation map.
    """

    number: int
    score: float | None = None
    radiograph: bytes | None = None
    overlay: bytes | None = None
    problem: str | None = None
    mime: str = MIME
    map_cells: tuple[int, int] | None = None

    @property
    def radiograph_uri(self) -> str | None:
        """The radiograph as a data URI, None without a picture."""
        return bytes_uri(self.radiograph, self.mime) if self.radiograph else None

    @property
    def overlay_uri(self) -> str | None:
        """The overlay as a data URI, None without a map."""
        return bytes_uri(self.overlay, self.mime) if self.overlay else None


@dataclass(frozen=True)
class SimilarStudy:
    """A training study whose features are near those of a case.

    Attributes
    ----------
    study, study_type : str
        Key and type of the training study. It is never of the case's patient.
    label : int or None
        1 abnormal, 0 normal; None if it is not known.
    distance : float
        Cosine distance of the features, from 0 to 2.
    radiograph : bytes or None
        Its first view, encoded as `mime`; None if it cannot be read.
    mime : str
        MIME type of the image.
    """

    study: str
    study_type: str
    label: int | None
    distance: float
    radiograph: bytes | None = None
    mime: str = MIME

    @property
    def radiograph_uri(self) -> str | None:
        """The radiograph as a data URI, None without a picture."""
        return bytes_uri(self.radiograph, self.mime) if self.radiograph else None


@dataclass(frozen=True)
class Case:
    """A study that the model got wrong, or one that it got right, for comparison.

    Attributes
    ----------
    kind : {"false negative", "false positive", "true positive"}
        Abnormal but called normal, normal but called abnormal, or abnormal and called so.
    study, study_type : str
        Key and type of the study.
    patient : str or None
        Patient id, if known.
    label : int
        1 abnormal, 0 normal.
    score, threshold : float
        Probability of abnormality, and the threshold it was compared with.
    note : str or None
        Caveat, such as "phantoms: no clinical meaning".
    n_views : int
        Number of views of the study; `views` may hold fewer.
    views : tuple of CaseView
        The first views, in order.
    limit : float or None
        Upper end of the overlays' colour scale in logits, shared by all views of the case.
    problem : str or None
        Reason for a case without views.
    similar : tuple of SimilarStudy
        The most similar training studies, the nearest first.
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
    similar: tuple[SimilarStudy, ...] = ()

    @property
    def is_error(self) -> bool:
        """Whether the model got the study wrong."""
        return self.kind != TRUE_POSITIVE


def review_cases(
    clf: Any,
    studies: pd.DataFrame,
    predictions: pd.DataFrame,
    *,
    n_cases: int = 4,
    n_right: int = 0,
    max_views: int = 6,
    longest_side: int = 384,
    train: pd.DataFrame | None = None,
    train_features: np.ndarray | None = None,
    n_similar: int = 3,
) -> list[Case]:
    """Return the most confident false negatives, then the most confident false positives.

    Parameters
    ----------
    clf : object
        The model. Maps come from ``localize`` and view scores from ``predict_view_proba``, if it
        has these methods, as `MuraClassifier` does. They run on the selected studies only.
    studies : DataFrame
        The study table that was predicted. ``study`` (or else the index), ``study_type`` and
        ``views`` are read.
    predictions : DataFrame
        A prediction table with ``study``, ``study_type``, ``label``, ``score``, ``threshold`` and,
        if known, ``patient`` and ``note``. Rows without a label or a score are ignored.
    n_cases : int, default=4
        Maximum number of cases of each kind of error.
    n_right : int, default=0
        Maximum number of the most confident true positives, for comparison.
    max_views : int, default=6
        Maximum number of views per case.
    longest_side : int, default=384
        Longer side of the pictures, in pixels. Smaller views are enlarged.
    train : DataFrame of n_train rows, optional
        Training studies, of which the most similar ones are shown with each case.
    train_features : ndarray of shape (n_train, n_features), float32, optional
        What ``clf.embed`` returns for them.
    n_similar : int, default=3
        Number of training studies shown with a case.

    Returns
    -------
    list of Case
        False negatives by rising score, false positives by falling score, then true positives by
        falling score. A view that cannot be read has the reason in ``problem`` instead of pictures.

    Warns
    -----
    UserWarning
        The network has no exact activation maps; overlays are left out.
    """
    rows = scored_rows(predictions)
    ranked = rows.sort_values("score", kind="stable")
    is_called, is_abnormal = ranked["score"] > ranked["threshold"], ranked["label"] == 1
    negatives = ranked[is_abnormal & ~is_called].head(n_cases)
    positives = ranked[~is_abnormal & is_called][::-1].head(n_cases)
    right = ranked[is_abnormal & is_called][::-1].head(n_right)
    chosen = [(FALSE_NEGATIVE, row) for _, row in negatives.iterrows()]
    chosen += [(FALSE_POSITIVE, row) for _, row in positives.iterrows()]
    chosen += [(TRUE_POSITIVE, row) for _, row in right.iterrows()]
    keys = studies.get("study", studies.index)
    known = dict(zip(keys, studies["views"], strict=True))
    paths = [known.get(row["study"], ()) for _, row in chosen]
    types = [row["study_type"] for _, row in chosen]
    shown = show_views(clf, types, paths, max_views=max_views, longest_side=longest_side)
    cases = [
        _case(kind, row, len(own), *views)
        for (kind, row), own, views in zip(chosen, paths, shown, strict=True)
    ]
    if train is None or train_features is None:
        return cases
    own = studies[np.isin(keys, [case.study for case in cases])]
    similar = _similar_studies(clf, own, train, train_features, n_similar, longest_side // 2)
    return [replace(case, similar=tuple(similar.get(case.study, ()))) for case in cases]


def map_text(cases: Sequence[Any]) -> str:
    """Return how many cells the maps of cases have, and if these are too few; "" without maps.

    Parameters
    ----------
    cases : sequence of Case or Suspect
        Cases with ``views``.

    Examples
    --------
    >>> view = CaseView(1, overlay=b"...", map_cells=(7, 7))
    >>> map_text([Case("false negative", "a", "XR_HAND", None, 1, 0.2, 0.5, views=(view,))])
    'A map has 7 x 7 cells.'
    """
    cells = {view.map_cells for case in cases for view in case.views if view.map_cells}
    if not cells:
        return ""
    rows, columns = min(cells)
    text = f"A map has {rows} x {columns} {'cell' if rows * columns == 1 else 'cells'}"
    if min(rows, columns) < LEAST_CELLS:
        text += ": too coarse to show a place. Larger images (image_size) give finer maps"
    return f"{text}."


def show_views(
    clf: Any,
    study_types: Sequence[str],
    paths: Sequence[Sequence[str]],
    *,
    max_views: int = 6,
    longest_side: int = 384,
) -> list[tuple[tuple[CaseView, ...], float | None]]:
    """Return pictures of the first views of studies, and their maps on one scale per study.

    Parameters
    ----------
    clf : object
        The model, as for `review_cases`.
    study_types : sequence of n_studies str
        Study types.
    paths : sequence of n_studies sequences of str
        Paths of the views of each study.
    max_views : int, default=6
        Maximum number of views per study.
    longest_side : int, default=384
        Longer side of the pictures, in pixels.

    Returns
    -------
    list of tuple
        For each study its views, and the end of the colour scale of their maps in logits; None
        without maps.

    Warns
    -----
    UserWarning
        The network has no exact activation maps; overlays are left out.
    """
    views = [[_read(path) for path in own[:max_views]] for own in paths]
    found = _maps_and_scores(clf, study_types, paths, views)
    return [_shown(own, its, longest_side) for own, its in zip(views, found, strict=True)]


def _shown(views, found, longest_side):
    """Return the views of one study and the limit of their maps."""
    maps = [cam for cam, _ in found if cam is not None]
    limit = map_limit(*maps) if maps else None
    shown = (
        _case_view(number, view, cam, score, limit, longest_side)
        for number, (view, (cam, score)) in enumerate(zip(views, found, strict=True), start=1)
    )
    return tuple(shown), limit


def _similar_studies(clf, studies, train, train_features, n_similar, longest_side):
    """Return the most similar training studies by the key of the study."""
    similar = defaultdict(list)
    if len(studies):
        nearest = nearest_studies(
            studies, clf.embed(studies), train, train_features, n_nearest=n_similar
        )
        for row in nearest.to_dict("records"):
            view = _read(row["views"][0])
            label = row.get("label")
            similar[str(row["study"])].append(
                SimilarStudy(
                    study=str(row["nearest"]),
                    study_type=str(row["study_type"]),
                    label=None if pd.isna(label) else int(label),
                    distance=row["distance"],
                    radiograph=None if _is_error(view) else _jpeg(_resized(view, longest_side)),
                )
            )
    return similar


def _read(path):
    """Return the view, or the error as a str that names the file without its folder."""
    try:
        return read_view(path)
    except (OSError, ValueError) as error:
        return str(error).replace(printable(path), printable(Path(path).name))


def _maps_and_scores(clf, study_types, paths, views):
    """Return (map, score) of each view of each case, (None, None) if there is none.

    Each readable view is predicted as a study of one view, so that an unreadable view affects no
    other.
    """
    found = [[(None, None)] * len(own) for own in views]
    at = [
        (i, j) for i, own in enumerate(views) for j, view in enumerate(own) if not _is_error(view)
    ]
    if not at:
        return found
    table = pd.DataFrame(
        {
            "study_type": [study_types[i] for i, _ in at],
            "views": [(paths[i][j],) for i, j in at],
        }
    )
    maps: list[Any] = [None] * len(at)
    scores: list[Any] = [None] * len(at)
    if hasattr(clf, "localize"):
        try:
            maps = [own[0] for own in clf.localize(table)]
        except TypeError as error:  # a network without exact maps
            warnings.warn(f"the review is written without maps: {error}", stacklevel=4)
    if hasattr(clf, "predict_view_proba"):
        scores = [float(own[0]) for own in clf.predict_view_proba(table)]
    for (i, j), cam, score in zip(at, maps, scores, strict=True):
        found[i][j] = (cam, score)
    return found


def _case(kind, row, n_views, views, limit):
    """Return the case with its pictures."""
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
        views=views,
        limit=limit,
        problem=None if n_views else "this study is missing from the study table",
    )


def _case_view(number, view, cam, score, limit, longest_side):
    """Return one view with its pictures, or with the reason why they are missing."""
    if _is_error(view):
        return CaseView(number, problem=view)
    small = _resized(view, longest_side)
    if cam is None:
        return CaseView(number, score, _jpeg(small))
    overlay = _jpeg(overlay_map(small, cam, limit))
    return CaseView(number, score, _jpeg(small), overlay, map_cells=cam.shape)


def _resized(view, longest_side):
    """Return a view whose longer side has a number of pixels."""
    scale = longest_side / max(view.shape)
    height, width = (max(1, round(scale * side)) for side in view.shape)
    return np.asarray(Image.fromarray(view).resize((width, height), Image.Resampling.LANCZOS))


def _is_error(view):
    """Return whether `_read` returned an error message instead of a view."""
    return isinstance(view, str)


def _jpeg(picture):
    """Encode an array of shape (H, W) or (H, W, 3), uint8, as JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()


def _text(value):
    """Return a cell as str, None if it is empty."""
    return None if value is None or pd.isna(value) else str(value)
