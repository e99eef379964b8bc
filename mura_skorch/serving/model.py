"""Study model: what MLflow serves; a table of base64 images goes in, a table of answers comes out.

The one room that imports mlflow at its head: only `served_model.py` imports it.
"""

import logging
import os
import sys
import threading
import warnings

import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
)
from mlflow.pyfunc import PythonModel

from mura_skorch.ensemble import load_model
from mura_skorch.serving.body_limits import read_within_limits
from mura_skorch.serving.deadlines import GivenUpError, held
from mura_skorch.serving.error_responses import answer_plainly
from mura_skorch.serving.images import decode_studies
from mura_skorch.serving.limits import read_limits
from mura_skorch.serving.requests import BadRequestError, check_params, check_rows
from mura_skorch.serving.responses import (
    FAILED,
    answer,
    compute,
    give_up_between_parts,
    image_sizes,
)

__all__ = ["StudyModel"]

ROOT_VARIABLE = "MURA_IMAGE_ROOT"
SERVER = "mlflow.pyfunc.scoring_server.app"

_log = logging.getLogger(__name__)


class StudyModel(PythonModel):
    """A saved model behind MLflow's pyfunc.

    Parameters
    ----------
    folder : path
        What `save` wrote.
    """

    def __init__(self, folder):
        self.folder = folder

    def load_context(self, context):
        """Load the weights, once a process."""
        self.limits = read_limits()
        self.model = load_model(self.folder)
        give_up_between_parts(self.model)
        # Requests are decoded side by side and computed one after the other: they would only
        # share the cores, and the maps hook into the one network.
        self.network = threading.Lock()
        if SERVER in sys.modules:
            server = sys.modules["mlflow.pyfunc.scoring_server"]
            read_within_limits(server, self.limits)
            answer_plainly(server, self.limits)

    def predict(self, context, model_input: pd.DataFrame, params=None):
        """Return one row per study, see `mura_skorch.serving.responses.answer`.

        Parameters
        ----------
        context : PythonModelContext
            Not used.
        model_input : DataFrame of n_studies rows
            ``images``, lists of base64 texts; ``study_type``, optional.
        params : dict, optional
            ``activation_maps``, bool.

        Returns
        -------
        DataFrame of n_studies rows
        """
        try:
            with_maps = check_params(params)
            rows = check_rows(model_input.to_dict("records"), self.limits)
            root = os.environ.get(ROOT_VARIABLE)
            sizes = image_sizes(self.model)
            studies = decode_studies(rows, sizes, root=root, limits=self.limits)
            with held(self.network), warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # the answer has them as its note
                computed = compute(self.model, studies, activation_maps=with_maps)
            answers = answer(self.model, studies, *computed)
        except BadRequestError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        except GivenUpError as error:
            raise MlflowException(str(error), DEADLINE_EXCEEDED) from None
        except Exception as error:
            _log.exception(FAILED)
            raise MlflowException(FAILED, INTERNAL_ERROR) from error
        return pd.DataFrame(answers, dtype=object)
