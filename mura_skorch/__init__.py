"""Study-level classification of radiographs with skorch, tracked by MLflow."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from mura_skorch._version import __version__

if TYPE_CHECKING:
    from mura_skorch.classifier import MuraClassifier
    from mura_skorch.data.splits import PatientSplit, ValidStudies
    from mura_skorch.data.transforms import Augment
    from mura_skorch.ensemble import MuraEnsemble
    from mura_skorch.metrics import kappa_interval, study_scores
    from mura_skorch.models.losses import StudyTypeBCE
    from mura_skorch.models.study_network import StudyNetwork
    from mura_skorch.phantoms import write_phantoms
    from mura_skorch.studies.mura_folder import read_studies
    from mura_skorch.tracking.callback import MlflowTracker

__all__ = [
    "Augment",
    "MlflowTracker",
    "MuraClassifier",
    "MuraEnsemble",
    "PatientSplit",
    "StudyNetwork",
    "StudyTypeBCE",
    "ValidStudies",
    "__version__",
    "kappa_interval",
    "read_studies",
    "study_scores",
    "write_phantoms",
]

# Where a name is defined. Importing torch, pandas and scikit-learn takes seconds, so that a module
# is imported when one of its names is first used.
_HOMES = {
    "Augment": "data.transforms",
    "MlflowTracker": "tracking.callback",
    "MuraClassifier": "classifier",
    "MuraEnsemble": "ensemble",
    "PatientSplit": "data.splits",
    "StudyNetwork": "models.study_network",
    "StudyTypeBCE": "models.losses",
    "ValidStudies": "data.splits",
    "kappa_interval": "metrics",
    "read_studies": "studies.mura_folder",
    "study_scores": "metrics",
    "write_phantoms": "phantoms",
}
_MODULES = {module.name for module in iter_modules(__path__) if not module.name.startswith("_")}

if not TYPE_CHECKING:  # a type checker would take every name to exist

    def __getattr__(name):
        if name in _HOMES:
            value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
            globals()[name] = value
            return value
        if name in _MODULES:
            return import_module(f"{__name__}.{name}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*__all__, *_MODULES})
