"""Study-level classification of radiographs with skorch, tracked by MLflow."""

from mura_skorch._version import __version__
from mura_skorch.classifier import MuraClassifier
from mura_skorch.ensemble import MuraEnsemble
from mura_skorch.loss import StudyTypeBCE
from mura_skorch.metrics import kappa_interval, study_scores
from mura_skorch.module import StudyDenseNet
from mura_skorch.phantoms import write_phantoms
from mura_skorch.splits import PatientSplit, ValidStudies
from mura_skorch.studies import read_studies
from mura_skorch.tracking import MlflowTracker
from mura_skorch.transforms import Augment

__all__ = [
    "Augment",
    "MlflowTracker",
    "MuraClassifier",
    "MuraEnsemble",
    "PatientSplit",
    "StudyDenseNet",
    "StudyTypeBCE",
    "ValidStudies",
    "__version__",
    "kappa_interval",
    "read_studies",
    "study_scores",
    "write_phantoms",
]
