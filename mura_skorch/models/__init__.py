"""Networks that classify studies, their loss and their weights."""

from mura_skorch.models.densenet import StudyDenseNet, pool_views, subsample_views
from mura_skorch.models.losses import StudyTypeBCE
from mura_skorch.models.pretrained import check_fit, load_weights

__all__ = [
    "StudyDenseNet",
    "StudyTypeBCE",
    "check_fit",
    "load_weights",
    "pool_views",
    "subsample_views",
]
