"""Views: a radiograph and its class activation map go in, a matplotlib figure or an overlay out.

Matplotlib is imported by the methods that draw, so that importing this module costs nothing.
"""

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

MID_GREY = 128  # over which the colour bar shows the colours
LONGEST = 4.0  # inches of a panel's longer side
SHORTEST = 1.7  # inches of its shorter side, for the words; what the view leaves stays white
BAR = 0.9  # inches that the colour bar and its label take
FONT = 8.0  # points
BAR_LABEL = "contribution to the logit"


class MapDisplay:
    """A radiograph beside itself with its class activation map laid over.

    Vermillion adds to the logit of abnormality, sky blue takes from it, and what is transparent
    does neither. The scale is symmetric about 0. A cross marks the map's peak.

    Parameters
    ----------
    view : ndarray of shape (H, W), uint8
        The radiograph, as `mura_skorch.data.read_view` gives it.
    cam : ndarray of shape (h, w), float
        Its map in logits, at any resolution: it is resized to the view.
    box : sequence of 4 numbers or None, default=None
        x0, y0, x1, y1 in pixels of the view, x1 and y1 exclusive, such as a known lesion's.
    title : str or None, default=None
        Stands above the radiograph.
    note : str or None, default=None
        Printed in colour below the radiograph, such as "phantoms: no clinical meaning".
    limit : float or None, default=None
        Where the colours end, in logits. None means `map_limit` of the map; give one number to
        views that are to be compared.

    Attributes
    ----------
    axes_ : tuple of two matplotlib Axes
        Radiograph and overlay.
    figure_ : matplotlib Figure
        The figure that holds them.

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
            Where radiograph and overlay are drawn. None makes a figure, sized to the view, that
            pyplot does not know of: nothing has to be closed.

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
        """Outline of the box on the pixels' edges."""
        if self.box is None:
            return
        from matplotlib.patches import Rectangle

        x0, y0, x1, y1 = self.box
        ax.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=BOX, linewidth=1.2)
        )

    def _draw_words(self, limit):
        """Titles, note and colour bar."""
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
    """Colours of the overlay over mid-grey, as a matplotlib colormap."""
    from matplotlib.colors import ListedColormap

    steps = np.linspace(-1, 1, 255, dtype=np.float32)[None]
    grey = np.full(steps.shape, MID_GREY, dtype=np.uint8)
    return ListedColormap(overlay_map(grey, steps, 1.0)[0] / 255)


def _margin(side, size):
    """Pixels to leave white on each side of a view that is very narrow or very low."""
    return max(0.0, SHORTEST / LONGEST * max(size) - side) / 2


def _new_axes(height, width):
    """Two axes of that shape, in pixels, in a figure of their own, as large as they need."""
    from matplotlib.figure import Figure

    scale = LONGEST / max(height, width)
    size = (2 * scale * width + BAR + 0.2, scale * height + 0.9)
    figure = Figure(figsize=size, layout="compressed")
    return figure.subplots(1, 2)
