"""Metrics: true labels, scores, study types and patients in; figures with intervals out.

Pure functions of arrays, that know no other room.
"""

from mura_skorch.metrics.intervals import METHODS
from mura_skorch.metrics.kappa import KappaInterval, kappa_interval, kappa_score
from mura_skorch.metrics.scores import study_scores, view_scores
from mura_skorch.metrics.tables import ECE_BINS, METRICS, OVERALL

__all__ = [
    "ECE_BINS",
    "METHODS",
    "METRICS",
    "OVERALL",
    "KappaInterval",
    "kappa_interval",
    "kappa_score",
    "study_scores",
    "view_scores",
]
