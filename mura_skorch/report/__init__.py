"""Evaluation report: figures, case review and model card on one HTML page."""

from mura_skorch.report.case_review import (
    Case,
    CaseView,
    SimilarStudy,
    review_cases,
    show_views,
)
from mura_skorch.report.inputs import ReportInputs, collect_predictions
from mura_skorch.report.label_page import Suspect, write_label_page
from mura_skorch.report.report import read_report, write_report

__all__ = [
    "Case",
    "CaseView",
    "ReportInputs",
    "SimilarStudy",
    "Suspect",
    "collect_predictions",
    "read_report",
    "review_cases",
    "show_views",
    "write_label_page",
    "write_report",
]
