"""Activation maps, the pointing game, and similar training studies."""

from mura_skorch.inspection.activation_maps import (
    localize,
    peak_in_box,
    peak_of,
    resize_map,
)
from mura_skorch.inspection.neighbours import nearest_studies
from mura_skorch.inspection.pointing_game import LEGEND, pointing_scores
from mura_skorch.inspection.training_distance import UNLIKE_PERCENTILE, TrainingDistance

__all__ = [
    "LEGEND",
    "UNLIKE_PERCENTILE",
    "TrainingDistance",
    "localize",
    "nearest_studies",
    "peak_in_box",
    "peak_of",
    "pointing_scores",
    "resize_map",
]
