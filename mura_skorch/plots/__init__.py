"""Plots as Display objects, in the manner of scikit-learn.

The drawing methods import matplotlib, so that importing this package is fast.
"""

from mura_skorch.plots.dataset import DatasetDisplay
from mura_skorch.plots.decision_curve import DecisionCurveDisplay
from mura_skorch.plots.flow import FlowDisplay, FlowStep
from mura_skorch.plots.kappa import KappaDisplay
from mura_skorch.plots.prevalence import PrevalenceDisplay
from mura_skorch.plots.recalibration import RecalibrationDisplay
from mura_skorch.plots.reliability import ReliabilityDisplay
from mura_skorch.plots.robustness import RobustnessDisplay
from mura_skorch.plots.roc import RocDisplay
from mura_skorch.plots.training import TrainingDisplay
from mura_skorch.plots.views import MapDisplay

__all__ = [
    "DatasetDisplay",
    "DecisionCurveDisplay",
    "FlowDisplay",
    "FlowStep",
    "KappaDisplay",
    "MapDisplay",
    "PrevalenceDisplay",
    "RecalibrationDisplay",
    "ReliabilityDisplay",
    "RobustnessDisplay",
    "RocDisplay",
    "TrainingDisplay",
]
