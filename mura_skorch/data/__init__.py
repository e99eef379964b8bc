"""From paths to batches: images, splits, transforms, cache, dataset and collate."""

from mura_skorch.data.cache import (
    CacheFile,
    cached_unreadable,
    fill_cache,
    list_caches,
    remove_caches,
)
from mura_skorch.data.collate import StudyCollate
from mura_skorch.data.dataset import (
    StudyDataset,
    base_of,
    is_cached,
    prepare_views,
    studies_of,
)
from mura_skorch.data.images import check_views, decode_view, image_format, read_view
from mura_skorch.data.prepared import PreparedStudies
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
    collect_unreadable,
    drop_unreadable,
    find_unreadable,
    insert_nan,
    list_unreadable,
    warn_unreadable,
)
from mura_skorch.data.view_statistics import view_statistics
from mura_skorch.data.views import ArrayViews, CachedViews, FileViews
from mura_skorch.utils.intensity import UnsuitableImageError, ViewNotes

__all__ = [
    "ArrayViews",
    "Augment",
    "CacheFile",
    "CachedViews",
    "FileViews",
    "FirstFold",
    "PatientSplit",
    "Prepare",
    "PreparedStudies",
    "StudyCollate",
    "StudyDataset",
    "UnsuitableImageError",
    "ValidStudies",
    "ViewNotes",
    "as_split",
    "base_of",
    "cached_unreadable",
    "check_apart",
    "check_no_shared_patient",
    "check_none_lost",
    "check_views",
    "collect_unreadable",
    "decode_view",
    "drop_unreadable",
    "fill_cache",
    "find_unreadable",
    "image_format",
    "insert_nan",
    "is_cached",
    "list_caches",
    "list_unreadable",
    "prepare_views",
    "read_view",
    "remove_caches",
    "studies_of",
    "view_statistics",
    "warn_unreadable",
]
