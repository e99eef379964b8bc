"""Study tables: read MURA's folders and tables of your own, join labels, validate any table."""

from mura_skorch.studies.columns import explode_views, is_exploded
from mura_skorch.studies.labels import join_labels
from mura_skorch.studies.mura_folder import read_studies
from mura_skorch.studies.public_datasets import (
    find_layout,
    read_fracatlas,
    read_grazpedwri,
    read_lera,
)
from mura_skorch.studies.study_table import write_studies
from mura_skorch.studies.validation import (
    check_labelled,
    check_no_repeated_file,
    check_studies,
)

__all__ = [
    "check_labelled",
    "check_no_repeated_file",
    "check_studies",
    "explode_views",
    "find_layout",
    "is_exploded",
    "join_labels",
    "read_fracatlas",
    "read_grazpedwri",
    "read_lera",
    "read_studies",
    "write_studies",
]
