"""Study-level classification of radiographs with skorch, tracked by MLflow."""

from mura_skorch._version import __version__
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
