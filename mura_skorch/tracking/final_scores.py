"""Log the scores on held-out studies in the run of a fit."""

import os
from pathlib import Path
from typing import Any

import pandas as pd

from mura_skorch.evaluation.evaluate import final_metrics, score_predictions
from mura_skorch.evaluation.formatting import PROBABILITIES
from mura_skorch.evaluation.summary import DESCRIPTION, scores_section, with_section
from mura_skorch.tracking.artifacts import PREDICTIONS, PREDICTIONS_TAG
from mura_skorch.tracking.callback import dataset_name, run_of
from mura_skorch.tracking.run import TrackedRun
from mura_skorch.utils.provenance import IDENTITY, data_digest

__all__ = ["log_scores", "log_test_scores"]


def log_test_scores(
    model: Any, predictions: pd.DataFrame, *, report: str | os.PathLike[str] | None = None
) -> pd.DataFrame:
    """Log the scores of a model on a test set, in the run of its fit.

    The run then has the metrics ``test/kappa``, ``test/decisions/sensitivity``,
    ``test/probabilities/auroc`` and so on, the predictions that ``experiments/compare_runs.py``
    compares, the test set as a dataset, and the table of scores in its description. The metrics
    are also listed next to the run's logged model.

    Parameters
    ----------
    model : MuraClassifier or TrackedRun
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
    run = model if isinstance(model, TrackedRun) else run_of(model)
    if not predictions[["label", "score"]].notna().all(axis=1).any():
        raise ValueError(
            "expected predictions with labels and scores, got none with both; pass those of "
            "labelled studies, such as collect_predictions(model, studies).predictions"
        )
    scores = score_predictions(predictions)
    run.log_text(predictions.to_csv(index=False), PREDICTIONS[1])
    log_scores(run, scores, report=report)
    name, digest = dataset_name(predictions), data_digest(predictions)
    table = predictions[[column for column in IDENTITY if column in predictions]]
    run.log_dataset(table, name=name, digest=digest, context="test")
    run.link_metrics("test/", (name, digest))
    if run is not model:
        run.release()
    return scores


def log_scores(
    run: TrackedRun, scores: pd.DataFrame, *, report: str | os.PathLike[str] | None = None
) -> None:
    """Log known scores as metrics and in the description of a run.

    Parameters
    ----------
    run : TrackedRun
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
    """Return the name that puts kappa in the first chart of MLflow.

    MLflow sorts charts by name, in sections that end with the last slash.
    """
    metric = name.removeprefix("test/")
    if metric == "n" or metric.startswith("kappa"):
        return name
    is_of_probabilities = metric.startswith(tuple(PROBABILITIES))
    return f"test/{'probabilities' if is_of_probabilities else 'decisions'}/{metric}"
