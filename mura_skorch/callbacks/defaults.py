"""The callbacks that every fit has."""

from skorch.callbacks import (
    Callback,
    EpochTimer,
    LRScheduler,
)
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mura_skorch.callbacks.best_weights import BestWeights
from mura_skorch.callbacks.logging import CpuUtilisation, EpochProgress, EpochTable, ViewsPerSecond
from mura_skorch.callbacks.scoring import EpochLoss, LevelScoring, StudyScores, watched_loss
from mura_skorch.callbacks.threshold import OperatingPoint
from mura_skorch.callbacks.weight_average import WeightAverage

__all__ = ["training_callbacks"]


def training_callbacks() -> list[tuple[str, Callback]]:
    """Return a fresh list of the callbacks of a fit, in the order that works."""
    return [
        ("epoch_timer", EpochTimer()),
        ("train_loss", EpochLoss("train_loss", on_train=True)),
        ("ema", WeightAverage()),  # all that follows sees the average
        ("valid_loss", EpochLoss("valid_loss")),
        (
            "train_acc",
            LevelScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False),
        ),
        ("valid_acc", LevelScoring("accuracy", name="valid_acc", lower_is_better=False)),
        ("scores", StudyScores()),
        ("views_per_second", ViewsPerSecond()),
        ("plateau", LRScheduler(ReduceLROnPlateau, monitor=watched_loss, factor=0.1, patience=1)),
        ("best", BestWeights()),
        ("threshold", OperatingPoint()),
        ("progress", EpochProgress()),
        ("cpu_utilisation", CpuUtilisation()),
        ("print_log", EpochTable()),
    ]
