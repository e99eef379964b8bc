"""Flow diagram of studies: read, left out, trained on, validated on, scored."""

from collections.abc import Sequence
from typing import NamedTuple, Self

from mura_skorch.plots.style import BLUE, GREY, LINE_GREY, NOTE, plain_texts

__all__ = ["FlowDisplay", "FlowStep"]

# Widths in inches, and heights of a line and of a gap.
MAIN, SIDE, BETWEEN = 2.3, 2.2, 0.35
LINE, PAD, GAP = 0.17, 0.14, 0.28
FONT = 8.5


class FlowStep(NamedTuple):
    """A box of the diagram, and what was left out before the next one.

    Attributes
    ----------
    text : str
        Lines of the box.
    left_out : str, default=""
        Lines of the box beside the arrow to the next step; "" draws none.
    """

    text: str
    left_out: str = ""


class FlowDisplay:
    """Boxes of counts in columns, with arrows, and what was left out beside them.

    Parameters
    ----------
    columns : sequence of sequence of FlowStep
        One column per source of studies, from top to bottom.
    note : str or None, default=None
        Printed in colour above the plot, such as "phantoms: no clinical meaning".

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes drawn on; its units are inches.
    figure_ : matplotlib Figure
        Its figure.

    Examples
    --------
    >>> from mura_skorch.plots import FlowDisplay, FlowStep
    >>> steps = [FlowStep("12 studies read", "2 unlabelled"), FlowStep("10 studies trained on")]
    >>> FlowDisplay([steps]).plot().ax_.texts[0].get_text()
    '12 studies read'
    """

    def __init__(self, columns: Sequence[Sequence[FlowStep]], *, note: str | None = None) -> None:
        self.columns = columns
        self.note = note

    @plain_texts
    def plot(self) -> Self:
        """Draw the display on a figure as large as it needs.

        Returns
        -------
        FlowDisplay
            The display itself, with `ax_` and `figure_`.
        """
        from matplotlib.figure import Figure

        heights = [sum(_height(step.text) + _gap(step) for step in own) for own in self.columns]
        height = max(heights, default=0.5)
        width = len(self.columns) * (MAIN + SIDE + BETWEEN)
        top = 0.3 if self.note else 0.05
        self.figure_ = Figure(figsize=(width, height + top))
        self.ax_ = self.figure_.add_axes((0, 0, 1, 1))
        self.ax_.set(xlim=(0, width), ylim=(-height, top))
        self.ax_.set_axis_off()
        for number, own in enumerate(self.columns):
            self._draw_column(own, 0.05 + number * (MAIN + SIDE + BETWEEN))
        if self.note:
            self.ax_.set_title(
                self.note,
                loc="left",
                **NOTE,
                x=0.05 / width,
                y=1,
                pad=-12,
            )
        return self

    def _draw_column(self, steps, x):
        """Draw the boxes of a column from its left edge."""
        y = 0.0
        for number, step in enumerate(steps):
            self._draw_box(step.text, x, y, MAIN, BLUE)
            y -= _height(step.text)
            gap = _gap(step)
            middle = x + MAIN / 2
            if number < len(steps) - 1:
                arrow = {"arrowstyle": "-|>", "color": GREY, "shrinkA": 0, "shrinkB": 0}
                self.ax_.annotate("", (middle, y - gap), (middle, y), arrowprops=arrow)
            if step.left_out:
                below = y - gap / 2 + _height(step.left_out) / 2
                self.ax_.plot([middle, x + MAIN + 0.1], [y - gap / 2] * 2, color=GREY, linewidth=1)
                self._draw_box(step.left_out, x + MAIN + 0.1, below, SIDE, LINE_GREY)
            y -= gap

    def _draw_box(self, text, x, y, width, colour):
        """Draw a box below y, with its text."""
        from matplotlib.patches import Rectangle

        height = _height(text)
        box = Rectangle((x, y - height), width, height, facecolor="white", edgecolor=colour)
        self.ax_.add_patch(box)
        self.ax_.text(x + 0.08, y - height / 2, text, fontsize=FONT, va="center", linespacing=1.35)


def _height(text):
    """Return the height of a box in inches."""
    return LINE * (text.count("\n") + 1) + PAD


def _gap(step):
    """Return the distance to the next box in inches."""
    return max(GAP, _height(step.left_out) + 0.1) if step.left_out else GAP
