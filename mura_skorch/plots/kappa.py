"""Forest plot of Cohen's kappa by study type, next to a table of all scores."""

import textwrap
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.evaluation.formatting import SUMMARIES, footnotes, score_texts
from mura_skorch.metrics import study_scores
from mura_skorch.plots.predicted import predict_labelled
from mura_skorch.plots.style import (
    BLUE,
    GREEN,
    GREY,
    LINE_GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    plain_texts,
)
from mura_skorch.utils.text import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAME_WIDTH = 20  # characters of a study type that are shown
WIDTH, WIDTH_ALONE = 10, 5.2  # inches of a figure with and without the table
PLOT_SHARE = 0.4  # share of the axes' width for the forest plot; the rest is the table
ROW_INCHES = 0.33
BELOW_LABEL = 4.5  # font sizes from the axes to a legend below the axis label
NOTE_INCHES = 0.12  # height of a line of the footnotes
NOTE_WIDTH = 124  # characters
FONT_PER_INCH = 0.93  # font size, in points per inch of the axes' width, at which the table fits
# Marker, colour, label, and shift in rows, which separates markers of equal kappas.
MARKERS = {
    "pooled_model": ("s", PURPLE, "model of all types", 0.12),
    "paper_model": ("D", ORANGE, "paper's model*", -0.23),
    "best_radiologist": ("^", GREEN, "best radiologist*", 0.23),
}
# Relative widths of the columns of the table, in characters.
COLUMN_WIDTHS = {
    "studies": 8,
    "kappa (95 % CI)": 21,
    "AUROC": 8,
    "sensitivity": 11,
    "specificity": 11,
    "pooled": 8,
    "paper*": 8,
    "best rad.*": 10,
}


