"""MLflow: one run per fit, its parameters, metrics, data and logged model."""

from mura_skorch.tracking.artifacts import fetch_model, fetch_predictions, fetch_report
from mura_skorch.tracking.callback import MlflowTracker, log_fitted_model, tracked_fit
from mura_skorch.tracking.experiment import (
    active_run_id,
    end_children,
    run_link,
    runs_link,
    use_experiment,
)
from mura_skorch.tracking.final_scores import log_scores, log_test_scores
from mura_skorch.tracking.pipelines import log_fitted_pipeline
from mura_skorch.tracking.run import TrackedRun, status_of

__all__ = [
    "MlflowTracker",
    "TrackedRun",
    "active_run_id",
    "end_children",
    "fetch_model",
    "fetch_predictions",
    "fetch_report",
    "log_fitted_model",
    "log_fitted_pipeline",
    "log_scores",
    "log_test_scores",
    "run_link",
    "runs_link",
    "status_of",
    "tracked_fit",
    "use_experiment",
]
