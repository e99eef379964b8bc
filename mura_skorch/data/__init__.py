"""From paths to batches: images, splits, transforms, cache, dataset and collate."""

from mura_skorch.data.cache import ViewCache, remembered
from mura_skorch.data.collate import StudyCollate
from mura_skorch.data.dataset import StudyDataset, base_of, is_cached, studies_of
from mura_skorch.data.images import check_views, decode_view, image_format, read_view
from mura_skorch.data.splits import (
    FirstFold,
    PatientSplit,
    ValidStudies,
    as_split,
    check_apart,
    check_no_shared_patient,
)
from mura_skorch.data.transforms import Augment, Prepare
from mura_skorch.data.unreadable import (
    check_none_lost,
    count_bad_views,
    find_bad_views,
    leave_out,
    list_bad_views,
    tell_bad_views,
    with_gaps,
)
from mura_skorch.data.view_statistics import view_statistics
from mura_skorch.utils.intensity import UnsuitableImageError, ViewNotes

__all__ = [
    "Augment",
    "FirstFold",
    "PatientSplit",
    "Prepare",
    "StudyCollate",
    "StudyDataset",
    "UnsuitableImageError",
    "ValidStudies",
    "ViewCache",
    "ViewNotes",
    "as_split",
    "base_of",
    "check_apart",
    "check_no_shared_patient",
    "check_none_lost",
    "check_views",
    "count_bad_views",
    "decode_view",
    "find_bad_views",
    "image_format",
    "is_cached",
    "leave_out",
    "list_bad_views",
    "read_view",
    "remembered",
    "studies_of",
    "tell_bad_views",
    "view_statistics",
    "with_gaps",
]
