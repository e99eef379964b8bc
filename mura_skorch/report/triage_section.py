"""The section of the report on a triage, from the columns of its predictions."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mura_skorch.calibration.triage import CAVEAT
from mura_skorch.evaluation.triage_scores import doubt_table, triage_scores, triage_table
from mura_skorch.inspection.training_distance import UNLIKE_PERCENTILE
from mura_skorch.report.model_card import triage_sentences

__all__ = ["TriageSection", "triage_section"]


@dataclass(frozen=True)
class TriageSection:
    """What the page shows of a triage.

    Attributes
    ----------
    scores : DataFrame
        What `mura_skorch.evaluation.triage_scores` returns.
    table, doubts : DataFrame
        The scores, and the signs of doubt, as text.
    promise : str
        The promised error rate in percent.
    sentences : list of str
        The promise and the limits.
    caveat : str
        What breaks the promise.
    few : bool
        Whether a row has few patients of a label.
    """

    scores: pd.DataFrame
    table: pd.DataFrame
    doubts: pd.DataFrame
    promise: str
    sentences: list[str]
    caveat: str
    few: bool


def triage_section(predictions: pd.DataFrame, model: Sequence[str]) -> TriageSection | None:
    """Return what the page shows of a triage; None without one.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table.
    model : sequence of str
        What `mura_skorch.report.model_card.describe_model` returns.
    """
    if "triage" not in predictions:
        return None
    scores = triage_scores(predictions)
    return TriageSection(
        scores=scores,
        table=triage_table(scores),
        doubts=doubt_table(predictions, unlike_percentile=UNLIKE_PERCENTILE),
        promise=f"{100 * predictions['triage_error_rate'].max():g} %",
        sentences=triage_sentences(model),
        caveat=CAVEAT,
        few=bool((scores["caution"] != "").any()),
    )
