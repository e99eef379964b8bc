"""Evaluation: a table of predictions goes in, every table of figures of the report comes out."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.evaluation.published import beside_published
from mura_skorch.evaluation.reader_study import reader_kappas
from mura_skorch.evaluation.shortcuts import shortcut_alert, shortcut_scores
from mura_skorch.evaluation.subgroups import scores_by
from mura_skorch.metrics import MEAN_OF_TYPES, METRICS, OVERALL, study_scores, view_scores
from mura_skorch.studies.columns import ON_SCORED

__all__ = ["Evaluation", "evaluate", "final_metrics", "score_predictions"]


class Evaluation(NamedTuple):
    """Tables of figures of one set of predictions.

    Attributes
    ----------
    studies : DataFrame
        Scores per study type and overall, each study counted once.
    views : DataFrame or None
        The same with each view counted once, under its study's label.
    shortcuts : DataFrame
        What the number of views and other by-products reach alone.
    readers : DataFrame or None
        Kappas of readers beside the model's.
    by : dict of str to DataFrame
        Scores by the values of each further column that was asked for.
    alerts : list of str
        What a reader has to know before the figures are believed.
    """

    studies: pd.DataFrame
    views: pd.DataFrame | None
    shortcuts: pd.DataFrame
    readers: pd.DataFrame | None
    by: dict[str, pd.DataFrame]
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
    alerts: Sequence[str] = (),
) -> Evaluation:
    """Return all tables of figures.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with ``study_type``, ``patient``, ``label`` and ``score``; may be
        empty. Studies without a label or a score are left out of the scores, and counted in an
        alert; readers are held against a gold column or each other without a label too. With a
        column ``pooled_score``, of one model trained on all types, its kappa stands beside. With a
        column ``scored_by`` that names several models, the row of all studies is a pool of their
        scales: it says so in ``n_models``, and a row "mean of types" stands above it.
    view_predictions : DataFrame, optional
        One row per view, of the same models. Intervals resample patients, or whole studies where
        there is no column ``patient``.
    published : bool, default=False
        Set the paper's kappas beside; for MURA alone.
    failed : dict of str to str, optional
        What to say of study types that have no predictions.
    readers : sequence of str, default=()
        Columns of `predictions` with readers' labels.
    gold : str, optional
        Column that readers are held against; None means the majority of the other readers.
    by : sequence of str, default=()
        Columns, such as site or scanner, by whose values the scores are broken down.
    alerts : sequence of str, default=()
        What else a reader has to know, put first.

    Returns
    -------
    Evaluation

    Raises
    ------
    ValueError
        A study occurs twice, or a column is not as described.

    Warns
    -----
    UserWarning
        If a shortcut reaches what the model reaches.
    """
    if "study" in predictions and predictions["study"].duplicated().any():
        twice = predictions["study"][predictions["study"].duplicated()]
        raise ValueError(
            f"expected each study once among the predictions, got {twice.nunique()} more than "
            f"once, such as {twice.iloc[0]}; drop the repeated rows"
        )
    alerts = [*alerts, *(f"{name}: {why}" for name, why in (failed or {}).items())]
    labelled = scored_rows(predictions)
    scored = predictions[predictions["score"].notna()]  # readers may label what has no label
    if left_out := len(predictions) - len(labelled):
        alerts.append(
            f"{left_out:,} of {len(predictions):,} studies have no label or no score: left out of "
            "the scores"
        )
    called = labelled["score"] > labelled.get("threshold", 0.5)
    if len(called) and (called.all() or not called.any()):
        word = "abnormal" if called.iloc[0] else "normal"
        alerts.append(f"the model calls all {len(called):,} studies {word}")
    if labelled.get("chosen_by", pd.Series(dtype=str)).str.endswith(ON_SCORED).any():
        alerts.append(
            f"the threshold or the calibration was chosen {ON_SCORED}: figures of decisions and of "
            "calibration are too good; choose on other labelled studies"
        )
    shortcuts = shortcut_scores(labelled)
    if alert := shortcut_alert(shortcuts):
        alerts.append(alert)
    return Evaluation(
        studies=score_predictions(predictions, published=published, failed=failed),
        views=None
        if view_predictions is None
        else _scores(view_predictions, view_scores, n_models=_n_models(predictions)),
        shortcuts=shortcuts,
        readers=reader_kappas(scored, list(readers), gold=gold) if readers else None,
        by={column: scores_by(labelled, column) for column in by},
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
        As `mura_skorch.metrics.study_scores` gives it, with a row for each failed type, and with
        the columns ``n_models``, ``pooled_model``, ``paper_model`` and ``best_radiologist`` where
        they apply.
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
        # Overall and on average, both stand for the same studies.
        both = predictions.dropna(subset="score")
        both = _scores(both, study_scores, "pooled_", n_models=n_models).set_index("study_type")
        for name in (MEAN_OF_TYPES, OVERALL):
            if name in both.index:
                pooled[name] = both.loc[name, "kappa"]
        scores["pooled_model"] = scores["study_type"].map(pooled)
    return beside_published(scores) if published else scores


def final_metrics(scores: pd.DataFrame) -> dict[str, Any]:
    """Return the overall scores under the names that runs share: ``test/kappa`` and so on.

    Where several models were pooled, the means over the study types stand beside them, as
    ``test/kappa_mean_of_types`` and so on.
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
    """Return the table of scores, at the operating point that each prediction was made with."""
    labelled = scored_rows(predictions, f"{prefix}score")
    groups = labelled.get("patient")
    if of_studies := groups is None and scores_of is view_scores:
        groups = labelled.get("study")  # views of one study belong together
    threshold = labelled.get(f"{prefix}threshold", 0.5)
    with warnings.catch_warnings():
        # The table and the figure say it where it is.
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
    if of_studies:
        scores["caution"] = scores["caution"].str.replace("patients", "studies")
    if n_models == 1 or prefix:
        return scores
    is_pool = scores["study_type"].isin([MEAN_OF_TYPES, OVERALL])
    return scores.assign(n_models=is_pool.map({True: n_models, False: 1}))
