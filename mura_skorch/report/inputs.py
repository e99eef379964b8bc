"""Collect what a report needs from a fitted model: predictions, case review, description."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from mura_skorch.calibration.triage import view_disagreement
from mura_skorch.data.view_statistics import view_statistics
from mura_skorch.evaluation.external import ExternalValidation
from mura_skorch.evaluation.predictions import prediction_table, view_prediction_table
from mura_skorch.report.case_review import Case, review_cases
from mura_skorch.report.data_flow import collect_data
from mura_skorch.report.model_card import describe_model
from mura_skorch.report.robustness import Robustness, collect_robustness
from mura_skorch.studies.columns import ON_SCORED
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.members import trained_patients_of
from mura_skorch.utils.provenance import type_digests

__all__ = ["ReportInputs", "collect_predictions"]


class ReportInputs(NamedTuple):
    """What `write_report` shows of a model.

    Attributes
    ----------
    predictions : DataFrame
        One row per study, see `mura_skorch.evaluation.prediction_table`. Columns with statistics
        of the views allow an analysis of shortcuts.
    view_predictions : DataFrame or None, default=None
        One row per view.
    cases : sequence of Case, default=()
        The most confident errors, and a right call to compare them with, with pictures.
    model : sequence of str, default=()
        Sentences for the model card: network, loss, study types and recalibration.
    alerts : sequence of str, default=()
        Warnings to print at the top of the report.
    external : ExternalValidation or None, default=None
        Case mix, change in performance and recalibration, if the studies are of another hospital.
    robustness : Robustness or None, default=None
        Predictions under small changes of the views.
    data : dict or None, default=None
        What went into the model and the scored studies, see
        `mura_skorch.report.collect_data`.
    """

    predictions: pd.DataFrame
    view_predictions: pd.DataFrame | None = None
    cases: Sequence[Case] = ()
    model: Sequence[str] = ()
    alerts: Sequence[str] = ()
    external: ExternalValidation | None = None
    robustness: Robustness | None = None
    data: dict[str, Any] | None = None


def collect_predictions(
    clf: Any,
    studies: pd.DataFrame,
    *,
    keep: Sequence[str] = (),
    n_cases: int = 4,
    train: pd.DataFrame | None = None,
    train_features: np.ndarray | None = None,
    robustness: bool = False,
) -> ReportInputs:
    """Predict studies and collect everything a report shows.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted.
    studies : DataFrame of n_studies rows
        A study table. Labels may be missing.
    keep : sequence of str, default=()
        Further columns of `studies` to copy, such as readers' labels or the site.
    n_cases : int, default=4
        Number of false negatives, and of false positives, in the case review, which
        also shows the most confident true positive. 0 leaves out the pictures.
    train : DataFrame of n_train rows, optional
        The studies that the model was fitted on. The most similar ones are shown in the case
        review, never of the case's patient. If their digest is that of the fit, patients that are
        shared with `studies` are counted, also for a loaded model.
    train_features : ndarray of shape (n_train, n_features), float32, optional
        What ``clf.embed`` returns for them.
    robustness : bool, default=False
        Predict the studies again under small changes, see
        `mura_skorch.inspection.predict_perturbed`. It takes as long as a dozen predictions.

    Returns
    -------
    ReportInputs

    Raises
    ------
    ValueError
        A view cannot be read, or a column in `keep` is missing or has a reserved name.

    Warns
    -----
    UserWarning
        Studies carry the ids of patients that the model was trained on. A saved model stores no
        patient ids, so only a model fitted in this process can detect this.

    Examples
    --------
    >>> inputs = collect_predictions(clf, test)  # doctest: +SKIP
    >>> write_report("report", inputs, histories={"fit": clf.history})  # doctest: +SKIP
    """
    alerts = _training_alerts(clf, studies)
    for alert in alerts:
        warnings.warn(f"{alert}; pass studies of other patients", UserWarning, stacklevel=2)
    proba, view_scores = clf.predict_with_views(studies)
    labelled = studies[studies["label"].notna()] if "label" in studies else studies[:0]
    predictions = prediction_table(
        studies,
        proba[:, 1],
        threshold=clf.threshold_,
        chosen_by=clf.describe_choice(labelled),
        keep=keep,
    )
    statistics = view_statistics(studies).reset_index(drop=True)
    for name in statistics:
        predictions[name] = statistics[name]
    if clf.triage_ is not None:
        predictions["triage"] = clf.triage_.decide(proba[:, 1], studies["study_type"])
        predictions["triage_error_rate"] = clf.triage_.error_rate
        predictions["view_disagreement"] = view_disagreement(view_scores)
        if type_digests(labelled).items() & clf.triage_.chosen_on.items():
            alerts = [
                *alerts,
                f"the limits of the triage were chosen {ON_SCORED}: their error rates "
                "say nothing; choose them on other labelled studies",
            ]
    cases: list[Case] = []
    if n_cases > 0 and "label" in predictions:
        cases = review_cases(
            clf,
            studies,
            predictions,
            n_cases=n_cases,
            n_right=1,
            train=train,
            train_features=train_features,
        )
    return ReportInputs(
        predictions=predictions,
        view_predictions=view_prediction_table(studies, view_scores, threshold=clf.threshold_),
        cases=cases,
        model=describe_model(clf),
        alerts=alerts,
        robustness=collect_robustness(clf, studies) if robustness and len(labelled) else None,
        data=collect_data(clf, studies, train=train),
    )


def _training_alerts(clf, studies):
    """Return a sentence if studies are of patients that the model was trained on, else nothing."""
    if "patient" not in studies:
        return []
    trained = trained_patients_of(clf)
    known = studies["patient"].dropna()
    n_known = sum(key in trained for key in patient_keys(known))
    if not n_known:
        return []
    return [
        f"{n_known:,} of {len(studies):,} studies carry ids of patients that the model was trained "
        "on: their figures are too good"
    ]
