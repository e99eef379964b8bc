"""Net benefit of a model by threshold, with treating all and treating none."""

from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd

from mura_skorch.plots.style import BLUE, GREY, NOTE, ORANGE, plain_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DecisionCurveDisplay"]


class DecisionCurveDisplay:
    """Net benefit by threshold with its 95 % band, and the curves of treating all and none.

    Parameters
    ----------
    curve : DataFrame
        What :func:`mura_skorch.metrics.decision_curve` returns.
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

    Examples
    --------
    >>> from mura_skorch.metrics import decision_curve
    >>> from mura_skorch.plots import DecisionCurveDisplay
    >>> curve = decision_curve([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1])
    >>> DecisionCurveDisplay(curve).plot().ax_.get_ylabel()
    'net benefit (true positives per study)'
    """

    def __init__(
        self, curve: pd.DataFrame, *, name: str = "model", note: str | None = None
    ) -> None:
        self.curve = curve
        self.name = name
        self.note = note

    @plain_texts
    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure of 4.6 by 4.2 inches.

        Returns
        -------
        DecisionCurveDisplay
            The display itself, with `ax_` and `figure_`.
        """
        from matplotlib.figure import Figure

        if ax is None:
            ax = Figure(figsize=(4.6, 4.2), layout="constrained").subplots()
        self.ax_, self.figure_ = ax, ax.figure
        curve = self.curve
        x = curve["threshold"]
        ax.plot(x, curve["treat_all"], color=ORANGE, linestyle="--", label="treat all")
        ax.plot(x, curve["treat_none"], color=GREY, linestyle=":", label="treat none")
        ends = curve["net_benefit_low"], curve["net_benefit_high"]
        if ends[0].notna().any():
            ax.fill_between(x, *ends, color=BLUE, alpha=0.15, linewidth=0, label="95 % interval")
        ax.plot(x, curve["net_benefit"], color=BLUE, label=self.name)
        # Treating all falls without limit: what lies far below 0 is of no use to anybody.
        top = np.nanmax([curve["treat_all"].max(), curve["net_benefit"].max(), 0.05])
        top = np.nanmax([top, ends[1].max()])
        ax.set(xlabel="threshold (probability above which to act)", xlim=(0, 1))
        ax.set(ylabel="net benefit (true positives per study)", ylim=(-0.25 * top, 1.05 * top))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="upper right")
        if self.note:
            ax.set_title(self.note, loc="left", **NOTE)
        return self
