"""The MLflow model that answers requests with studies.

Saved models import this module through `served_model.py`: it must not move. Unlike the rest of the
package it imports mlflow at its head.
"""

import os
import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, get_args

import pandas as pd
from mlflow.pyfunc import PythonModel

from mura_skorch.ensemble import load_model
from mura_skorch.inference.engines import EngineSetting, PrecisionSetting
from mura_skorch.serving.deadlines import check_deadline, result_in_time
from mura_skorch.serving.errors import raise_mlflow_errors
from mura_skorch.serving.images import decode_studies
from mura_skorch.serving.limits import read_limits
from mura_skorch.serving.mlflow_hooks import is_server_starting, replace_handler
from mura_skorch.serving.requests import Row, check_params, check_rows
from mura_skorch.serving.responses import answer, compute, image_sizes, stop_between_batches

__all__ = ["StudyModel"]

ROOT_VARIABLE = "MURA_IMAGE_ROOT"
# Parameters of the model that variables set, and their choices.
SETTINGS = {
    "engine": ("MURA_ENGINE", get_args(EngineSetting)),
    "precision": ("MURA_PRECISION", get_args(PrecisionSetting)),
}


def read_settings(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the parameters of the model that the environment sets.

    Parameters
    ----------
    environment : mapping of str to str, default=os.environ

    Raises
    ------
    ValueError
        A variable has another value than those that the parameter takes.

    Examples
    --------
    >>> read_settings({"MURA_ENGINE": "auto"})
    {'engine': 'auto'}
    """
    found = {}
    for name, (variable, choices) in SETTINGS.items():
        if value := environment.get(variable, "").strip():
            if value not in choices:
                raise ValueError(
                    f"expected {variable} to be {' or '.join(choices)}, got {value!r}; change it "
                    "in the server's environment or unset it"
                )
            found[name] = value
    return found


class StudyModel(PythonModel):
    """A saved model as an MLflow pyfunc.

    Parameters
    ----------
    folder : path
        Written by `save`.
    """

    def __init__(self, folder):
        self.folder = folder

    def load_context(self, context):
        """Load the weights, once per process, and limit requests if this is a server."""
        self.limits = read_limits()
        # Images are decoded in parallel, but requests computed one at a time: they would only
        # share the cores. In one thread, since each that computes would start others, which are
        # slower together.
        self.network = ThreadPoolExecutor(1, "network")
        self.model = self.network.submit(self._load).result()
        if is_server_starting():
            from mura_skorch.serving.handler import RequestHandler  # needs starlette

            replace_handler(RequestHandler(self).answer)

    def _load(self):
        model = load_model(self.folder, **read_settings())
        model.describe_engine()  # makes it now, or says why it cannot
        stop_between_batches(model)
        return model

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """Return one row per study, see `mura_skorch.serving.responses.answer`.

        Parameters
        ----------
        context : PythonModelContext
            Not used.
        model_input : DataFrame of n_studies rows
            ``images``, lists of base64 strings; ``study_type``, optional.
        params : dict, optional
            ``activation_maps``, bool.

        Returns
        -------
        DataFrame of n_studies rows

        Raises
        ------
        MlflowException
            The input is wrong, or the model failed.
        """
        with raise_mlflow_errors():
            with_maps = check_params(params)
            rows = check_rows(model_input.to_dict("records"), self.limits)
            return pd.DataFrame(self.answer_rows(rows, activation_maps=with_maps), dtype=object)

    def answer_rows(
        self, rows: Sequence[Row], *, activation_maps: bool = False
    ) -> list[dict[str, Any]]:
        """Return an answer for each study of a request.

        Parameters
        ----------
        rows : sequence of Row
            As `check_rows` returns them.
        activation_maps : bool, default=False
            Add the activation maps.

        Raises
        ------
        BadRequestError
            An image is wrong.
        DeadlineError
            The client no longer waits.
        """
        root = os.environ.get(ROOT_VARIABLE)
        sizes = image_sizes(self.model)
        studies = decode_studies(rows, sizes, root=root, limits=self.limits)

        def compute_and_answer():
            check_deadline()  # the request may have waited
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the answer repeats them in its note
                computed = compute(self.model, studies, activation_maps=activation_maps)
            return answer(self.model, studies, *computed)

        return result_in_time(self.network.submit(copy_context().run, compute_and_answer))
