"""MLflow: a run for each fit, and what a run holds."""

from mura_skorch.tracking.artifacts import fetch_model, fetch_predictions
from mura_skorch.tracking.callback import MlflowTracker, on_record
from mura_skorch.tracking.experiment import (
    active_run_id,
    end_children,
    is_running,
    runs_link,
    use_experiment,
)
from mura_skorch.tracking.final_scores import log_scores, log_test_scores
from mura_skorch.tracking.run import Run, status_of

__all__ = [
    "MlflowTracker",
    "Run",
    "active_run_id",
    "end_children",
    "fetch_model",
    "fetch_predictions",
    "is_running",
    "log_scores",
    "log_test_scores",
    "on_record",
    "runs_link",
    "status_of",
    "use_experiment",
]
