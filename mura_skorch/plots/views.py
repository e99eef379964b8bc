"""Plot a radiograph next to its class activation map."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from mura_skorch.inspection.activation_maps import peak_of
from mura_skorch.inspection.overlay import BOX, map_limit, overlay_map
from mura_skorch.plots.style import VERMILLION, plain_texts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["MapDisplay"]

MID_GREY = 128  # background of the colour bar
LONGEST = 4.0  # inches, longer side of a panel
SHORTEST = 1.7  # inches, least shorter side, to have room for text
BAR = 0.9  # inches, width of the colour bar with its label
FONT = 8.0  # points
BAR_LABEL = "contribution to the logit"


class MapDisplay:
    """A radiograph next to its overlay with the class activation map.

    Vermillion regions raise the logit of abnormality, sky blue regions lower it, and transparent
    regions do neither. The scale is symmetric about 0. A cross marks the map's peak.

    Parameters
    ----------
    view : ndarray of shape (H, W), uint8
        The radiograph, as `mura_skorch.data.read_view` returns it.
    cam : ndarray of shape (h, w), float
        Its map in logits, at any resolution; it is resized to the view.
    box : sequence of 4 numbers or None, default=None
        x0, y0, x1, y1 in pixels of the view, x1 and y1 exclusive, such as a known lesion.
    title : str or None, default=None
        Printed above the radiograph.
    note : str or None, default=None
        Printed in colour below the radiograph, such as "phantoms: no clinical meaning".
    limit : float or None, default=None
        End of the colour scale in logits. None means `map_limit` of the map. Pass the same number
        for views that will be compared.

    Attributes
    ----------
    axes_ : tuple of two matplotlib Axes
        Radiograph and overlay.
    figure_ : matplotlib Figure
        Their figure.

    Examples
    --------
    >>> import numpy as np
    >>> from mura_skorch.plots import MapDisplay
    >>> view = np.full((96, 64), 100, dtype=np.uint8)
    >>> display = MapDisplay(view, np.eye(3), title="a grey view", note="made up").plot()
    >>> [ax.get_title() for ax in display.axes_]
    ['a grey view', 'map, + its peak']
    """

    def __init__(
        self,
        view: np.ndarray,
        cam: np.ndarray,
        *,
        box: Sequence[float] | None = None,
        title: str | None = None,
        note: str | None = None,
        limit: float | None = None,
    ) -> None:
        self.view = view
        self.cam = cam
        self.box = box
        self.title = title
        self.note = note
        self.limit = limit

    @plain_texts
    def plot(self, axes: "Sequence[Axes] | None" = None) -> Self:
        """Draw the display.

        Parameters
        ----------
        axes : sequence of two matplotlib Axes or None, default=None
            Axes for radiograph and overlay. None makes a figure sized to the view, which is not
            managed by pyplot and need not be closed.

        Returns
        -------
        MapDisplay
            The display itself, with `axes_` and `figure_`.
        """
        height, width = self.view.shape
        x_margin, y_margin = (_margin(side, self.view.shape) for side in (width, height))
        if axes is None:
            axes = _new_axes(height + 2 * y_margin, width + 2 * x_margin)
        self.axes_ = tuple(axes)
        self.figure_: Any = axes[0].get_figure(root=True)
        limit = map_limit(self.cam) if self.limit is None else self.limit
        shown = np.repeat(self.view[:, :, None], 3, axis=2)
        pictures = (shown, overlay_map(self.view, self.cam, limit))
        for ax, picture in zip(self.axes_, pictures, strict=True):
            ax.imshow(picture, extent=(0, width, height, 0))
            ax.set(xticks=[], yticks=[])
            ax.set(xlim=(-x_margin, width + x_margin), ylim=(height + y_margin, -y_margin))
            ax.spines[:].set_visible(False)
            self._draw_box(ax)
        x, y = peak_of(self.cam, (height, width))
        self.axes_[1].plot(x, y, "+", color="white", markersize=FONT, markeredgewidth=1.2)
        self._draw_words(limit)
        return self

    def _draw_box(self, ax):
        """Draw the outline of the box along pixel edges."""
        if self.box is None:
            return
        from matplotlib.patches import Rectangle

        x0, y0, x1, y1 = self.box
        ax.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=BOX, linewidth=1.2)
        )

    def _draw_words(self, limit):
        """Draw titles, note and colour bar."""
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        left, right = self.axes_
        inches = left.get_window_extent().width / self.figure_.dpi
        n_letters = int(inches * 72 / (0.55 * FONT))
        lines = (self.title or "radiograph").splitlines()
        title = "\n".join(textwrap.fill(line, n_letters) for line in lines)
        left.set_title(title, fontsize=FONT)
        right.set_title("map, + its peak", fontsize=FONT)
        if self.note:
            note = textwrap.fill(self.note, n_letters)
            left.set_xlabel(note, color=VERMILLION, fontsize=FONT, fontweight="bold")
        scale = ScalarMappable(Normalize(-limit, limit), _colours())
        bar = self.figure_.colorbar(scale, ax=right, ticks=[-limit, 0, limit], shrink=0.9)
        bar.ax.set_yticklabels([f"\N{MINUS SIGN}{limit:.3g}", "0", f"+{limit:.3g}"])
        bar.ax.tick_params(labelsize=0.9 * FONT)
        bar.set_label(BAR_LABEL, fontsize=FONT)
        bar.outline.set_visible(False)


def _colours():
    """Return the colours of the overlay on mid-grey as a matplotlib colormap."""
    from matplotlib.colors import ListedColormap

    steps = np.linspace(-1, 1, 255, dtype=np.float32)[None]
    grey = np.full(steps.shape, MID_GREY, dtype=np.uint8)
    return ListedColormap(overlay_map(grey, steps, 1.0)[0] / 255)


def _margin(side, size):
    """Return the white margin, in pixels, on each side of a very narrow or very flat view."""
    return max(0.0, SHORTEST / LONGEST * max(size) - side) / 2


def _new_axes(height, width):
    """Return two axes, in a new figure, for pictures of that shape in pixels."""
    from matplotlib.figure import Figure

    scale = LONGEST / max(height, width)
    size = (2 * scale * width + BAR + 0.2, scale * height + 0.9)
    figure = Figure(figsize=size, layout="compressed")
    return figure.subplots(1, 2)
