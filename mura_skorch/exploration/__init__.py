"""Explore a dataset before training: counts, findings and an HTML page."""

from mura_skorch.exploration.findings import Finding, describe
from mura_skorch.exploration.image_files import find_duplicates, read_image_files
from mura_skorch.exploration.render import format_table, summary_tables, write_exploration
from mura_skorch.exploration.tables import Exploration, explore_studies

__all__ = [
    "Exploration",
    "Finding",
    "describe",
    "explore_studies",
    "find_duplicates",
    "format_table",
    "read_image_files",
    "summary_tables",
    "write_exploration",
]
