"""Compute every table of scores that the report shows from a table of predictions."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from mura_skorch.evaluation.failure_analysis import FailureAnalysis, failure_analysis
from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.evaluation.published import add_published
from mura_skorch.evaluation.reader_study import reader_kappas
from mura_skorch.evaluation.shortcuts import shortcut_alert, shortcut_scores
from mura_skorch.evaluation.subgroups import subgroup_scores
from mura_skorch.metrics import MEAN_OF_TYPES, METRICS, OVERALL, study_scores, view_scores
from mura_skorch.studies.columns import ON_SCORED

__all__ = ["Evaluation", "evaluate", "final_metrics", "score_predictions"]


class Evaluation(NamedTuple):
    """Tables of scores of one set of predictions.

    Attributes
    ----------
    studies : DataFrame
        Scores per study type and overall, each study counted once.
    views : DataFrame or None
        The same with each view counted once, with the label of its study.
    shortcuts : DataFrame
        How well the number of views and other by-products predict the label.
    readers : DataFrame or None
        Kappas of readers and of the model.
    by : dict of str to DataFrame
        Scores by the values of each requested column.
    failures : FailureAnalysis
        Errors by group, calibration, prevalence and net benefit.
    alerts : list of str
        Warnings for the top of the report.
    """

    studies: pd.DataFrame
    views: pd.DataFrame | None
    shortcuts: pd.DataFrame
    readers: pd.DataFrame | None
    by: dict[str, pd.DataFrame]
    failures: FailureAnalysis
    alerts: list[str]


def evaluate(
    predictions: pd.DataFrame,
    view_predictions: pd.DataFrame | None = None,
    *,
    published: bool = False,
    failed: Mapping[str, str] | None = None,
    readers: Sequence[str] = (),
    gold: str | None = None,
    by: Sequence[str] = (),
    prevalence: Sequence[float] = (),
    alerts: Sequence[str] = (),
) -> Evaluation:
    """Return all tables of scores.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with ``study_type``, ``patient``, ``label`` and ``score``; may be
        empty. Studies without a label or a score are left out of the scores and counted in an
        alert; readers are still compared on them. A column ``pooled_score``, from one model of all
        types, adds its kappa. If a column ``scored_by`` names several models, the row of all
        studies pools their scales: ``n_models`` counts them, and a row "mean of types" is added.
    view_predictions : DataFrame, optional
        One row per view, of the same models. Intervals resample patients, or studies if there is
        no column ``patient``.
    published : bool, default=False
        Add the paper's kappas. For MURA only.
    failed : dict of str to str, optional
        Study types without predictions, with the reason.
    readers : sequence of str, default=()
        Columns of `predictions` with readers' labels.
    gold : str, optional
        Column with the reference for readers; None means the majority of the other readers.
    by : sequence of str, default=()
        Columns that define subgroups, such as site or scanner.
    prevalence : sequence of float, default=()
        Shares of abnormal studies, between 0 and 1, to give PPV and NPV at.
    alerts : sequence of str, default=()
        Further warnings, put first.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        A study occurs twice, or a column is missing or invalid.

    Warns
    -----
    UserWarning
        A shortcut predicts the label as well as the model does.
    """
    if "study" in predictions and predictions["study"].duplicated().any():
        twice = predictions["study"][predictions["study"].duplicated()]
        raise ValueError(
            f"expected each study once in the predictions, got {twice.nunique()} more than once, "
            f"such as {twice.iloc[0]}; drop the repeated rows"
        )
    alerts = [*alerts, *(f"{name}: {why}" for name, why in (failed or {}).items())]
    labelled = scored_rows(predictions)
    scored = predictions[predictions["score"].notna()]  # readers need no label
    if left_out := len(predictions) - len(labelled):
        alerts.append(
            f"{left_out:,} of {len(predictions):,} studies have no label or no score: they are "
            "left out of the scores"
        )
    called = labelled["score"] > labelled.get("threshold", 0.5)
    if len(called) and (called.all() or not called.any()):
        word = "abnormal" if called.iloc[0] else "normal"
        alerts.append(f"the model calls all {len(called):,} studies {word}")
    if labelled.get("chosen_by", pd.Series(dtype=str)).str.endswith(ON_SCORED).any():
        alerts.append(
            f"the threshold or the calibration was chosen {ON_SCORED}: decisions and calibration "
            "look too good; choose on other labelled studies"
        )
    shortcuts = shortcut_scores(labelled)
    if alert := shortcut_alert(shortcuts):
        alerts.append(alert)
    views = None
    if view_predictions is not None:
        views = _scores(view_predictions, view_scores, n_models=_n_models(predictions))
    return Evaluation(
        studies=score_predictions(predictions, published=published, failed=failed),
        views=views,
        shortcuts=shortcuts,
        readers=reader_kappas(scored, list(readers), gold=gold) if readers else None,
        by={column: subgroup_scores(labelled, column) for column in by},
        failures=failure_analysis(labelled, by=by, prevalence=prevalence),
        alerts=alerts,
    )


def score_predictions(
    predictions: pd.DataFrame, *, published: bool = False, failed: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Return the scores per study type and overall, with patient-bootstrap intervals.

    Parameters
    ----------
    predictions, published, failed
        As for `evaluate`.

    Returns
    -------
    DataFrame
        As `mura_skorch.metrics.study_scores` returns it, plus a row for each failed type and, if
        they apply, the columns ``n_models``, ``pooled_model``, ``paper_model`` and
        ``best_radiologist``.
    """
    n_models = _n_models(predictions)
    scores = _scores(predictions, study_scores, n_models=n_models)
    if failed:
        rows = pd.DataFrame({"study_type": list(failed), "status": list(failed.values())})
        is_type = ~scores["study_type"].isin([MEAN_OF_TYPES, OVERALL])
        types = pd.concat([scores[is_type], rows]).sort_values("study_type")
        scores = pd.concat([types, scores[~is_type]], ignore_index=True)
    if "pooled_score" in predictions:
        pooled = _scores(predictions, study_scores, "pooled_").set_index("study_type")["kappa"]
        # In the rows over all types, both models are scored on the same studies.
        both = predictions.dropna(subset="score")
        both = _scores(both, study_scores, "pooled_", n_models=n_models).set_index("study_type")
        for name in (MEAN_OF_TYPES, OVERALL):
            if name in both.index:
                pooled[name] = both.loc[name, "kappa"]
        scores["pooled_model"] = scores["study_type"].map(pooled)
    return add_published(scores) if published else scores


