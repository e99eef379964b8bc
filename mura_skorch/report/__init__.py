"""Pages for colleagues: the report of a model, its cases and its model card."""

from mura_skorch.report.case_review import Case, CaseView, review_cases
from mura_skorch.report.inputs import Judgement, judge
from mura_skorch.report.report import read_report, write_report

__all__ = [
    "Case",
    "CaseView",
    "Judgement",
    "judge",
    "read_report",
    "review_cases",
    "write_report",
]
