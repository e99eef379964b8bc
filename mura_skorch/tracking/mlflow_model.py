"""Write a fitted estimator as a folder that `load` opens and MLflow serves.

In addition to what `save` writes it holds some 10 kB, no pickle and no path of this machine: the
description (MLmodel), the versions that the model was saved with, an example request, and
`serving/served_model.py`, which MLflow runs to load the model.
"""

import base64
import io
import logging
import os
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mura_skorch.models.backbones import TIMM
from mura_skorch.utils.members import members_of
from mura_skorch.utils.provenance import package_versions

__all__ = ["example_request", "save_mlmodel"]

CODE_FILE = Path(__file__).parents[1] / "serving" / "served_model.py"
# Beside those that `package_versions` names; this package itself is on no index, and a stranger's
# package of its name must not be installed in its place.
REQUIREMENTS = ("mlflow", "pandas", "numpy", "pillow", "safetensors")
DESCRIPTION = "MLmodel"


def save_mlmodel(clf: Any, folder: str | os.PathLike[str]) -> None:
    """Write a fitted model to a folder that is an MLflow model, too.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.
    folder : path
        Made where it is missing.

    Examples
    --------
    >>> save_mlmodel(clf, "wrists")  # doctest: +SKIP
    >>> # mlflow models serve -m wrists --env-manager local
    """
    import mlflow
    from mlflow.models import Model

    clf.save(folder)
    folder = Path(folder)
    with tempfile.TemporaryDirectory() as temporary, _quiet():
        made = Path(temporary) / "model"
        mlflow.pyfunc.save_model(
            made,
            mlflow_model=Model(metadata={"note": clf.note_} if clf.note_ else None),
            python_model=str(CODE_FILE),
            signature=_signature(),
            input_example=example_request(*_study_types(clf)[:1]),
            pip_requirements=_requirements(clf),
        )
        description = Model.load(made)
        # MLflow reads the last name alone, but writes where this package is installed.
        description.flavors["python_function"]["model_code_path"] = CODE_FILE.name
        sizes = (file.stat().st_size for file in folder.rglob("*") if file.is_file())
        description.model_size_bytes = sum(sizes)
        description.save(made / DESCRIPTION)
        for file in made.iterdir():
            if file.is_file():
                shutil.copyfile(file, folder / file.name)


def example_request(study_type: str = "XR_WRIST") -> pd.DataFrame:
    """Return one study in the form that a served model takes; its view is a plain gradient.

    Parameters
    ----------
    study_type : str, default="XR_WRIST"

    Returns
    -------
    DataFrame of 1 row
        ``images``, a list of one base64 PNG, and ``study_type``.
    """
    file = io.BytesIO()
    Image.fromarray(np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))).save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    return pd.DataFrame({"images": [[image]], "study_type": [study_type]})


@contextmanager
def _quiet():
    """Keep MLflow from telling, in the middle of a fit, how it looks at the example."""
    logger = logging.getLogger("mlflow.pyfunc")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own use of pandas
            yield
    finally:
        logger.setLevel(before)


def _signature():
    """Return what a request must hold and what its answer holds."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import AnyType, Array

    texts, numbers = Array(DataType.string), Array(DataType.double)
    return ModelSignature(
        inputs=Schema(
            # As an array of texts, MLflow would give each the room of the longest, four-fold.
            [ColSpec(AnyType(), "images"), ColSpec(DataType.string, "study_type", required=False)]
        ),
        outputs=Schema(
            [
                ColSpec(DataType.double, "probability"),
                ColSpec(DataType.string, "decision"),
                ColSpec(DataType.double, "threshold"),
                ColSpec(numbers, "view_probabilities"),
                ColSpec(DataType.string, "engine"),
                ColSpec(DataType.string, "note", required=False),
                ColSpec(texts, "activation_maps", required=False),
                ColSpec(DataType.double, "activation_map_limit", required=False),
            ]
        ),
        params=ParamSchema([ParamSpec("activation_maps", DataType.boolean, False)]),
    )


def _requirements(clf):
    names = [*REQUIREMENTS, "timm"] if _is_of_timm(clf) else REQUIREMENTS
    known: dict[str, Any] = package_versions() | {name: version(name) for name in names}
    # Without the build, such as +cpu, which no index has.
    return [f"{k}=={v.split('+')[0]}" for k, v in known.items() if k != "mura_skorch"]


def _is_of_timm(clf):
    """Return whether a backbone of a classifier, or of a member of an ensemble, is timm's."""
    backbones = [net.get_params_for("module").get("backbone") for net in members_of(clf)]
    return any(isinstance(name, str) and name.startswith(TIMM) for name in backbones)


def _study_types(clf):
    """Return the study types that a classifier, or the first member of an ensemble, was taught."""
    return members_of(clf)[0].study_types_
