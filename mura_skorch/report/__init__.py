"""Evaluation report: figures, case review and model card on one HTML page."""

from mura_skorch.report.case_review import (
    Case,
    CaseView,
    SimilarStudy,
    review_cases,
    show_views,
)
from mura_skorch.report.data_flow import collect_data, join_data
from mura_skorch.report.inputs import ReportInputs, collect_predictions
from mura_skorch.report.label_page import Suspect, write_label_page
from mura_skorch.report.report import read_report, write_report
from mura_skorch.report.robustness import MovedPicture, Robustness, collect_robustness
from mura_skorch.report.study_facts import read_study_facts

__all__ = [
    "Case",
    "CaseView",
    "MovedPicture",
    "ReportInputs",
    "Robustness",
    "SimilarStudy",
    "Suspect",
    "collect_data",
    "collect_predictions",
    "collect_robustness",
    "join_data",
    "read_report",
    "read_study_facts",
    "review_cases",
    "show_views",
    "write_label_page",
    "write_report",
]
