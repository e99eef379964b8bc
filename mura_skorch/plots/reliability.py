"""Reliability curve: share of abnormal studies against predicted probability."""

from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.metrics import calibration_bins
from mura_skorch.plots.predicted import predict_labelled
from mura_skorch.plots.style import BLUE, GREY, LINE_GREY, NOTE, VERMILLION, plain_texts

__all__ = ["ReliabilityDisplay"]

FEW = 10  # studies of a bin; with fewer, a share of .5 has a 95 % interval of +- .3 or more
FAINT = 0.35  # opacity of such a bin's point


class ReliabilityDisplay:
    """Share of abnormal studies against predicted probability, with a histogram below.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".
    name : str, default="model"
        Name of the curve in the legend, such as "7 models, pooled".

    Attributes
    ----------
    ax_, ax_histogram_ : matplotlib Axes
        The curve and the histogram below it.
    figure_ : matplotlib Figure
        Their figure.

    Notes
    -----
    Curve, histogram and calibration error share the bins of
    :func:`mura_skorch.metrics.calibration_bins`. A bin of fewer than ten studies has a faint point
    that is not joined by a line; an empty bin has none.

    Examples
    --------
    >>> from mura_skorch.plots import ReliabilityDisplay
    >>> display = ReliabilityDisplay([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1]).plot()
    >>> display.ax_histogram_.get_xlabel()
    'predicted probability of abnormality'
    """

    def __init__(
        self,
        y_true: ArrayLike,
        y_score: ArrayLike,
        note: str | None = None,
        *,
        name: str = "model",
    ) -> None:
        self.y_true = y_true
        self.y_score = y_score
        self.name = name
        self.note = note

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        note: str | None = None,
        name: str = "model",
    ) -> Self:
        """Draw predictions in one step; for parameters see the class."""
        return cls(y_true, y_score, note, name=name).plot()

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: pd.DataFrame, y: ArrayLike | None = None, *, name: str = "model"
    ) -> Self:
        """Predict studies and draw the predictions.

        Parameters
        ----------
        estimator : MuraClassifier, MuraEnsemble or another fitted classifier
            It predicts at its ``threshold_``, or else at 0.5.
        X : DataFrame of n_studies rows
            A study table; rows without a label are left out.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``X["label"]``.
        name : str, default="model"
            Name of the curve in the legend.

        Returns
        -------
        ReliabilityDisplay
            The display, drawn, with the caveat of the data as its note.

        Examples
        --------
        >>> ReliabilityDisplay.from_estimator(clf, valid).figure_  # doctest: +SKIP
        """
        found = predict_labelled(estimator, X, y)
        return cls.from_predictions(found.y_true, found.y_score, note=found.note, name=name)

    @plain_texts
    def plot(self) -> Self:
        """Draw the display on a figure of 4.6 by 5 inches.

        Returns
        -------
        ReliabilityDisplay
            The display itself, with `ax_`, `ax_histogram_` and `figure_`.
        """
        from matplotlib.figure import Figure

        bins = calibration_bins(self.y_true, self.y_score)
        n = bins["n_normal"] + bins["n_abnormal"]
        self.figure_ = Figure(figsize=(4.6, 5), layout="constrained")
        self.ax_, self.ax_histogram_ = self.figure_.subplots(
            2, sharex=True, height_ratios=[3, 1], squeeze=True
        )
        self.ax_.plot([0, 1], [0, 1], color=LINE_GREY, linewidth=1, label="perfectly calibrated")
        # NaN breaks the line, so that points of few studies are not joined.
        many, few = bins.mask(n < FEW), bins.mask((n == 0) | (n >= FEW))
        self.ax_.plot(many["mean_score"], many["share_abnormal"], "o-", color=BLUE, label=self.name)
        if few["mean_score"].notna().any():
            label = f"fewer than {FEW} studies"
            style = {"linestyle": "none", "alpha": FAINT, "label": label}
            self.ax_.plot(few["mean_score"], few["share_abnormal"], "o", color=BLUE, **style)
        self.ax_.set(xlabel="", ylabel="share of abnormal studies", xlim=(-0.02, 1.02))
        self.ax_.set_ylim(-0.02, 1.02)
        self.ax_.legend(frameon=False, fontsize=8, loc="upper left")
        below = np.zeros(len(bins))
        for kind, colour in (("normal", GREY), ("abnormal", VERMILLION)):
            counts = bins[f"n_{kind}"].to_numpy()
            widths = bins["high"] - bins["low"]
            self.ax_histogram_.bar(
                bins["low"], counts, widths, below, align="edge", color=colour, label=kind
            )
            below = below + counts
        self.ax_histogram_.set(xlabel="predicted probability of abnormality", ylabel="studies")
        self.ax_histogram_.legend(frameon=False, fontsize=8)
        for ax in (self.ax_, self.ax_histogram_):
            ax.spines[["top", "right"]].set_visible(False)
        if self.note:
            self.ax_.set_title(self.note, loc="left", **NOTE)
        return self
