"""Metrics with confidence intervals: pure functions of labels, scores, study types and patients."""

from mura_skorch.metrics.calibration import ECE_BINS, calibration_bins
from mura_skorch.metrics.calibration_line import calibration_line
from mura_skorch.metrics.decision_curve import decision_curve
from mura_skorch.metrics.intervals import METHODS
from mura_skorch.metrics.kappa import KappaInterval, kappa_interval, kappa_score
from mura_skorch.metrics.predictive_values import predictive_values
from mura_skorch.metrics.sample_size import studies_needed
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
    "calibration_line",
    "decision_curve",
    "kappa_interval",
    "kappa_score",
    "predictive_values",
    "studies_needed",
    "study_scores",
    "view_scores",
]
