"""Log fitted models to MLflow and register them."""

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
    """Log a fitted model to an MLflow run in a form that MLflow can serve, and register it.

    Use it for models made after a fit: a recalibrated copy, an ensemble, a model from a folder. A
    fit logs its own model; to register that one, call
    ``mlflow.register_model(f"runs:/{clf.run_id_}/model", "mura")``.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.
    name : str, default="model"
        Artifact path in the run, which must not exist yet.
    registered_model_name : str, optional
        Register it as the next version of this model, which is created if missing.
    alias : str, optional
        Give the version this alias, such as "champion", so that
        ``models:/<registered_model_name>@<alias>`` is its address.
    run_id : str, optional
        Run to log to. None means the active run, or a new one if there is none.

    Returns
    -------
    str
        The model's address: ``models:/mura@champion``, ``models:/mura/3`` or ``runs:/...``.
        `load_model` and ``mlflow models serve -m`` accept it.

    Raises
    ------
    ValueError
        There is an alias but no model name, or the run has artifacts of that name already.
    MlflowException
        The tracking server is unreachable or refuses.

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
                f"expected a new artifact name in run {run_id}, got {name!r}, which exists; pass "
                "another name, or register what is there: "
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
    """Give the id of the run to log to: the given one, the active one, or a new one."""
    import mlflow

    active = mlflow.active_run()
    if run_id is not None or active is not None:
        yield run_id or active.info.run_id
        return
    with mlflow.start_run(run_name=name) as run:
        if note:
            mlflow.set_tags({"note": note, "mlflow.note.content": note})
        yield run.info.run_id
