"""Networks that classify studies, their loss and their weights."""

from mura_skorch.models.exact_maps import exact_maps
from mura_skorch.models.losses import StudyTypeBCE
from mura_skorch.models.pooling import GatedAttention, pool_views
from mura_skorch.models.pretrained import check_fit, load_weights
from mura_skorch.models.study_network import StudyNetwork, subsample_views

__all__ = [
    "GatedAttention",
    "StudyNetwork",
    "StudyTypeBCE",
    "check_fit",
    "exact_maps",
    "load_weights",
    "pool_views",
    "subsample_views",
]