def final_metrics(scores: pd.DataFrame) -> dict[str, Any]:
    """Return the overall scores under the metric names of runs, such as ``test/kappa``.

    If several models were pooled, the means over the study types are added, such as
    ``test/kappa_mean_of_types``.
    """
    rows = scores.set_index("study_type")
    ends = [name for metric in METRICS for name in (metric, f"{metric}_low", f"{metric}_high")]
    names = [name for name in ends if name in scores]
    found = {f"test/{name}": rows.loc[OVERALL, name] for name in ["n", *names]}
    if MEAN_OF_TYPES in rows.index:
        suffix = MEAN_OF_TYPES.replace(" ", "_")
        found |= {f"test/{name}_{suffix}": rows.loc[MEAN_OF_TYPES, name] for name in METRICS}
    return found


def _n_models(predictions):
    """Return how many models scored the labelled studies."""
    if "scored_by" not in predictions:
        return 1
    return max(1, scored_rows(predictions)["scored_by"].nunique())


def _scores(predictions, scores_of, prefix="", *, n_models=1):
    """Return the table of scores, each prediction at its own threshold."""
    labelled = scored_rows(predictions, f"{prefix}score")
    groups = labelled.get("patient")
    by_study = groups is None and scores_of is view_scores
    if by_study:
        groups = labelled.get("study")  # views of one study are not independent
    threshold = labelled.get(f"{prefix}threshold", 0.5)
    with warnings.catch_warnings():
        # The table and the figure show a zero width.
        warnings.filterwarnings("ignore", "zero width", RuntimeWarning)
        scores = scores_of(
            labelled["label"].astype(int),
            labelled[f"{prefix}score"],
            study_type=labelled["study_type"],
            groups=groups,
            interval="bootstrap",
            threshold=threshold,
            mean_of_types=n_models > 1,
        )
    if by_study:
        scores["caution"] = scores["caution"].str.replace("patients", "studies")
    if n_models == 1 or prefix:
        return scores
    is_pool = scores["study_type"].isin([MEAN_OF_TYPES, OVERALL])
    return scores.assign(n_models=is_pool.map({True: n_models, False: 1}))
