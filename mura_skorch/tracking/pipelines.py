"""Log a fitted model of scikit-learn, such as a pipeline on frozen features, as an MLflow run."""

from typing import Any

import pandas as pd

from mura_skorch.evaluation.evaluate import final_metrics, score_predictions
from mura_skorch.evaluation.predictions import prediction_table
from mura_skorch.metrics import OVERALL
from mura_skorch.studies.columns import join_notes
from mura_skorch.tracking.callback import dataset_name, study_tags
from mura_skorch.tracking.final_scores import log_test_scores
from mura_skorch.tracking.run import TrackedRun
from mura_skorch.utils.arguments import is_default
from mura_skorch.utils.provenance import data_digest

__all__ = ["log_fitted_pipeline"]

# Parameters that change no result.
WITHOUT_EFFECT = ("cache", "memory", "n_jobs", "steps", "verbose")


def log_fitted_pipeline(
    model: Any,
    train: pd.DataFrame,
    *,
    valid: pd.DataFrame | None = None,
    test: pd.DataFrame | None = None,
    threshold: float = 0.5,
    name: str | None = None,
    parent: TrackedRun | str | None = None,
) -> TrackedRun:
    """Log a fitted model of scikit-learn as a fit of `MuraClassifier` is logged.

    The run has the settings that differ from their defaults, the training studies and their
    digest, versions, and the scores on validation and test studies, over all and by study type.
    `experiments/compare_runs.py` compares it with other runs. The model itself is not logged.

    Parameters
    ----------
    model : classifier
        Fitted on study tables, with ``predict_proba``: a pipeline that begins with
        `mura_skorch.features.StudyEmbedder`, a search over it, or a calibrated one.
    train : DataFrame of n_studies rows
        The study table that it was fitted on.
    valid : DataFrame, optional
        Labelled studies that settings were chosen on. Their scores are ``valid/kappa`` and so on.
    test : DataFrame, optional
        Labelled studies that no choice has seen. Their scores are logged by `log_test_scores`.
    threshold : float, default=0.5
        A study is called abnormal if its probability is strictly greater.
    name : str, optional
        Name of the run. None means the study types.
    parent : TrackedRun or str, optional
        Parent of the run, or its id. None means the active run, if there is one.

    Returns
    -------
    TrackedRun
        The finished run, with its ``run_id``.

    Raises
    ------
    ValueError
        Validation or test studies have no labels.

    Examples
    --------
    >>> model = make_pipeline(  # doctest: +SKIP
    ...     StudyEmbedder(cache="cache"), StandardScaler(), LogisticRegression(C=0.01)
    ... )
    >>> model.fit(train, train.label)  # doctest: +SKIP
    >>> log_fitted_pipeline(model, train, test=test).run_id  # doctest: +SKIP
    """
    run = TrackedRun(name=name or dataset_name(train), parent=parent, note=join_notes(train))
    with run:
        run.set_tags(study_tags(train) | {"estimator": _name_of(model)})
        run.log_params(_settings(model) | {"threshold": threshold})
        table = prediction_table(train)
        run.log_dataset(
            table, name=dataset_name(table), digest=data_digest(table), context="training"
        )
        if valid is not None:
            predictions = _predict(model, valid, threshold)
            scores = score_predictions(predictions)
            metrics = final_metrics(scores) | _kappas(scores)
            run.log_text(predictions.to_csv(index=False), "valid_predictions.csv")
            run.log_metrics({f"valid/{k.removeprefix('test/')}": v for k, v in metrics.items()})
            own = prediction_table(valid)
            run.log_dataset(
                own, name=dataset_name(own), digest=data_digest(own), context="validation"
            )
        if test is not None:
            run.log_metrics(_kappas(log_test_scores(run, _predict(model, test, threshold))))
    return run


def _predict(model, studies, threshold):
    if "label" not in studies or studies["label"].isna().all():
        raise ValueError(
            "expected labelled studies to score the model on, got none; join their labels, or "
            "leave them out"
        )
    return prediction_table(studies, model.predict_proba(studies)[:, 1], threshold=threshold)


def _kappas(scores):
    """Return the kappas of the study types as metrics."""
    types = scores[scores["study_type"] != OVERALL]
    names = "test/kappa/" + types["study_type"].str.replace("/", "_")
    return dict(zip(names, types["kappa"], strict=True))


def _settings(model, prefix=""):
    """Return what differs from the defaults, of the parts of a model too."""
    params = model.get_params(deep=False)
    parts = dict(params.get("steps", ()))
    found: dict[str, Any] = {}
    for name, value in (params | parts).items():
        key = f"{prefix}{name}"
        if name in WITHOUT_EFFECT or is_default(model, name, value):
            continue
        if hasattr(value, "run_id_"):  # a classifier of this package has a run of its own
            found[key] = f"{type(value).__name__} of run {value.run_id_}"
        elif hasattr(value, "get_params") and not isinstance(value, type):
            found[key] = type(value).__name__
            found |= _settings(value, f"{key}__")
        else:
            found[key] = getattr(value, "__qualname__", value)
    network = getattr(model, "network_", None)  # of a fitted StudyEmbedder
    return found | ({} if network is None else {f"{prefix}network": network["weights"][:16]})


def _name_of(model):
    """Return the names of the classes of a model: those of a pipeline's steps."""
    steps = [step for _, step in getattr(model, "steps", ())]
    return " | ".join(type(step).__name__ for step in steps) or type(model).__name__
