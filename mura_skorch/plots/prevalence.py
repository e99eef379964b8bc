"""Positive and negative predictive value by the share of abnormal studies."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import pandas as pd

from mura_skorch.plots.style import BLUE, GREY, NOTE, VERMILLION, plain_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PrevalenceDisplay"]


class PrevalenceDisplay:
    """PPV and NPV by prevalence, with their 95 % bands.

    Parameters
    ----------
    values : DataFrame
        What :func:`mura_skorch.metrics.predictive_values` returns, by rising prevalence.
    marked : sequence of float, default=()
        Prevalences to mark by a vertical line.
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
    >>> from mura_skorch.metrics import predictive_values
    >>> from mura_skorch.plots import PrevalenceDisplay
    >>> values = predictive_values([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1], [0.1, 0.5, 0.9])
    >>> PrevalenceDisplay(values).plot().ax_.get_xlabel()
    'share of abnormal studies at the place of use'
    """

    def __init__(
        self, values: pd.DataFrame, *, marked: Sequence[float] = (), note: str | None = None
    ) -> None:
        self.values = values
        self.marked = marked
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
        PrevalenceDisplay
            The display itself, with `ax_` and `figure_`.
        """
        from matplotlib.figure import Figure

        if ax is None:
            ax = Figure(figsize=(4.6, 4.2), layout="constrained").subplots()
        self.ax_, self.figure_ = ax, ax.figure
        x = self.values["prevalence"]
        for name, colour in (("ppv", VERMILLION), ("npv", BLUE)):
            ends = self.values[f"{name}_low"], self.values[f"{name}_high"]
            if ends[0].notna().any():
                ax.fill_between(x, *ends, color=colour, alpha=0.15, linewidth=0)
            ax.plot(x, self.values[name], color=colour, label=name.upper())
        for prevalence in self.marked:
            ax.axvline(prevalence, color=GREY, linewidth=1, linestyle=":")
        ax.set(xlabel="share of abnormal studies at the place of use", xlim=(0, 1))
        ax.set(ylabel="predictive value", ylim=(0, 1.02))
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8, loc="lower center")
        if self.note:
            ax.set_title(self.note, loc="left", **NOTE)
        return self
