"""ROC curve with the operating point."""

from itertools import cycle
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import RocCurveDisplay, roc_auc_score, roc_curve

from mura_skorch.evaluation.published import OVERALL_MODEL
from mura_skorch.plots.predicted import predict_labelled
from mura_skorch.plots.style import BLUE, LINE_GREY, NOTE, ORANGE, SERIES, plain_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RocDisplay"]

STYLES = ("-", "--", ":")  # of study types that share a colour
FOOTNOTE = (
    "* arXiv:1712.06957v4, AUROC {auroc:.3f}, on a hidden test set\n"
    "of 207 studies, not on the studies of this curve"
)


class RocDisplay:
    """Receiver operating characteristic with the operating points of the model and the paper.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal; both occur.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality.
    published : bool, default=False
        Mark the operating point of the paper's model, with a footnote that it was measured on
        another test set. For MURA only, with all study types.
    threshold : float or None, default=0.5
        Operating point to mark: studies with a probability strictly above are abnormal. None
        marks none, for example if studies have different thresholds.
    name : str, default="model"
        Name of the curve in the legend, such as "7 models, pooled".
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".
    study_type : array-like of shape (n_studies,) or None, default=None
        Study types, to add a thin curve of each. The legend names types of one class, which have
        none.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        Its figure.

    Notes
    -----
    The curve is scikit-learn's ``RocCurveDisplay``.

    Examples
    --------
    >>> from mura_skorch.plots import RocDisplay
    >>> display = RocDisplay.from_predictions([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1])
    >>> display.ax_.get_xlabel()
    '1 - specificity'
    """

    def __init__(
        self,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        published: bool = False,
        threshold: float | None = 0.5,
        name: str = "model",
        note: str | None = None,
        study_type: ArrayLike | None = None,
    ) -> None:
        self.y_true = y_true
        self.y_score = y_score
        self.published = published
        self.threshold = threshold
        self.name = name
        self.note = note
        self.study_type = study_type

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        published: bool = False,
        threshold: float | None = 0.5,
        name: str = "model",
        note: str | None = None,
        study_type: ArrayLike | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw predictions in one step.

        Parameters
        ----------
        y_true, y_score, published, threshold, name, note, study_type
            As for the class.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        RocDisplay
            The display, drawn.
        """
        display = cls(
            y_true,
            y_score,
            published=published,
            threshold=threshold,
            name=name,
            note=note,
            study_type=study_type,
        )
        return display.plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: pd.DataFrame,
        y: ArrayLike | None = None,
        *,
        by_type: bool = True,
        name: str = "all studies",
        ax: "Axes | None" = None,
    ) -> Self:
        """Predict studies and draw the curve of all, and one of each study type.

        Parameters
        ----------
        estimator : MuraClassifier, MuraEnsemble or another fitted classifier
            It predicts at its ``threshold_``, or else at 0.5.
        X : DataFrame of n_studies rows
            A study table; rows without a label are left out.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``X["label"]``.
        by_type : bool, default=True
            Whether to draw a curve of each study type, if there are several.
        name : str, default="all studies"
            Name of the curve of all studies.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        RocDisplay
            The display, drawn, with the caveat of the data as its note.

        Examples
        --------
        >>> RocDisplay.from_estimator(clf, valid).figure_  # doctest: +SKIP
        """
        found = predict_labelled(estimator, X, y)
        types = found.study_type
        return cls.from_predictions(
            found.y_true,
            found.y_score,
            threshold=found.threshold,
            name=name,
            note=found.note,
            study_type=types if by_type and types is not None and len(set(types)) > 1 else None,
            ax=ax,
        )

    @plain_texts
    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure, 4.6 inches wide.

        Returns
        -------
        RocDisplay
            The display itself, with `ax_` and `figure_`.

        Raises
        ------
        ValueError
            There are no normal or no abnormal studies.
        """
        from matplotlib.figure import Figure

        y_true, y_score = np.asarray(self.y_true, dtype=int), np.asarray(self.y_score, dtype=float)
        if len(np.unique(y_true)) < 2:
            raise ValueError(
                f"expected normal and abnormal studies for a ROC curve, got {len(y_true)} of one "
                "class; leave out the figure"
            )
        if ax is None:
            height = 5.4 if self.published else 4.8
            ax = Figure(figsize=(4.6, height), layout="constrained").subplots()
        self.ax_, self.figure_ = ax, ax.figure
        ax.plot([0, 1], [0, 1], color=LINE_GREY, linewidth=1)
        self._draw_types(y_true, y_score)
        fpr, tpr, _ = roc_curve(y_true, y_score)
        auroc = roc_auc_score(y_true, y_score)
        RocCurveDisplay(fpr=fpr, tpr=tpr).plot(
            ax=ax, curve_kwargs={"color": BLUE, "label": f"{self.name}, AUROC {auroc:.3f}"}
        )
        if self.threshold is not None:
            called = y_score > self.threshold
            point = called[y_true == 0].mean(), called[y_true == 1].mean()
            label = f"{self.name} above {self.threshold:.3g}"
            ax.plot(*point, "o", color=BLUE, label=label, clip_on=False, zorder=3)
        caption = "1 - specificity"
        if self.published:
            point = 1 - OVERALL_MODEL["specificity"], OVERALL_MODEL["sensitivity"]
            ax.plot(*point, "D", color=ORANGE, label="paper's model*", clip_on=False, zorder=3)
            caption += "\n\n" + FOOTNOTE.format(**OVERALL_MODEL)
        ax.set(xlabel=caption, ylabel="sensitivity", aspect="equal")
        ax.xaxis.label.set_fontsize(9)
        ax.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="lower right")
        if self.note:
            ax.set_title(self.note, loc="left", **NOTE)
        return self

    def _draw_types(self, y_true, y_score):
        """Draw a thin curve of each study type."""
        if self.study_type is None:
            return
        types = np.asarray(self.study_type, dtype=object)
        colours = cycle(colour for colour in SERIES if colour != BLUE)
        for number, (name, colour) in enumerate(zip(sorted(set(types)), colours, strict=False)):
            own = types == name
            style: dict[str, Any] = {"color": colour, "linewidth": 1}
            style["linestyle"] = STYLES[number // 6 % 3]
            if len(np.unique(y_true[own])) < 2:
                self.ax_.plot([], [], label=f"{name}: one class only", **style)
                continue
            fpr, tpr, _ = roc_curve(y_true[own], y_score[own])
            label = f"{name}, AUROC {roc_auc_score(y_true[own], y_score[own]):.3f}"
            self.ax_.plot(fpr, tpr, label=label, **style)
