"""ROC curve with the operating point."""

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import RocCurveDisplay, roc_auc_score, roc_curve

from mura_skorch.evaluation.published import OVERALL_MODEL
from mura_skorch.plots.style import BLUE, LINE_GREY, NOTE, ORANGE, plain_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RocDisplay"]

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
    ) -> None:
        self.y_true = y_true
        self.y_score = y_score
        self.published = published
        self.threshold = threshold
        self.name = name
        self.note = note

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
        ax: "Axes | None" = None,
    ) -> Self:
        """Draw predictions in one step.

        Parameters
        ----------
        y_true, y_score, published, threshold, name, note
            As for the class.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        RocDisplay
            The display, drawn.
        """
        display = cls(
            y_true, y_score, published=published, threshold=threshold, name=name, note=note
        )
        return display.plot(ax)

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
