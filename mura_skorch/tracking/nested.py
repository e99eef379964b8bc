"""Inner fits: the place of a fit goes in; whether it only serves a score, and its parent, come out.

What scikit-learn's searches and cross-validations start looks like any other fit: the estimator is
a clone, as the winner of a search is one, and in a worker process no MLflow run is active.
"""

import os
import sys
import threading
from types import FrameType
from typing import NamedTuple

from mura_skorch.tracking.experiment import active_run_id, is_running

__all__ = ["Birthplace", "birthplace", "is_for_a_score", "move_to_birthplace"]

# Where scikit-learn fits in order to score and drops what it has fitted: cross_validate and its
# relatives, the candidates of every search, learning curves, permutation tests. The fit of a
# search's winner is called from elsewhere.
EVALUATION = "sklearn.model_selection._validation"
# The same in TunedThresholdClassifierCV, whose module calls the last fit, too.
THRESHOLDS = "_fit_and_score_over_thresholds"

# What MLflow keeps for processes that start later; joblib's workers may have started before.
ENVIRONMENT = ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


def is_for_a_score():
    """Return whether the code that runs was called to score a candidate, not to keep it.

    The call stack is asked because nothing public tells: should scikit-learn rename its parts, a
    fit would log a model too many, which a test here shows.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == EVALUATION or frame.f_code.co_name == THRESHOLDS:
            return True
        frame = frame.f_back
    return False


class Birthplace(NamedTuple):
    """Where a clone was made: the active MLflow run, or None, process, thread, environment."""

    run_id: str | None
    process: int
    thread: int
    environment: dict[str, str | None]


def birthplace(source):
    """Return the birthplace of a clone that is made now: here, or its source's in a worker."""
    found = {name: os.environ.get(name) for name in ENVIRONMENT}
    # An address with a password stays out of what may be pickled.
    environment = {name: value for name, value in found.items() if "@" not in (value or "")}
    here = Birthplace(active_run_id(), os.getpid(), threading.get_ident(), environment)
    if here.run_id:  # joblib makes later clones in a thread of its own, where no run is active
        source._birthplace_ = here
    earlier = source.__dict__.get("_birthplace_")
    return here if here.run_id or earlier is None or _is_here(earlier) else earlier


def move_to_birthplace(net):
    """Return the run that the fit of a clone in a worker is a child of, or None.

    A worker process also takes the address and the experiment that MLflow had where the clone was
    made. In the thread of the clone itself the run that is active decides, as for any fit. A run
    that has ended takes no children: the clone may come from a pickle.
    """
    place = net.__dict__.get("_birthplace_")
    if place is None or _is_here(place) or active_run_id():
        return None
    if place.process == os.getppid():
        for name, value in place.environment.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
    return place.run_id if place.run_id and is_running(place.run_id) else None


def _is_here(place):
    return (place.process, place.thread) == (os.getpid(), threading.get_ident())
