"""Final scores: predictions of held-out studies go in, the run of the fit has their figures."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from mura_skorch.evaluation.evaluate import final_metrics, score_predictions
from mura_skorch.evaluation.formatting import PROBABILITIES
from mura_skorch.evaluation.summary import DESCRIPTION, scores_section, with_section
from mura_skorch.tracking.artifacts import PREDICTIONS, PREDICTIONS_TAG
from mura_skorch.tracking.callback import MlflowTracker
from mura_skorch.tracking.run import Run

__all__ = ["log_scores", "log_test_scores"]


def log_test_scores(
    model: Any, predictions: pd.DataFrame, *, report: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Log how a model scored on studies that no choice has seen, in the run of its fit.

    The run then has the metrics ``test/kappa``, ``test/decisions/sensitivity``,
    ``test/probabilities/auroc`` and so on, the predictions that ``experiments/compare_runs.py``
    compares, and in its description the table of scores. As in a fit, a server that does not answer
    stops nothing: what it did not get is kept and sent later.

    Parameters
    ----------
    model : MuraClassifier or Run
        Fitted or loaded; its ``run_id_`` names the run.
    predictions : DataFrame
        A prediction table with labels: ``collect_predictions(model, test).predictions``, or what
        `mura_skorch.evaluation.prediction_table` returns.
    report : path, optional
        Folder that `mura_skorch.report.write_report` wrote: logged as ``report`` among the
        artifacts.

    Returns
    -------
    DataFrame
        The scores, by study type and overall, as `mura_skorch.evaluation.score_predictions` gives
        them.

    Raises
    ------
    ValueError
        The model has no run, or no study has both a label and a score.

    Examples
    --------
    >>> inputs = collect_predictions(clf, test)  # doctest: +SKIP
    >>> write_report("report", inputs)  # doctest: +SKIP
    >>> log_test_scores(clf, inputs.predictions, report="report")  # doctest: +SKIP
    """
    run = _run_of(model)
    if not predictions[["label", "score"]].notna().all(axis=1).any():
        raise ValueError(
            "expected predictions with labels and scores, got none with both; pass those of "
            "labelled studies, such as collect_predictions(model, studies).predictions"
        )
    scores = score_predictions(predictions)
    run.log_text(predictions.to_csv(index=False), PREDICTIONS[1])
    log_scores(run, scores, report=report)
    if run is not model:
        run.release()
    return scores


def log_scores(
    run: Run, scores: pd.DataFrame, *, report: str | os.PathLike[str] | None = None
) -> None:
    """Log scores that are known already as metrics and in the description of a run.

    Parameters
    ----------
    run : Run
    scores : DataFrame
        What `mura_skorch.evaluation.score_predictions` or ``write_report`` returns.
    report : path, optional
        As for `log_test_scores`.
    """
    if report is not None:
        run.log_folder(report, Path(PREDICTIONS[0]).parent.name)
    run.log_metrics({_in_section(name): value for name, value in final_metrics(scores).items()})
    section = scores_section(scores, None if report is None else "report/report.html")
    run.set_tags(
        {
            DESCRIPTION: with_section(run.tag(DESCRIPTION) or run.note, section),
            # The report of an earlier test may still be there.
            PREDICTIONS_TAG: PREDICTIONS[1 if report is None else 0],
        }
    )


def _in_section(name):
    """Return the name of a metric in the section of its charts.

    MLflow sorts charts by name, within sections that the last slash ends: kappa is to come first.
    """
    metric = name.removeprefix("test/")
    if metric == "n" or metric.startswith("kappa"):
        return name
    is_of_probabilities = metric.startswith(tuple(PROBABILITIES))
    return f"test/{'probabilities' if is_of_probabilities else 'decisions'}/{metric}"


def _run_of(model):
    """Return the run of a model's fit, by which it is found even where it has no id yet."""
    if isinstance(model, Run):
        return model
    for _, callback in getattr(model, "callbacks_", []):
        if isinstance(callback, MlflowTracker) and callback.run_ is not None:
            return callback.run_
    run_id = getattr(model, "run_id_", None)
    if run_id is None:
        raise ValueError(
            f"expected a model whose fit has an MLflow run, got a {type(model).__name__} without; "
            "fit it without callbacks__mlflow=None, or pass a mura_skorch.tracking.Run"
        )
    return Run(run_id, note=getattr(model, "note_", None))
