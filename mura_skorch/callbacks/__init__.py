"""What happens at the end of an epoch and of a fit."""

from mura_skorch.callbacks.base import StatelessCallback
from mura_skorch.callbacks.best_weights import BestWeights
from mura_skorch.callbacks.defaults import training_callbacks
from mura_skorch.callbacks.logging import (
    CpuUtilisation,
    EpochLine,
    EpochTable,
    ViewsPerSecond,
    format_seconds,
)
from mura_skorch.callbacks.pruning import Pruning
from mura_skorch.callbacks.scoring import (
    EpochLoss,
    LevelScoring,
    StudyScores,
    has_stopped_early,
    was_pruned,
)
from mura_skorch.callbacks.threshold import OperatingPoint
from mura_skorch.callbacks.weight_average import WeightAverage

__all__ = [
    "BestWeights",
    "CpuUtilisation",
    "EpochLine",
    "EpochLoss",
    "EpochTable",
    "LevelScoring",
    "OperatingPoint",
    "Pruning",
    "StatelessCallback",
    "StudyScores",
    "ViewsPerSecond",
    "WeightAverage",
    "format_seconds",
    "has_stopped_early",
    "training_callbacks",
    "was_pruned",
]
