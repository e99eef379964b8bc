"""Download models and predictions of MLflow runs."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from mura_skorch.tracking.offline.connection import is_missing, set_defaults
from mura_skorch.tracking.run import MODEL_NAME

__all__ = ["fetch_model", "fetch_predictions", "fetch_report"]


class MlflowRun(Protocol):
    """What is asked of an `mlflow.entities.Run`."""

    @property
    def info(self) -> Any:
        """Holds ``run_id``."""


# What a saved model is opened by: a folder, the id of a run, an address, a run.
ModelSource = str | os.PathLike[str] | MlflowRun
# Where a run may have its predictions of the reported studies, in the order they are looked for.
PREDICTIONS = ("report/predictions.csv", "test_predictions.csv")
REPORT = "report"  # the folder of a report among the artifacts of a run
PREDICTIONS_TAG = "predictions"  # says which of them the last test wrote


@contextmanager
def fetch_model(source: ModelSource) -> Iterator[Path]:
    """Yield the folder of a model: `source` itself, or a download that is removed afterwards.

    Parameters
    ----------
    source : path, str or mlflow.entities.Run
        A folder, a run, its id, or a ``runs:/`` or ``models:/`` address, such as
        ``models:/m-<id>`` of a logged model.

    Yields
    ------
    Path

    Raises
    ------
    FileNotFoundError
        There is no such run, or it has no model.
    """
    place: Any = getattr(getattr(source, "info", None), "run_id", source)
    text = str(place)
    if re.fullmatch(r"[0-9a-f]{32}", text) and not Path(text).exists():
        text = f"runs:/{text}/{MODEL_NAME}"
    if not re.match(r"(runs|models):/", text):
        yield Path(place)
        return
    with _download(text, "model") as folder:
        yield folder


@contextmanager
def fetch_report(source: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the folder of a report: `source` itself, or a download that is removed afterwards.

    Parameters
    ----------
    source : path or str
        A folder, or the id of a run that holds a report.

    Yields
    ------
    Path

    Raises
    ------
    FileNotFoundError
        There is no such run, or it has no report.
    """
    text = str(source)
    if not re.fullmatch(r"[0-9a-f]{32}", text) or Path(text).exists():
        yield Path(source)
        return
    with _download(f"runs:/{text}/{REPORT}", "report") as folder:
        yield folder


@contextmanager
def _download(text: str, what: str) -> Iterator[Path]:
    """Yield a folder of artifacts of a run or a registered model, downloaded for the block."""
    import mlflow

    set_defaults()
    is_registered = text.startswith("models:/") and not text.startswith("models:/m-")
    uri = mlflow.get_registry_uri() if is_registered else mlflow.get_tracking_uri()
    if is_missing(uri):  # to ask for it would make it
        raise FileNotFoundError(
            f"expected a run with a {what} at {uri}, got {text}: there is no such database; set "
            "MLFLOW_TRACKING_URI to where it was logged"
        )
    with tempfile.TemporaryDirectory() as temporary:
        try:
            folder = Path(mlflow.artifacts.download_artifacts(text, dst_path=temporary))
        except (mlflow.MlflowException, OSError) as error:
            raise FileNotFoundError(
                f"expected a run with a {what} at {mlflow.get_tracking_uri()}, got {text}: "
                f"{str(error).splitlines()[0]}"
            ) from error
        yield folder


def fetch_predictions(run: str | MlflowRun, table: str | None = None) -> pd.DataFrame:
    """Return the prediction table of an MLflow run.

    Parameters
    ----------
    run : str, TrackedRun or mlflow.entities.Run
        A run or its id.
    table : str, optional
        Artifact path of the table. None takes that of the last test, and in a run that does not
        name it looks for "report/predictions.csv", then for "test_predictions.csv". The predictions
        that epochs were chosen by, in "valid_predictions.csv", are never taken unless they are
        named here.

    Returns
    -------
    DataFrame
        Keys are texts, labels nullable integers.

    Raises
    ------
    ValueError
        There is no such run, or it has no such table, or its rows are views.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    run_id = getattr(getattr(run, "info", run), "run_id", run)
    if is_missing(mlflow.get_tracking_uri()):
        raise ValueError(
            f"expected the id of an MLflow run, got {run_id!r}, and no database at "
            f"{mlflow.get_tracking_uri()}; set MLFLOW_TRACKING_URI to where it was logged"
        )
    set_defaults()
    client = mlflow.MlflowClient()
    try:
        last = client.get_run(run_id).data.tags.get(PREDICTIONS_TAG)
    except MlflowException as error:
        raise ValueError(
            f"expected the id of an MLflow run, got {run_id!r} ({error.message}); copy the id "
            "from the run's page, and set MLFLOW_TRACKING_URI to where it was logged"
        ) from error
    files = _artifacts(client, run_id)
    wanted = (table or last,) if table or last else PREDICTIONS
    found = [name for name in wanted if name in files]
    if not found:
        tables = ", ".join(name for name in files if name.endswith(".csv")) or "none"
        raise ValueError(
            f"expected {' or '.join(wanted)} among the artifacts of run {run_id}, got these "
            f"tables: {tables}; name one of them (--table), or log a test with log_test_scores"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = mlflow.artifacts.download_artifacts(
            run_id=run_id, artifact_path=found[0], dst_path=folder
        )
        types = dict.fromkeys(["study", "study_type", "patient", "note"], "str")
        predictions = pd.read_csv(
            file, dtype=types | {"label": "Int8"}, keep_default_na=False, na_values=[""]
        )
    if "view" in predictions:
        raise ValueError(
            f"expected predictions of whole studies, got {found[0]} of run {run_id}, whose rows "
            "are views; name a table of studies, such as report/predictions.csv"
        )
    return predictions


def _artifacts(client, run_id, folder=None):
    """Return the paths of a run's files, but for the model's."""
    files = []
    for item in client.list_artifacts(run_id, folder):
        if not item.is_dir:
            files.append(item.path)
        elif item.path != MODEL_NAME:
            files += _artifacts(client, run_id, item.path)
    return files
