"""Store and restore the state of callbacks, each by its own ``state_dict``."""

from collections.abc import Mapping
from typing import Any

from skorch.callbacks import (
    BatchScoring,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    GradientNormClipping,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    TrainEndCheckpoint,
)

from mura_skorch.utils.text import some_names

__all__ = ["check_storable", "load_callback", "state_of_callback"]

# skorch's callbacks have no state_dict. These are the attributes in which they carry something from
# one epoch to the next; subclasses may have more, and are not covered.
ATTRIBUTES: dict[type, tuple[str, ...]] = {
    BatchScoring: ("best_score_",),
    Checkpoint: (),
    EarlyStopping: ("misses_", "dynamic_threshold_", "best_epoch_", "best_model_weights_"),
    EpochScoring: ("best_score_",),
    EpochTimer: (),
    GradientNormClipping: (),
    LRScheduler: ("batch_idx_", "lr_scheduler_"),
    PassthroughScoring: ("best_score_",),
    PrintLog: (),
    ProgressBar: (),
    TrainEndCheckpoint: (),
}


def check_storable(callbacks: Mapping[str, Any]) -> None:
    """Raise TypeError if a checkpoint cannot store the state of a callback.

    Parameters
    ----------
    callbacks : dict of str to Callback, class of one, or None
        The callbacks of an estimator by name.
    """
    wrong = []
    for name, callback in callbacks.items():
        kind = callback if isinstance(callback, type) else type(callback)
        has_methods = hasattr(kind, "state_dict") and hasattr(kind, "load_state_dict")
        if callback is not None and kind not in ATTRIBUTES and not has_methods:
            wrong.append(f"{name} ({kind.__name__})")
    if wrong:
        raise TypeError(
            "expected callbacks that a checkpoint can store, got some without state_dict and "
            f"load_state_dict: {some_names(wrong)}; give them both methods, derive them from "
            "mura_skorch.callbacks.StatelessCallback if there is nothing to store, or leave "
            "checkpoint_path out"
        )


def state_of_callback(callback: Any) -> dict[str, Any]:
    """Return what a callback needs to continue; `check_storable` accepted it."""
    if hasattr(callback, "state_dict"):
        return callback.state_dict()
    state = {name: getattr(callback, name) for name in ATTRIBUTES[type(callback)]}
    if "lr_scheduler_" in state:
        state["lr_scheduler_"] = callback.lr_scheduler_.state_dict()
    return state


def load_callback(callback: Any, state: dict[str, Any]) -> None:
    """Give a callback whose training begins the state that `state_of_callback` returned."""
    if hasattr(callback, "load_state_dict"):
        callback.load_state_dict(state)
        return
    for name in ATTRIBUTES[type(callback)]:
        if name == "lr_scheduler_":
            callback.lr_scheduler_.load_state_dict(state[name])
        else:
            setattr(callback, name, state[name])
