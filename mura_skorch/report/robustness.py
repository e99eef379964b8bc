"""Collect and lay out the robustness of a model for the page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from PIL import Image

from mura_skorch.evaluation.robustness import worst_moves
from mura_skorch.inspection.perturbations import PERTURBATIONS
from mura_skorch.inspection.robustness import MovedStudy, predict_perturbed
from mura_skorch.plots import RobustnessDisplay
from mura_skorch.report.html import bytes_uri
from mura_skorch.utils.text import difference_text, number_text

__all__ = [
    "MovedPicture",
    "Robustness",
    "collect_robustness",
    "robustness_page",
]

N_WORST = 6
SIDE = 256  # pixels of a picture
MIME, QUALITY = "image/jpeg", 90


@dataclass(frozen=True)
class MovedPicture:
    """A view before and after a change that moved its study to the wrong side.

    Attributes
    ----------
    perturbation, study : str
        The change, and the key of the study.
    view : int
        Number of the view, from 1.
    score_before, score_after : float
        Probability of that view alone.
    before, after : bytes
        The view as the network saw it, encoded as JPEG.
    """

    perturbation: str
    study: str
    view: int
    score_before: float
    score_after: float
    before: bytes
    after: bytes

    @property
    def before_uri(self) -> str:
        """The unchanged view as a data URI."""
        return bytes_uri(self.before, MIME)

    @property
    def after_uri(self) -> str:
        """The changed view as a data URI."""
        return bytes_uri(self.after, MIME)


class Robustness(NamedTuple):
    """Predictions under small changes of the views, for the report.

    Attributes
    ----------
    predictions : DataFrame
        The `table` of `mura_skorch.inspection.predict_perturbed`.
    pictures : sequence of MovedPicture, default=()
        The views of the worst cases; none in a report that is drawn again without the model.
    """

    predictions: pd.DataFrame
    pictures: Sequence[MovedPicture] = ()


def collect_robustness(clf: Any, studies: pd.DataFrame, *, random_state: int = 0) -> Robustness:
    """Predict studies under small changes, and keep pictures of the worst cases.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.
    studies : DataFrame
        A study table.
    random_state : int, default=0
        Seed of the noise and of the views that are dropped.

    Returns
    -------
    Robustness
    """
    found = predict_perturbed(clf, studies, random_state=random_state)
    return Robustness(found.table, [_picture(study) for study in found.moved])


def robustness_page(
    robustness: Robustness, scores: pd.DataFrame, *, note: str | None
) -> dict[str, Any]:
    """Return what the template shows, and the figure.

    Parameters
    ----------
    robustness : Robustness
        What was predicted.
    scores : DataFrame
        What `mura_skorch.evaluation.robustness_scores` returns for it.
    note : str or None
        Caveat of the data.
    """
    table = robustness.predictions
    worst = worst_moves(table[table["perturbation"].isin(PERTURBATIONS)], N_WORST)
    pictures = {(shown.perturbation, shown.study): shown for shown in robustness.pictures}
    return {
        "scores": _score_texts(scores),
        "caution": next((text for text in scores["caution"] if text), ""),
        "undefined": scores.loc[scores["undefined"] != "", ["perturbation", "undefined"]],
        "figure": RobustnessDisplay(scores, note=note).plot().figure_,
        "worst": [_worst_text(row, pictures) for row in worst.to_dict("records")],
        "has_note": note,
    }


def _worst_text(row, pictures):
    """Return what is shown of the study that a change moved most."""
    limit = row.get("threshold", 0.5)
    return {
        "perturbation": row["perturbation"],
        "study": str(row["study"]),
        "label": "abnormal" if row["label"] == 1 else "normal",
        "before": number_text(row["score_unchanged"]),
        "after": number_text(row["score"]),
        "picture": pictures.get((row["perturbation"], str(row["study"]))),
        "crosses": (row["score"] > limit) != (row["score_unchanged"] > limit),
    }


def _score_texts(scores):
    """Format the scores."""
    table = scores[["perturbation"]].rename(columns={"perturbation": "change"})
    table["studies"] = scores["n"].astype(int)
    for name, word in (("kappa", "kappa"), ("auroc", "AUROC")):
        table[f"{word} before"] = scores[f"{name}_unchanged"].map(number_text)
        table[f"{word} after"] = scores[name].map(number_text)
        ends = scores[[f"{name}_difference{end}" for end in ("", "_low", "_high")]]
        table[f"change of {word}"] = [difference_text(*row) for row in ends.itertuples(index=False)]
    table["other decisions"] = scores["n_changed"].astype(int)
    table["mean move"] = scores["mean_move"].map(number_text)
    return table


def _picture(study: MovedStudy) -> MovedPicture:
    """Return a case with its views encoded."""
    return MovedPicture(*study[:-2], before=_encoded(study.before), after=_encoded(study.after))


def _encoded(view):
    """Return a view of shape (S, S) as JPEG; small ones are enlarged, each pixel a square."""
    image = Image.fromarray(view)
    if image.width < SIDE:
        image = image.resize((SIDE, SIDE), Image.Resampling.NEAREST)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY, optimize=True)
    return file.getvalue()
