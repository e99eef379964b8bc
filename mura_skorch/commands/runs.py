"""Say where the runs of a command are to be seen."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from mura_skorch.tracking import runs_link

__all__ = ["own_program", "runs_sentence"]


def own_program(name: str) -> str:
    """Return how a program of this environment is called from the current folder.

    Parameters
    ----------
    name : str
        Such as ``mlflow``.

    Returns
    -------
    str
        The name, if the path finds this one or there is none here; else its path, quoted for a
        shell.
    """
    own = Path(sys.executable).with_name(name)
    found = shutil.which(name)
    if not own.exists() or (found is not None and Path(found).samefile(own)):
        return name
    return shlex.quote(os.path.relpath(own))


def runs_sentence(experiment_id: str | None) -> str:
    """Return where the runs of an experiment are to be seen, or how they are sent there."""
    if experiment_id is None:
        sync = f"{own_program('mura-skorch')} sync"
        return f"Runs: MLflow did not answer; send what it did not get with {sync}"
    import mlflow

    link = runs_link(experiment_id)
    if mlflow.get_tracking_uri().startswith("http"):
        return f"Runs: open {link}"
    return f"Runs: start {own_program('mlflow')} ui here and open {link}"
