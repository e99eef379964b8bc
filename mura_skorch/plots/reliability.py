"""Reliability: labels and probabilities in, a figure of how far they can be believed out."""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.calibration import CalibrationDisplay

from mura_skorch.metrics import ECE_BINS
from mura_skorch.plots.style import BLUE, GREY, LINE_GREY, VERMILLION, plain_texts

__all__ = ["ReliabilityDisplay"]


class ReliabilityDisplay:
    """Share of abnormal studies against the predicted probability, above a histogram of it.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".

    Attributes
    ----------
    ax_, ax_histogram_ : matplotlib Axes
        The curve and the histogram below it.
    figure_ : matplotlib Figure
        The figure that holds them.

    Notes
    -----
    The curve is scikit-learn's ``CalibrationDisplay`` with as many bins of equal
    width as the calibration error has; a bin without
    studies has no point. Points stand for as many studies as the histogram shows: a point of a few
    studies means little.

    Examples
    --------
    >>> from mura_skorch.plots import ReliabilityDisplay
    >>> display = ReliabilityDisplay([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1]).plot()
    >>> display.ax_histogram_.get_xlabel()
    'predicted probability of abnormality'
    """

    def __init__(self, y_true: ArrayLike, y_score: ArrayLike, note: str | None = None) -> None:
        self.y_true = y_true
        self.y_score = y_score
        self.note = note

    @plain_texts
    def plot(self) -> Self:
        """Draw the display on a figure of 4.6 by 5 inches.

        Returns
        -------
        ReliabilityDisplay
            The display itself, with `ax_`, `ax_histogram_` and `figure_`.
        """
        from matplotlib.figure import Figure

        y_true, y_score = np.asarray(self.y_true, dtype=int), np.asarray(self.y_score, dtype=float)
        self.figure_ = Figure(figsize=(4.6, 5), layout="constrained")
        self.ax_, self.ax_histogram_ = self.figure_.subplots(
            2, sharex=True, height_ratios=[3, 1], squeeze=True
        )
        self.ax_.plot([0, 1], [0, 1], color=LINE_GREY, linewidth=1, label="perfectly calibrated")
        if len(y_true):
            CalibrationDisplay.from_predictions(
                y_true,
                y_score,
                pos_label=1,
                n_bins=ECE_BINS,
                ref_line=False,
                name="model",
                ax=self.ax_,
                color=BLUE,
                marker="o",
            )
        self.ax_.set(xlabel="", ylabel="share of abnormal studies", xlim=(-0.02, 1.02))
        self.ax_.set_ylim(-0.02, 1.02)
        self.ax_.legend(frameon=False, fontsize=8, loc="upper left")
        edges = np.linspace(0, 1, ECE_BINS + 1)
        parts = [y_score[y_true == label] for label in (0, 1)]
        self.ax_histogram_.hist(
            parts, edges, stacked=True, color=[GREY, VERMILLION], label=["normal", "abnormal"]
        )
        self.ax_histogram_.set(xlabel="predicted probability of abnormality", ylabel="studies")
        self.ax_histogram_.legend(frameon=False, fontsize=8)
        for ax in (self.ax_, self.ax_histogram_):
            ax.spines[["top", "right"]].set_visible(False)
        if self.note:
            self.ax_.set_title(
                self.note, loc="left", color=VERMILLION, fontsize=9, fontweight="bold"
            )
        return self
