"""Activation maps, the pointing game, similar training studies, and robustness."""

from mura_skorch.inspection.activation_maps import (
    localize,
    peak_in_box,
    peak_of,
    resize_map,
)
from mura_skorch.inspection.neighbours import nearest_studies
from mura_skorch.inspection.perturbations import PERTURBATIONS, perturb_views
from mura_skorch.inspection.pointing_game import LEGEND, pointing_scores
from mura_skorch.inspection.robustness import (
    MovedStudy,
    PerturbedPredictions,
    predict_perturbed,
)
from mura_skorch.inspection.training_distance import UNLIKE_PERCENTILE, TrainingDistance

__all__ = [
    "LEGEND",
    "PERTURBATIONS",
    "UNLIKE_PERCENTILE",
    "MovedStudy",
    "PerturbedPredictions",
    "TrainingDistance",
    "localize",
    "nearest_studies",
    "peak_in_box",
    "peak_of",
    "perturb_views",
    "pointing_scores",
    "predict_perturbed",
    "resize_map",
]
