"""Class activation maps and the pointing game."""

from mura_skorch.inspection.activation_maps import (
    localize,
    peak_in_box,
    peak_of,
    resize_map,
)
from mura_skorch.inspection.pointing_game import LEGEND, pointing_scores

__all__ = [
    "LEGEND",
    "localize",
    "peak_in_box",
    "peak_of",
    "pointing_scores",
    "resize_map",
]
