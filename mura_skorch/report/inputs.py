"""Judgement: a fitted estimator and studies go in; predictions and cases to look at come out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from mura_skorch.data.view_statistics import view_statistics
from mura_skorch.evaluation.predictions import prediction_table, view_prediction_table
from mura_skorch.report.case_review import Case, review_cases
from mura_skorch.report.model_card import describe_model

__all__ = ["Judgement", "judge"]


class Judgement(NamedTuple):
    """What a report is made of, apart from the training.

    Attributes
    ----------
    predictions : DataFrame
        One row per study, with the statistics of its views that shortcuts could use.
    view_predictions : DataFrame
        One row per view.
    cases : list of Case
        The most confident mistakes; empty without labels.
    model : list of str
        What the model card says of the model: its network, loss and study types.
    """

    predictions: pd.DataFrame
    view_predictions: pd.DataFrame
    cases: list[Case]
    model: list[str]


def judge(
    clf: Any, studies: pd.DataFrame, *, keep: Sequence[str] = (), n_cases: int = 4
) -> Judgement:
    """Predict studies and gather what a report shows of them.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted.
    studies : DataFrame
        A study table; labels may be missing.
    keep : sequence of str, default=()
        Further columns of `studies` for the predictions, such as readers' labels or site.
    n_cases : int, default=4
        Cases of each kind, misses and false alarms. 0 leaves pictures out.

    Returns
    -------
    Judgement
    """
    proba, of_views = clf.predict_with_views(studies)
    scored = studies[studies["label"].notna()] if "label" in studies else studies[:0]
    predictions = prediction_table(
        studies,
        proba[:, 1],
        threshold=clf.threshold_,
        chosen_by=clf.describe_choice(scored),
        keep=keep,
    )
    statistics = view_statistics(studies).reset_index(drop=True)
    predictions = predictions.assign(**{str(name): statistics[name] for name in statistics})
    views = view_prediction_table(studies, of_views, threshold=clf.threshold_)
    has_cases = n_cases > 0 and "label" in predictions
    cases = review_cases(clf, studies, predictions, n_cases=n_cases) if has_cases else []
    return Judgement(predictions, views, cases, describe_model(clf))
