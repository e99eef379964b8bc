"""Sweeps over parameters with Optuna: the space, the trials of many workers, the page."""

from mura_skorch.sweeps.page import SweepResult, write_sweep
from mura_skorch.sweeps.space import parameters_of, read_space
from mura_skorch.sweeps.trials import TrialQueue, import_optuna

__all__ = [
    "SweepResult",
    "TrialQueue",
    "import_optuna",
    "parameters_of",
    "read_space",
    "write_sweep",
]
