"""Publishing: a fitted estimator goes in, an MLflow model with version and alias comes out."""

import tempfile
from contextlib import contextmanager
from typing import Any

from mura_skorch.tracking.mlflow_model import save_mlmodel

__all__ = ["log_model"]


def log_model(
    clf: Any,
    name: str = "model",
    *,
    registered_model_name: str | None = None,
    alias: str | None = None,
    run_id: str | None = None,
) -> str:
    """Log a fitted model to an MLflow run, so that MLflow can serve it, and register it.

    The model that a fit itself has logged needs none of this to be served, and only
    ``mlflow.register_model(f"runs:/{clf.run_id_}/model", "mura")`` to be registered. This is for
    what became of it later: a recalibrated copy, an ensemble, a model from a folder.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.
    name : str, default="model"
        Artifact path in the run. One that the run has already is an error.
    registered_model_name : str, optional
        Make it the next version of this registered model, which is made where it is missing.
    alias : str, optional
        Such as "champion": let ``models:/<registered_model_name>@<alias>`` mean this version.
    run_id : str, optional
        Log into this run. None means the active run, or else a new one.

    Returns
    -------
    str
        The model's address: ``models:/mura@champion``, ``models:/mura/3`` or ``runs:/...``, which
        `load_model` and ``mlflow models serve -m`` take.

    Raises
    ------
    ValueError
        There is an alias without a name to register, or the run has artifacts of that name.
    MlflowException
        The tracking server does not answer, or refuses.

    Examples
    --------
    >>> local = MuraClassifier.load(run_id).recalibrate(local_studies)  # doctest: +SKIP
    >>> log_model(local, registered_model_name="mura", alias="champion")  # doctest: +SKIP
    'models:/mura@champion'
    """
    import mlflow

    if alias is not None and registered_model_name is None:
        raise ValueError(
            f"expected registered_model_name with alias={alias!r}, got none; an alias belongs to "
            "a registered model"
        )
    client = mlflow.MlflowClient()
    with tempfile.TemporaryDirectory() as folder, _run(run_id, name, clf.note_) as run_id:
        save_mlmodel(clf, folder)
        if client.list_artifacts(run_id, name):
            raise ValueError(
                f"expected a name that run {run_id} does not have yet, got {name!r}; pass another"
                " name, or register what is there: "
                f'mlflow.register_model("runs:/{run_id}/{name}", ...)'
            )
        client.log_artifacts(run_id, folder, name)
    address = f"runs:/{run_id}/{name}"
    if registered_model_name is None:
        return address
    registered = mlflow.register_model(address, registered_model_name)
    if clf.note_:
        client.update_model_version(registered_model_name, registered.version, clf.note_)
    if alias is None:
        return f"models:/{registered_model_name}/{registered.version}"
    client.set_registered_model_alias(registered_model_name, alias, registered.version)
    return f"models:/{registered_model_name}@{alias}"


@contextmanager
def _run(run_id, name, note):
    """Give the id of the run to log into: the given one, the active one, or a new one."""
    import mlflow

    active = mlflow.active_run()
    if run_id is not None or active is not None:
        yield run_id or active.info.run_id
        return
    with mlflow.start_run(run_name=name) as run:
        if note:
            mlflow.set_tags({"note": note, "mlflow.note.content": note})
        yield run.info.run_id
