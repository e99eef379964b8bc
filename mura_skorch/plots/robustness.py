"""Forest plot of what small changes of the views do to kappa and AUROC."""

from typing import Self

import numpy as np
import pandas as pd

from mura_skorch.plots.style import BLUE, LINE_GREY, NOTE, plain_texts

__all__ = ["RobustnessDisplay"]

ROW_INCHES = 0.3


class RobustnessDisplay:
    """Differences in kappa and AUROC under each change, with 95 % intervals.

    Parameters
    ----------
    scores : DataFrame
        What :func:`mura_skorch.evaluation.robustness_scores` returns.
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".

    Attributes
    ----------
    axes_ : ndarray of 2 matplotlib Axes
        Of kappa and of AUROC.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation import robustness_scores
    >>> from mura_skorch.plots import RobustnessDisplay
    >>> table = {"perturbation": "inverted", "label": [1, 0], "score": [0.3, 0.4]}
    >>> scores = robustness_scores(pd.DataFrame(table | {"score_unchanged": [0.9, 0.2]}))
    >>> RobustnessDisplay(scores).plot().axes_[0].get_xlabel()
    'change of kappa'
    """

    def __init__(self, scores: pd.DataFrame, *, note: str | None = None) -> None:
        self.scores = scores
        self.note = note

    @plain_texts
    def plot(self) -> Self:
        """Draw the display on a figure 8.6 inches wide.

        Returns
        -------
        RobustnessDisplay
            The display itself, with `axes_` and `figure_`.
        """
        from matplotlib.figure import Figure

        scores = self.scores
        height = 1.2 + ROW_INCHES * len(scores)
        self.figure_ = Figure(figsize=(8.6, height), layout="constrained")
        self.axes_ = self.figure_.subplots(1, 2, sharey=True)
        y = np.arange(len(scores))
        for ax, (name, word) in zip(
            self.axes_, (("kappa", "kappa"), ("auroc", "AUROC")), strict=True
        ):
            ends = [scores[f"{name}_difference{end}"].to_numpy(float) for end in ("_low", "_high")]
            ax.axvline(0, color=LINE_GREY, linewidth=1)
            ax.hlines(y, *ends, color=BLUE, linewidth=1.5)
            ax.plot(scores[f"{name}_difference"], y, "o", color=BLUE, markersize=5)
            ax.set(xlabel=f"change of {word}")
            ax.spines[["top", "right", "left"]].set_visible(False)
            ax.tick_params(axis="y", length=0)
            ax.grid(axis="y", color=LINE_GREY, linewidth=0.4)
            ax.set_axisbelow(True)
        self.axes_[0].set(yticks=y, yticklabels=scores["perturbation"])
        self.axes_[0].invert_yaxis()
        if self.note:
            self.figure_.suptitle(self.note, **NOTE)
        return self
