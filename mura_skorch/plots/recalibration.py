"""Gain from recalibration against the number of local studies, with bands over draws."""

from typing import Self

import pandas as pd

from mura_skorch.plots.style import BLUE, GREY, LINE_GREY, NOTE, VERMILLION, plain_texts

__all__ = ["RecalibrationDisplay"]


class RecalibrationDisplay:
    """What recalibration by slope and intercept gains from more and more local studies.

    Parameters
    ----------
    curve : DataFrame
        What `mura_skorch.calibration.recalibration_curve` returns.
    n_enough : int or None, default=None
        Number of studies to mark, see `mura_skorch.calibration.enough_studies`.
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".

    Attributes
    ----------
    axes_ : ndarray of 2 matplotlib Axes
        The change of the log loss, and the error of the mean probability.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> from mura_skorch.calibration import recalibration_curve
    >>> from mura_skorch.plots import RecalibrationDisplay
    >>> curve = recalibration_curve([0, 1] * 40, [0.1, 0.2] * 40, n_draws=5)
    >>> display = RecalibrationDisplay(curve, n_enough=20).plot()
    >>> display.axes_[0].get_xlabel()
    'local studies'
    """

    def __init__(
        self, curve: pd.DataFrame, n_enough: int | None = None, note: str | None = None
    ) -> None:
        self.curve = curve
        self.n_enough = n_enough
        self.note = note

    @plain_texts
    def plot(self) -> Self:
        """Draw the display on a figure of 8.2 by 3.4 inches.

        Returns
        -------
        RecalibrationDisplay
            The display itself, with `axes_` and `figure_`.
        """
        from matplotlib.figure import Figure
        from matplotlib.ticker import NullLocator, ScalarFormatter

        rows = self.curve[self.curve["n_studies"] > 0]
        none = self.curve[self.curve["n_studies"] == 0].iloc[0]
        self.figure_ = Figure(figsize=(8.2, 3.4), layout="constrained")
        self.axes_ = self.figure_.subplots(1, 2)
        labels = {
            "log_loss_change": "change of the log loss",
            "mean_error": "error of the mean probability",
        }
        for ax, (name, label) in zip(self.axes_, labels.items(), strict=True):
            ax.fill_between(
                rows["n_studies"],
                rows[f"{name}_low"],
                rows[f"{name}_high"],
                color=BLUE,
                alpha=0.2,
                linewidth=0,
                label="90 % of draws",
            )
            ax.plot(rows["n_studies"], rows[name], "o-", color=BLUE, markersize=4, label="mean")
            ax.axhline(
                none[name], color=GREY, linestyle="--", linewidth=1, label="not recalibrated"
            )
            if self.n_enough is not None:
                ax.axvline(self.n_enough, color=VERMILLION, linewidth=1, label="enough")
            ax.set(xscale="log", xlabel="local studies", ylabel=label)
            ax.set_xticks(rows["n_studies"])
            ax.xaxis.set_major_formatter(ScalarFormatter())
            ax.xaxis.set_minor_locator(NullLocator())
            ax.tick_params(axis="x", labelsize=8)
            ax.grid(axis="y", color=LINE_GREY, linewidth=0.5)
            ax.spines[["top", "right"]].set_visible(False)
        self.axes_[0].legend(frameon=False, fontsize=8)
        if self.note:
            self.figure_.suptitle(self.note, x=0.01, ha="left", **NOTE)
        return self
