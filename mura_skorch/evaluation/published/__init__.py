"""Published kappas and counts of MURA, and comparisons with them."""

from mura_skorch.evaluation.published.counts import (
    STUDY_COUNTS,
    compare_counts,
    is_mura,
    published_counts,
    resembles_mura,
)
from mura_skorch.evaluation.published.paper_table import format_paper_table, paper_table
from mura_skorch.evaluation.published.table_2 import (
    FOOTNOTE,
    OVERALL_COUNTS,
    OVERALL_MODEL,
    RADIOLOGISTS,
    READERS,
    TABLE_2,
    TEST_STUDIES,
    add_published,
    published_kappas,
)

__all__ = [
    "FOOTNOTE",
    "OVERALL_COUNTS",
    "OVERALL_MODEL",
    "RADIOLOGISTS",
    "READERS",
    "STUDY_COUNTS",
    "TABLE_2",
    "TEST_STUDIES",
    "add_published",
    "compare_counts",
    "format_paper_table",
    "is_mura",
    "paper_table",
    "published_counts",
    "published_kappas",
    "resembles_mura",
]