class KappaDisplay:
    """Forest plot of Cohen's kappa by study type, next to a table of all scores.

    One row per study type; the rows over all types are set apart below. A point is the kappa, its
    bar the 95 % interval. Published kappas in the table are marked in their row, with a footnote
    that they come from another test set.

    Parameters
    ----------
    scores : DataFrame
        What :func:`mura_skorch.metrics.study_scores` or
        :func:`mura_skorch.evaluation.published.add_published` returns. If all figures of
        a row are NaN, its `status` is shown, if there is one.
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".
    with_table : bool, default=True
        Whether to draw the table. False where it stands next to the figure already.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on.
    figure_ : matplotlib Figure
        Its figure.

    See Also
    --------
    KappaDisplay.from_predictions : Score and draw in one step.
    KappaDisplay.from_estimator : Predict, score and draw in one step.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> from mura_skorch.plots import KappaDisplay
    >>> scores = study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1], study_type=["XR_HAND"] * 4)
    >>> display = KappaDisplay(scores, note="four made-up studies").plot()
    >>> display.ax_.get_xlabel()
    "Cohen's kappa"
    """

    def __init__(
        self, scores: pd.DataFrame, note: str | None = None, *, with_table: bool = True
    ) -> None:
        self.scores = scores
        self.note = note
        self.with_table = with_table

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        study_type: ArrayLike | None,
        groups: ArrayLike | None = None,
        threshold: float = 0.5,
        interval: Literal["auto", "bootstrap", "analytic", "as-printed"] = "auto",
        random_state: int | np.random.Generator | None = 0,
        note: str | None = None,
        ax: "Axes | None" = None,
    ) -> Self:
        """Score predictions and draw them.

        Parameters
        ----------
        y_true : array-like of shape (n_studies,)
            Labels, 1 abnormal and 0 normal.
        y_score : array-like of shape (n_studies,)
            Probabilities of abnormality, in [0, 1].
        study_type : array-like of shape (n_studies,) or None
            Study types. None draws only the row over all studies.
        groups : array-like of shape (n_studies,) or None, default=None
            Patients.
        threshold : float in [0, 1], default=0.5
            A study is called abnormal if its probability is strictly greater.
        interval : {"auto", "bootstrap", "analytic", "as-printed"}, default="auto"
            Method of the interval, see :func:`mura_skorch.metrics.study_scores`.
        random_state : int, numpy Generator or None, default=0
            Seed of the bootstrap.
        note : str or None, default=None
            Printed in colour above the plot.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        KappaDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            As :func:`mura_skorch.metrics.study_scores`.

        Examples
        --------
        >>> from mura_skorch.plots import KappaDisplay
        >>> display = KappaDisplay.from_predictions(
        ...     [1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1], study_type=["XR_HAND"] * 4
        ... )
        >>> len(display.scores)
        2
        """
        scores = study_scores(
            y_true,
            y_score,
            study_type=study_type,
            groups=groups,
            threshold=threshold,
            interval=interval,
            random_state=random_state,
        )
        return cls(scores, note=note).plot(ax=ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: pd.DataFrame,
        y: ArrayLike | None = None,
        *,
        random_state: int | np.random.Generator | None = 0,
        ax: "Axes | None" = None,
    ) -> Self:
        """Predict studies, score the predictions by study type and draw them.

        Parameters
        ----------
        estimator : MuraClassifier, MuraEnsemble or another fitted classifier
            It predicts at its ``threshold_``, or else at 0.5.
        X : DataFrame of n_studies rows
            A study table; rows without a label are left out.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``X["label"]``.
        random_state : int, numpy Generator or None, default=0
            Seed of the bootstrap over patients.
        ax : matplotlib Axes or None, default=None
            Axes to draw on; None makes a figure.

        Returns
        -------
        KappaDisplay
            The display, drawn, with the caveat of the data as its note.

        Examples
        --------
        >>> KappaDisplay.from_estimator(clf, valid).figure_  # doctest: +SKIP
        """
        found = predict_labelled(estimator, X, y)
        return cls.from_predictions(**found._asdict(), random_state=random_state, ax=ax)

    @plain_texts
    def plot(self, ax: "Axes | None" = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        ax : matplotlib Axes or None, default=None
            Axes to draw on; the table is readable from about 9 inches of width. None makes a
            figure of 10 inches, or 5.2 without the table, which is not managed by pyplot and need
            not be closed.

        Returns
        -------
        KappaDisplay
            The display itself, with `ax_` and `figure_`.
        """
        texts = score_texts(self.scores)
        notes = []  # of the table
        if self.with_table:
            notes = textwrap.wrap(". ".join(footnotes(self.scores)), NOTE_WIDTH)
        positions = self._positions()
        if ax is None:
            from matplotlib.figure import Figure

            rest = 0.65 + NOTE_INCHES * len(notes) + (0.3 if self.note else 0)
            if not self.with_table and self._published():  # a legend of two lines
                rest += 0.2
            height = rest + ROW_INCHES * (positions[-1] + 2.1)
            width = WIDTH if self.with_table else WIDTH_ALONE
            ax = Figure(figsize=(width, height), layout="constrained").add_subplot()
            width -= 0.08 * max(len(shorten(name, NAME_WIDTH)) for name in texts["study type"])
        else:
            width = ax.get_window_extent().width / ax.figure.dpi
        self.ax_, self.figure_ = ax, ax.figure
        size = float(np.clip(FONT_PER_INCH * width, 4.5, 8.0)) if self.with_table else 9.0
        self._draw_axes(texts["study type"], positions, size)
        self._draw_kappas(positions, size)
        if self.with_table:
            self._draw_table(texts, positions, size)
        self._draw_words(notes, size)
        return self

    def _positions(self):
        """Return the position of each row, downwards from 0, with a gap before the summary rows."""
        rows = np.arange(len(self.scores))
        is_summary = self.scores["study_type"].isin(SUMMARIES).to_numpy()
        return rows + 0.4 * (is_summary & (rows > 0))

    def _draw_axes(self, names, positions, size):
        """Draw names on the left, and the scale of kappa below the forest plot only."""
        ax = self.ax_
        shown = self.scores[["kappa", "kappa_low", *self._published()]].to_numpy(dtype=float)
        lowest = np.nanmin(shown, initial=0.0)
        spacing = 0.2 if lowest > -0.4 else 0.5
        low = spacing * np.floor(lowest / spacing) if lowest < 0 else 0.0
        pad = 0.02 * (1 - low)
        share = PLOT_SHARE if self.with_table else 1
        ax.set_xlim(low - pad, low - pad + (1 + 2 * pad - low) / share)
        ax.set_ylim(positions[-1] + 0.6, -1.5 if self.with_table else -0.6)
        ticks = np.linspace(low, 1, round((1 - low) / spacing) + 1)
        ax.set_xticks(ticks, [f"{tick:.1f}".replace("-0.0", "0.0") for tick in ticks])
        ax.set_xlabel("Cohen's kappa", x=share / 2, fontsize=size)
        ax.set_yticks(positions, [shorten(name, NAME_WIDTH) for name in names])
        ax.tick_params(labelsize=size, length=0)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.spines["bottom"].set_bounds(low - pad, 1 + pad)
        for tick in ticks:
            dark = GREY if low < 0 and abs(tick) < 1e-9 else LINE_GREY
            ax.vlines(tick, -0.5, positions[-1] + 0.6, color=dark, linewidth=0.7, zorder=0)
        ax.axhline(-0.55, color=GREY, linewidth=0.8)
        below = positions[positions % 1 > 0]
        if len(below):
            ax.axhline(below[0] - 0.7, color=GREY, linewidth=0.8)

    def _draw_kappas(self, positions, size):
        """Draw points and bars (or n/a) and the published kappas."""
        ax, scores = self.ax_, self.scores
        kappa, low, high = scores[["kappa", "kappa_low", "kappa_high"]].to_numpy(dtype=float).T
        ax.hlines(positions, low, high, color=BLUE, linewidth=2.2, zorder=2)
        dot: dict[str, Any] = {"color": BLUE, "marker": "o", "markersize": 0.75 * size, "zorder": 4}
        ax.plot(kappa, positions, linestyle="none", **dot)
        ax.plot([], [], linewidth=2.2, label="kappa, 95 % interval", **dot)
        for position in positions[np.isnan(kappa)]:
            ax.text(0.02, position, "n/a", color=GREY, fontsize=size, va="center_baseline")
        for column in self._published():
            marker, colour, label, shift = MARKERS[column]
            ax.plot(
                scores[column].to_numpy(dtype=float),
                positions + shift,
                label=label,
                linestyle="none",
                marker=marker,
                markersize=0.65 * size,
                markerfacecolor="none",
                markeredgecolor=colour,
                markeredgewidth=1.5,
                zorder=3,
            )

    def _draw_table(self, texts, positions, size):
        """Draw the columns of the table, right-aligned under their headers."""
        columns = [header for header in texts if header in COLUMN_WIDTHS]
        widths = np.array([COLUMN_WIDTHS[header] for header in columns], dtype=float)
        edges = PLOT_SHARE + (1 - PLOT_SHARE) * np.cumsum(widths) / widths.sum()
        style: dict[str, Any] = {
            "transform": self.ax_.get_yaxis_transform(),
            "va": "center_baseline",
            "fontsize": size,
        }
        for header, edge in zip(columns, edges, strict=True):
            self.ax_.text(edge, -1, header, ha="right", fontweight="bold", **style)
        for i, position in enumerate(positions):
            if not texts["AUROC"][i]:
                status = shorten(texts["kappa (95 % CI)"][i], 60)
                self.ax_.text(edges[0], position, texts["studies"][i], ha="right", **style)
                self.ax_.text(edges[0] + 0.02, position, status, color=VERMILLION, **style)
                continue
            for header, edge in zip(columns, edges, strict=True):
                self.ax_.text(edge, position, texts[header][i], ha="right", **style)

    def _draw_words(self, notes, size):
        """Draw legend, footnotes and note."""
        ax = self.ax_
        ax.legend(
            loc="upper right",
            bbox_to_anchor=(1, 0),
            ncols=3 if self.with_table else 2,
            fontsize=size,
            frameon=False,
            borderaxespad=0.2 if self.with_table else BELOW_LABEL,
            handletextpad=0.6,
            columnspacing=1.5,
        )
        if notes:
            ax.annotate(
                "\n".join(notes),
                xy=(1, 0),
                xycoords="axes fraction",
                xytext=(0, -2.3 * size),
                textcoords="offset points",
                ha="right",
                va="top",
                multialignment="left",
                fontsize=0.85 * size,
                color=GREY,
            )
        if self.note:
            ax.set_title(
                self.note, loc="left", color=VERMILLION, fontsize=1.1 * size, fontweight="bold"
            )

    def _published(self):
        """Return the columns with published or pooled kappas."""
        return [column for column in MARKERS if column in self.scores]
