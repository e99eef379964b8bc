"""Save a fitted classifier to a folder and load it again, without pickle."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch.history import History

from mura_skorch.inference.engines import Quantized
from mura_skorch.inspection.training_distance import TrainingDistance
from mura_skorch.models.pretrained import check_fit
from mura_skorch.models.serialization import (
    CONFIG_FILE,
    OF_A_MACHINE,
    log_replaced,
    read_model,
    write_model,
)
from mura_skorch.tracking.artifacts import ModelSource, fetch_model
from mura_skorch.training.fit_record import FitRecord
from mura_skorch.utils.arguments import names_taken
from mura_skorch.utils.text import printable

__all__ = ["load_classifier", "load_weights", "save_classifier", "write_classifier"]

PARTS = ("module", "criterion")
DISTANCE = "training_distance."  # first part of the names of its tensors
QUANTIZED = "quantized."


def save_classifier(net: Any, folder: str | os.PathLike[str]) -> None:
    """Write a fitted classifier to a folder, and log which model it replaces."""
    net.check_is_fitted()
    log_replaced(Path(folder) / CONFIG_FILE)
    write_classifier(net, folder)


def write_classifier(net: Any, folder: str | os.PathLike[str]) -> None:
    """Write a fitted classifier to a folder, as safetensors and JSON.

    Parameters
    ----------
    net : MuraClassifier
        Fitted.
    folder : path
        Made if it is missing.
    """
    net.check_is_fitted()
    tensors = {
        f"{part}.{key}": value
        for part in PARTS
        for key, value in getattr(net, part + "_").state_dict().items()
    }
    if net.training_distance_ is not None:
        own = net.training_distance_.to_tensors()
        tensors |= {f"{DISTANCE}{name}": value for name, value in own.items()}
    if net.quantized_ is not None:
        for name in ("structure", "weights"):
            stored = np.frombuffer(getattr(net.quantized_, name), np.uint8)
            tensors[f"{QUANTIZED}{name}"] = torch.from_numpy(stored.copy())
    params = {
        key: _plain(value)
        for key, value in net.get_params(deep=False).items()
        if isinstance(value, bool | int | float | str | os.PathLike | None | np.generic)
        and key not in OF_A_MACHINE
        and not key.startswith("callbacks")
    }
    config = {
        **net.record_.to_dict(),
        "operating_point": net.operating_point(),
        "classes": _class_names(net),
        "params": params,
        "quantized": None if net.quantized_ is None else net.quantized_.report(),
        "history": [{k: v for k, v in row.items() if k != "batches"} for row in net.history],
    }
    write_model(folder, tensors, config)


def load_classifier(cls: Any, source: ModelSource, params: dict[str, Any]) -> Any:
    """Return a classifier that predicts as the saved one does.

    Parameters
    ----------
    cls : type
        `MuraClassifier` or a subclass.
    source : path, str or mlflow.entities.Run
        A folder written by `save_classifier`, an MLflow run, its id, or a ``runs:/`` address.
    params : dict of str to object
        Parameters to use instead of the saved ones.

    Raises
    ------
    FileNotFoundError
        There is no saved model.
    ValueError
        It is damaged, foreign or of a later format.
    """
    with fetch_model(source) as folder:
        return _load(cls, folder, params)


def load_weights(net: Any, folder: str | os.PathLike[str]) -> None:
    """Take the weights of a saved classifier; all must fit."""
    tensors, _ = read_model(folder)
    for part in PARTS:
        state = {
            key.removeprefix(f"{part}."): value
            for key, value in tensors.items()
            if key.startswith(f"{part}.")
        }
        own = getattr(net, part + "_")
        if part == "module":
            remedy = "leave module__backbone out, or pass the module that the model was saved with"
            what = f"the {type(own).__name__}"
            check_fit(own.state_dict(), state, what=what, source=folder, remedy=remedy)
        try:
            own.load_state_dict(state)
        except (RuntimeError, TypeError) as error:
            raise _unfit(folder, error) from error


def _load(cls, folder, params):
    tensors, config = read_model(folder)
    saved = {k: v for k, v in config["params"].items() if k not in OF_A_MACHINE}
    criterion = getattr(torch.nn, config["classes"]["criterion"], None)
    if isinstance(criterion, type) and issubclass(criterion, torch.nn.BCEWithLogitsLoss):
        saved["criterion"] = criterion  # one of torch's own is known by its name
    try:
        net = cls(**{**saved, **params})
    except TypeError as error:
        raise _unfit(folder, error) from error
    names = _class_names(net)
    for part, name in config["classes"].items():
        if name != names.get(part):
            raise ValueError(
                f"expected {part} {printable(name)}, with which the model in {printable(folder)} "
                f"was saved, got {names.get(part) or params.get(part, 'none')}; pass "
                f"{part}=THAT_ONE to load"
            )
    start = net.module__weights
    taken = names_taken(net.module)
    if taken is None or "weights" in taken:
        net.module__weights = None  # those of the folder replace them
    try:
        net.initialize()
    except (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as error:
        raise _unfit(folder, error) from error
    net.module__weights = start
    load_weights(net, folder)
    record = {"seed": net.seed_, **config}  # models of 0.1.0 have no seed
    net.update_record(**FitRecord.from_dict(record).to_dict())
    net.history = History({**row, "batches": []} for row in config["history"])
    net.feature_names_in_ = np.array(["study_type", "views"], dtype=object)
    net.set_operating_point(config.get("operating_point"), config["params"].get("threshold"))
    own = {k.removeprefix(DISTANCE): v for k, v in tensors.items() if k.startswith(DISTANCE)}
    if own:
        try:
            net.training_distance_ = TrainingDistance.from_tensors(own)
        except ValueError as error:
            raise _unfit(folder, error) from error
    if (report := config.get("quantized")) is not None:
        try:
            own = {name: tensors[QUANTIZED + name].numpy() for name in ("structure", "weights")}
            files = {name: value.tobytes() for name, value in own.items()}
            net.quantized_ = Quantized(**files, **report)
        except (KeyError, TypeError) as error:
            raise _unfit(folder, error) from error
    return net


def _class_names(net):
    """Return the names of the classes that a saved model needs, by parameter."""
    parts = {part: getattr(net, part) for part in ("module", "criterion", "dataset")}
    backbone = net.get_params_for("module").get("backbone")
    if callable(backbone):  # one that has a name of its own is among the parameters
        parts["module__backbone"] = backbone
    return {part: getattr(item, "__qualname__", repr(item)) for part, item in parts.items()}


def _unfit(folder, error):
    """Return the error for a model whose parameters build nothing."""
    return ValueError(
        f"expected parameters that build the model, got others in {printable(folder)} or from the "
        f"caller ({printable(error)}); save the model again, or correct what is passed to load"
    )


def _plain(value):
    """Return what JSON can store of a parameter."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value
