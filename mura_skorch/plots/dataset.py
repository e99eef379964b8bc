"""Plot an overview of a dataset: studies by type and label, views per study, image sizes."""

from typing import Any, Self

import numpy as np
import pandas as pd

from mura_skorch.metrics import OVERALL
from mura_skorch.plots.style import BLUE, GREY, LINE_GREY, ORANGE, SERIES, VERMILLION, plain_texts
from mura_skorch.utils.text import shorten

NAME_WIDTH = 16  # characters of a study type that are shown
COLUMN_INCHES, ROW_INCHES = 3.6, 3.1
SMALL: dict[str, Any] = {"fontsize": 8, "color": GREY}
DOT_AREA = 220  # points squared, at most
MARKERS = "os^Dv"  # one per split, so that colour is not the only difference


class DatasetDisplay:
    """Overview of a dataset: studies by type and label, views per study, image sizes.

    The upper row has one panel per split with the studies of each type. The lower row shows the
    number of views per study, the share of abnormal studies by number of views (a shortcut, if it
    varies) and, if the files were read, the image sizes.

    Parameters
    ----------
    counts : DataFrame
        Columns ``split``, ``study_type``, ``studies``, ``normal``, ``abnormal``, ``unlabelled``.
    views_per_study : DataFrame
        Columns ``split``, ``n_views``, ``studies``, and ``abnormal_share`` with the limits of its
        interval in ``abnormal_share_low`` and ``abnormal_share_high``.
    images : DataFrame or None, default=None
        One row per view, with ``split``, ``width`` and ``height`` in pixels. Missing values are
        ignored.
    note : str or None, default=None
        Printed in colour above the figure, such as "phantoms: no clinical meaning".

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        The figure. It is not managed by pyplot and need not be closed.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import explore_studies
    >>> from mura_skorch.plots import DatasetDisplay
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png",)], "label": [1]})
    >>> found = explore_studies(studies, read_images=False)
    >>> display = DatasetDisplay(found.counts, found.views_per_study).plot()
    >>> [ax.get_title(loc="left") for ax in display.axes_]
    ['Studies: all', 'Views per study', 'Abnormal, by number of views']
    """

    def __init__(
        self,
        counts: pd.DataFrame,
        views_per_study: pd.DataFrame,
        images: pd.DataFrame | None = None,
        note: str | None = None,
    ) -> None:
        self.counts = counts
        self.views_per_study = views_per_study
        self.images = images
        self.note = note

    @plain_texts
    def plot(self) -> Self:
        """Draw the display into a new figure.

        Returns
        -------
        DatasetDisplay
            The display itself, with `axes_` and `figure_`.
        """
        from matplotlib.figure import Figure

        splits = list(dict.fromkeys(self.counts["split"]))
        # Blue and orange are for the labels.
        colours = dict(zip(splits, SERIES[2:] * len(splits), strict=False))
        below = [self._draw_views, self._draw_shares]
        if self.images is not None:
            below.append(self._draw_sizes)
        types = self.counts["study_type"].nunique() - 1
        upper = max(1.5, 0.9 + 0.27 * types)
        width = COLUMN_INCHES * max(3, len(splits))
        figure = Figure(figsize=(width, upper + ROW_INCHES), layout="constrained")
        rows = figure.add_gridspec(2, 1, height_ratios=[upper, ROW_INCHES])
        uppers = figure.add_subfigure(rows[0]).subplots(1, len(splits), squeeze=False)[0]
        lowers = figure.add_subfigure(rows[1]).subplots(1, len(below), squeeze=False)[0]
        for ax, split in zip(uppers, splits, strict=True):
            self._draw_counts(ax, split, first=ax is uppers[0])
        for ax, draw in zip(lowers, below, strict=True):
            draw(ax, colours)
        if self.note:
            figure.suptitle(self.note, color=VERMILLION, fontsize=10, fontweight="bold")
        self.axes_, self.figure_ = np.concatenate([uppers, lowers]), figure
        for ax in self.axes_:
            ax.tick_params(labelsize=8, length=0)
            ax.spines[["top", "right"]].set_visible(False)
            ax.spines[["left", "bottom"]].set_color(GREY)
            ax.set_axisbelow(True)
        return self

    def _draw_counts(self, ax, split, *, first):
        """Draw bars of normal, abnormal and unlabelled studies, one row per type."""
        names = sorted(set(self.counts["study_type"]) - {OVERALL})
        counts = self.counts[self.counts["split"] == split].set_index("study_type")
        counts = counts.reindex(names).fillna({"normal": 0, "abnormal": 0, "unlabelled": 0})
        at, left = np.arange(len(names)), np.zeros(len(names))
        for label, colour, hatch in (
            ("normal", BLUE, None),
            ("abnormal", ORANGE, "///"),
            ("unlabelled", LINE_GREY, None),
        ):
            n = counts[label].to_numpy(dtype=float)
            if n.any() or (label != "unlabelled" and first):
                ax.barh(at, n, left=left, color=colour, hatch=hatch, edgecolor="white", label=label)
            left += n
        for y, x in zip(at, left, strict=True):
            ax.annotate(
                f"{x:,.0f}", (x, y), (3, 0), textcoords="offset points", va="center", **SMALL
            )
        ax.set_yticks(at, [shorten(name, NAME_WIDTH) for name in names] if first else [])
        ax.set_ylim(len(names) - 0.4, -0.6)
        ax.set_xlim(0, 1.22 * max(float(np.max(left)), 1))
        ax.grid(axis="x", color=LINE_GREY, linewidth=0.6)
        ax.set_xlabel("studies", fontsize=8)
        _title(ax, f"Studies: {split}")
        ax.legend(
            fontsize=8,
            frameon=False,
            loc="lower right",
            bbox_to_anchor=(1, 1),
            ncols=3,
            borderaxespad=0,
            handlelength=1,
            columnspacing=1,
        )

    def _draw_views(self, ax, colours):
        """Draw the distribution of views per study for each split."""
        n_splits = len(colours)
        for i, (split, part) in enumerate(self.views_per_study.groupby("split", sort=False)):
            share = 100 * part["studies"] / part["studies"].sum()
            at = part["n_views"] + (i - (n_splits - 1) / 2) * 0.8 / n_splits
            ax.bar(at, share, 0.8 / n_splits, color=colours[split], label=split)
        _integer_ticks(ax, self.views_per_study["n_views"])
        ax.set_xlabel("views of a study", fontsize=8)
        ax.set_ylabel("studies of the split, %", fontsize=8)
        ax.grid(axis="y", color=LINE_GREY, linewidth=0.6)
        _title(ax, "Views per study")
        ax.legend(fontsize=8, frameon=False)

    def _draw_shares(self, ax, colours):
        """Draw the share of abnormal studies by number of views, with its interval."""
        n_splits = len(colours)
        for i, (split, part) in enumerate(self.views_per_study.groupby("split", sort=False)):
            part = part[part["abnormal_share"].notna()]
            if part.empty:
                continue
            share = 100 * part["abnormal_share"]
            errors = [share - 100 * part["abnormal_share_low"]]
            errors += [100 * part["abnormal_share_high"] - share]
            ax.errorbar(
                part["n_views"] + (i - (n_splits - 1) / 2) * 0.5 / n_splits,
                share,
                np.clip(errors, 0, None),
                color=colours[split],
                marker=MARKERS[i % len(MARKERS)],
                markersize=5,
                linestyle="none",
                elinewidth=1.5,
                label=split,
            )
        _integer_ticks(ax, self.views_per_study["n_views"])
        ax.set_ylim(-5, 130)  # with room for the legend
        ax.set_yticks(range(0, 101, 20))
        ax.set_xlabel("views of a study", fontsize=8)
        ax.set_ylabel("abnormal, %, with 95 % interval", fontsize=8)
        ax.grid(axis="y", color=LINE_GREY, linewidth=0.6)
        _title(ax, "Abnormal, by number of views")
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=8, frameon=False, loc="upper right", ncols=n_splits)
        else:
            ax.text(0.5, 0.5, "no labels", transform=ax.transAxes, ha="center", **SMALL)

    def _draw_sizes(self, ax, colours):
        """Draw width against height; views of equal size share a dot."""
        known: Any = self.images  # not None here
        images = known.dropna(subset=["width", "height"])
        for i, (split, part) in enumerate(images.groupby("split", sort=False)):
            sizes = part.groupby(["width", "height"]).size().rename("n").reset_index()
            ax.scatter(
                sizes["width"].to_numpy(dtype=float),
                sizes["height"].to_numpy(dtype=float),
                s=(6 * sizes["n"]).clip(upper=DOT_AREA),
                color=colours[split],
                marker=MARKERS[i % len(MARKERS)],
                alpha=0.45,
                linewidths=0,
                label=split,
                rasterized=len(sizes) > 500,
            )
        top = 1.05 * max(images[["width", "height"]].max(axis=None), 1) if len(images) else 1
        ax.set_xlim(0, top)
        ax.set_ylim(0, top)
        ax.set_aspect("equal", adjustable="box")
        ax.plot([0, top], [0, top], color=LINE_GREY, linewidth=0.8, zorder=0)
        ax.set_xlabel("width, pixels", fontsize=8)
        ax.set_ylabel("height, pixels", fontsize=8)
        _title(ax, "Image sizes")


def _title(ax, text):
    """Set the title of a panel."""
    ax.set_title(text, loc="left", fontsize=9, fontweight="bold")


def _integer_ticks(ax, values):
    """Set ticks at integers only, with a margin at both ends."""
    from matplotlib.ticker import MaxNLocator

    ax.set_xlim(min(values) - 0.6, max(values) + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
