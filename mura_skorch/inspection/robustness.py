"""Predict studies again under small changes of their views, and with fewer views."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mura_skorch.data.dataset import studies_of
from mura_skorch.data.prepared import PreparedStudies
from mura_skorch.evaluation.predictions import prediction_table
from mura_skorch.inspection.perturbations import PERTURBATIONS, perturb_views
from mura_skorch.utils.members import members_of
from mura_skorch.utils.progress import map_in_threads, progress_bar

__all__ = ["MovedStudy", "PerturbedPredictions", "predict_perturbed"]

PART = 256  # studies in memory at a time: 40 MB of views of 224 pixels
DROPPED = "one view dropped"
ALONE = "view {} alone"
MOST_ALONE = 4  # views of a study that are tried alone
COLUMNS = [
    "study",
    "study_type",
    "patient",
    "label",
    "perturbation",
    "score_unchanged",
    "score",
    "threshold",
    "note",
]


class MovedStudy(NamedTuple):
    """The study that a change of its views moved most to the wrong side.

    Attributes
    ----------
    perturbation, study : str
        The change, and the key of the study.
    view : int
        Number of the view, from 1, whose probability moved most to the wrong side.
    score_before, score_after : float
        Probability of that view alone.
    before, after : ndarray of shape (size, size), uint8
        The view as the network saw it.
    """

    perturbation: str
    study: str
    view: int
    score_before: float
    score_after: float
    before: np.ndarray
    after: np.ndarray


class PerturbedPredictions(NamedTuple):
    """Predictions under small changes.

    Attributes
    ----------
    table : DataFrame
        One row per change and study: `study`, `study_type`, `patient`, `label`, `perturbation`,
        `score_unchanged`, `score`, `threshold` and, if the studies have one, `note`.
    moved : list of MovedStudy
        For each change of the pixels, the labelled study that it moved most to the wrong side.
    """

    table: pd.DataFrame
    moved: list[MovedStudy]


def predict_perturbed(
    clf: Any,
    studies: pd.DataFrame,
    perturbations: Sequence[str] | None = None,
    *,
    random_state: int = 0,
) -> PerturbedPredictions:
    """Predict studies under each change, next to the unchanged studies.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.
    studies : DataFrame of n_studies rows
        A study table. Labels may be missing.
    perturbations : sequence of str or None, default=None
        Keys of `PERTURBATIONS`; None means all of them.
    random_state : int, default=0
        Seed of the noise and of the views that are dropped.

    Returns
    -------
    PerturbedPredictions
        Each change of the pixels holds all studies. "one view dropped" leaves out one view by
        chance, and "view 1 alone" to "view 4 alone" use a single one; both hold only studies of
        several views (that have such a view).

    Raises
    ------
    ValueError
        There is no such change, or a view cannot be read.
    FileNotFoundError
        An image is missing.

    Notes
    -----
    The changes are made to the prepared views, squares of the network's image size, not to the
    original pictures. So each has the same strength whatever the size of the original, and a batch
    is changed at once. Noise, JPEG and half resolution are harder on a network that sees small
    views, and a rotation turns a view whose sides were made equal.

    The probability of a view alone is that of a study of one view.
    """
    names = list(PERTURBATIONS) if perturbations is None else list(perturbations)
    if unknown := [name for name in names if name not in PERTURBATIONS]:
        raise ValueError(
            f"expected changes among {', '.join(PERTURBATIONS)}, got {', '.join(unknown)}"
        )
    datasets = {}
    for net in members_of(clf):
        size = net.get_params_for("dataset")["image_size"]
        if size not in datasets:
            datasets[size] = net.get_dataset(studies)
    table = studies_of(next(iter(datasets.values()))).reset_index(drop=True)
    rng = np.random.default_rng(random_state)
    found: dict[str, list[pd.DataFrame]] = {}
    moved: dict[str, tuple[float, MovedStudy]] = {}
    n_parts = -(-len(table) // PART)
    with progress_bar(n_parts * (len(names) + 2), desc="robustness", unit="pass") as bar:
        for start in range(0, len(table), PART):
            part = table.iloc[start : start + PART].reset_index(drop=True)
            rows = range(start, start + len(part))
            views = {size: _read(dataset, rows) for size, dataset in datasets.items()}
            proba, of_views = clf.predict_with_views(PreparedStudies(part, views))
            bar.update()
            base = _base(part, proba[:, 1], clf.threshold_)
            for name in names:
                seed = random_state + start
                changed = {
                    size: perturb_views(name, own, random_state=seed) for size, own in views.items()
                }
                new, new_views = clf.predict_with_views(PreparedStudies(part, changed))
                bar.update()
                own = _scored(base, name, new[:, 1])
                found.setdefault(name, []).append(own)
                size = next(iter(views))
                worst = _worst(own, of_views, new_views, views[size], changed[size])
                if worst is not None and worst[0] > moved.get(name, (0.0,))[0]:
                    moved[name] = worst
            found.setdefault(DROPPED, []).append(_without_one(clf, part, views, base, rng))
            bar.update()
            for number in range(1, MOST_ALONE + 1):
                own = _alone(base, of_views, number)
                found.setdefault(ALONE.format(number), []).append(own)
    tables = [own for parts in found.values() for own in parts if len(own)]
    worst_first = sorted(moved.values(), key=lambda pair: -pair[0])
    return PerturbedPredictions(
        pd.concat(tables, ignore_index=True), [study for _, study in worst_first]
    )


def _read(dataset, rows):
    """Return the prepared views of some rows of a dataset, (n_views, size, size)."""
    views = map_in_threads(
        lambda row: dataset[row][0]["views"].numpy(), rows, desc="views", unit="study", leave=False
    )
    return np.concatenate(views)


def _base(part, score, threshold):
    """Return what all changes of a part share."""
    base = prediction_table(part, score, threshold=threshold)
    base["score_unchanged"] = base["score"]
    return base


def _scored(base, name, score):
    """Return the rows of one change."""
    table = base.assign(perturbation=name, score=np.asarray(score, dtype=float))
    return table[[column for column in COLUMNS if column in table]]


def _without_one(clf, part, views, base, rng):
    """Return the rows of studies of several views without one of them."""
    n_views = part["views"].map(len).to_numpy()
    dropped = rng.integers(n_views)  # drawn for all, so that one study does not change the others
    has_several = n_views > 1
    if not has_several.any():
        return _scored(base[:0], DROPPED, [])
    is_kept = np.repeat(has_several, n_views)
    is_kept[np.concatenate([[0], np.cumsum(n_views)[:-1]]) + dropped] = False
    fewer = [
        own[:place] + own[place + 1 :] for own, place in zip(part["views"], dropped, strict=True)
    ]
    left = part.assign(views=np.fromiter(fewer, dtype=object, count=len(fewer)))[has_several]
    kept = {size: own[is_kept] for size, own in views.items()}
    proba, _ = clf.predict_with_views(PreparedStudies(left.reset_index(drop=True), kept))
    return _scored(base[has_several], DROPPED, proba[:, 1])


def _alone(base, of_views, number):
    """Return the rows of studies of several views, judged by one of them."""
    is_there = np.array([len(own) >= max(2, number) for own in of_views])
    scores = [own[number - 1] for own, there in zip(of_views, is_there, strict=True) if there]
    return _scored(base[is_there], ALONE.format(number), scores)


def _worst(rows, before, after, views, changed):
    """Return how far the worst study moved to the wrong side, and the study; None without one."""
    if "label" not in rows:
        return None
    label = pd.to_numeric(rows["label"]).to_numpy(dtype=float, na_value=np.nan)
    sign = np.where(label == 1, -1.0, 1.0)  # a falling probability is wrong for an abnormal study
    harm = np.where(
        np.isnan(label), -np.inf, sign * (rows["score"] - rows["score_unchanged"]).to_numpy()
    )
    row = int(np.argmax(harm))
    if not harm[row] > 0:
        return None
    own = sign[row] * (np.asarray(after[row]) - np.asarray(before[row]))
    view = int(np.argmax(own))
    place = sum(len(scores) for scores in before[:row]) + view
    return float(harm[row]), MovedStudy(
        perturbation=rows["perturbation"].iloc[row],
        study=str(rows["study"].iloc[row]),
        view=view + 1,
        score_before=float(before[row][view]),
        score_after=float(after[row][view]),
        before=views[place],
        after=changed[place],
    )
