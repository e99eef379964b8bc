"""Plain answers: MLflow's scoring server goes in; its errors become one sentence each.

MLflow answers a bad request with several lines that repeat what was sent, and some with a stack
trace; it offers no setting and no hook for that. So the function of its server that handles one
request, `mlflow.pyfunc.scoring_server.invocations`, is wrapped in the serving process, when the
model is loaded there. Where a later MLflow has no such function, its server works as it came.
"""

import logging
from functools import wraps

from mura_skorch.serving.answers import FAILED
from mura_skorch.serving.requests import BadRequestError, check_body

__all__ = ["answer_plainly"]

_log = logging.getLogger(__name__)


def answer_plainly(server):
    """Let a server check each request before MLflow reads it, and answer errors in a sentence.

    Parameters
    ----------
    server : module
        ``mlflow.pyfunc.scoring_server``.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE, ErrorCode

    handle = getattr(server, "invocations", None)
    if handle is None or hasattr(handle, "__wrapped__"):
        return

    @wraps(handle)
    def invocations(data, content_type, model, input_schema):
        try:
            body = check_body(data, content_type)
            return handle(body, content_type, model, input_schema)
        except BadRequestError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        except MlflowException as error:
            # MLflow puts the request's data before `message`; the argument stays as raised.
            sentence = str(error.args[0]).split("\n", 1)[0][:500]
            raise MlflowException(sentence, ErrorCode.Value(error.error_code)) from None
        except Exception as error:
            _log.exception(FAILED)
            raise MlflowException(FAILED, INTERNAL_ERROR) from error

    server.invocations = invocations
