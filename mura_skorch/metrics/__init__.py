"""Metrics: true labels, scores, study types and patients in; figures with intervals out.

Pure functions of arrays, that know no other room.
"""

from mura_skorch.metrics.calibration import ECE_BINS, calibration_bins
from mura_skorch.metrics.intervals import METHODS
from mura_skorch.metrics.kappa import KappaInterval, kappa_interval, kappa_score
from mura_skorch.metrics.scores import study_scores, view_scores
from mura_skorch.metrics.tables import MEAN_OF_TYPES, METRICS, OVERALL

__all__ = [
    "ECE_BINS",
    "MEAN_OF_TYPES",
    "METHODS",
    "METRICS",
    "OVERALL",
    "KappaInterval",
    "calibration_bins",
    "kappa_interval",
    "kappa_score",
    "study_scores",
    "view_scores",
]
