"""Persistence: a fitted classifier goes in, a folder that brings it back comes out."""

import os
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from skorch.history import History

from mura_skorch.models.pretrained import check_fit
from mura_skorch.models.serialization import (
    CONFIG_FILE,
    OF_A_MACHINE,
    log_replaced,
    read_model,
    write_model,
)
from mura_skorch.tracking.artifacts import ModelSource, fetch_model
from mura_skorch.training.net import StudySteps
from mura_skorch.utils.text import printable

__all__ = ["PersistentNet"]


class PersistentNet(StudySteps):
    """A net of studies that is saved to a folder and loaded again, without pickle."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the model to a folder, as safetensors and JSON.

        Parameters
        ----------
        folder : path
            Made where it is missing. Holds weights, study types, history and the parameters that
            are numbers or strings; parameters that are objects come back as defaults. A model that
            is there already is replaced, which a line in the log says.
        """
        self.check_is_fitted()
        log_replaced(Path(folder) / CONFIG_FILE)
        self.write(folder)

    def write(self, folder: str | os.PathLike[str]) -> None:
        """Write the model as `save` does, without a word of what it replaces."""
        self.check_is_fitted()
        tensors = {
            f"{part}.{key}": value
            for part in ("module", "criterion")
            for key, value in getattr(self, part + "_").state_dict().items()
        }
        params = {
            key: _plain(value)
            for key, value in self.get_params(deep=False).items()
            if isinstance(value, bool | int | float | str | os.PathLike | None | np.generic)
            and key not in OF_A_MACHINE
            and not key.startswith("callbacks")
        }
        config = {
            "note": self.note_,
            "seed": self.seed_,
            "run_id": self.run_id_,
            "validation": self.valid_digest_,
            "operating_point": self.operating_point(),
            "study_types": self.study_types_,
            "classes": self._class_names(),
            "params": params,
            "history": [{k: v for k, v in row.items() if k != "batches"} for row in self.history],
        }
        write_model(folder, tensors, config)

    @classmethod
    def load(cls, source: ModelSource, **params: Any) -> Self:
        """Return a model that predicts as the saved one does.

        Parameters
        ----------
        source : path, str or mlflow.entities.Run
            A folder written by `save`, an MLflow run, its id, or a ``runs:/`` address.
        **params
            Parameters to use instead of the saved ones, such as ``device``.

        Returns
        -------
        MuraClassifier
            Or the subclass it is called on.

        Raises
        ------
        FileNotFoundError
            There is no saved model.
        ValueError
            It is damaged, foreign or of a later format.
        """
        with fetch_model(source) as folder:
            return cls._load(folder, params)

    @classmethod
    def _load(cls, folder, params):
        _, config = read_model(folder)
        saved = {k: v for k, v in config["params"].items() if k not in OF_A_MACHINE}
        criterion = getattr(torch.nn, config["classes"]["criterion"], None)
        if isinstance(criterion, type) and issubclass(criterion, torch.nn.BCEWithLogitsLoss):
            saved["criterion"] = criterion  # one of torch's own is known by its name
        try:
            net = cls(**{**saved, **params})
        except TypeError as error:
            raise _unfit(folder, error) from error
        for part, name in net._class_names().items():
            if name != config["classes"][part]:
                raise ValueError(
                    f"expected {part} {printable(config['classes'][part])}, with which the model "
                    f"in {printable(folder)} was saved, got {name}; pass {part}=THE_CLASS to load"
                )
        start, net.module__weights = net.module__weights, None
        try:
            net.initialize()
        except (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError) as error:
            raise _unfit(folder, error) from error
        net.module__weights = start
        net.load_weights(folder)
        net.study_types_, net.note_ = config["study_types"], config["note"]
        net.history = History({**row, "batches": []} for row in config["history"])
        net.run_id_, net.seed_ = config.get("run_id"), config.get("seed", net.seed_)
        net.valid_digest_ = config.get("validation")
        net.feature_names_in_ = np.array(["study_type", "views"], dtype=object)
        net.set_operating_point(config.get("operating_point"), config["params"].get("threshold"))
        return net

    def load_weights(self, folder: str | os.PathLike[str]) -> None:
        """Take the weights of a model that `save` wrote; all must fit."""
        tensors, _ = read_model(folder)
        for part in ("module", "criterion"):
            state = {
                key.removeprefix(f"{part}."): value
                for key, value in tensors.items()
                if key.startswith(f"{part}.")
            }
            own = getattr(self, part + "_")
            if part == "module":
                remedy = "pass the module that the model was saved with"
                what = f"the {type(own).__name__}"
                check_fit(own.state_dict(), state, what=what, source=folder, remedy=remedy)
            try:
                own.load_state_dict(state)
            except (RuntimeError, TypeError) as error:
                raise _unfit(folder, error) from error

    def _class_names(self):
        """Return the names of the classes that a saved model needs, by parameter."""
        parts = {part: getattr(self, part) for part in ("module", "criterion", "dataset")}
        return {part: getattr(item, "__qualname__", repr(item)) for part, item in parts.items()}


def _unfit(folder, error):
    """Return the error of a model whose parameters build nothing."""
    return ValueError(
        f"expected parameters that build the model, got others in {printable(folder)} or from the "
        f"caller ({printable(error)}); save the model again, or correct what is passed to load"
    )


def _plain(value):
    """Return what JSON can hold of a parameter."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.item() if isinstance(value, np.generic) else value
