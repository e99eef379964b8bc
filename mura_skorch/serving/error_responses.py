"""Plain answers: MLflow's scoring server goes in; its errors become one sentence each.

MLflow answers a bad request with several lines that repeat what was sent, and some with a stack
trace; it offers no setting and no hook for that. So the function of its server that handles one
request, `mlflow.pyfunc.scoring_server.invocations`, is wrapped in the serving process, when the
model is loaded there. Where a later MLflow has no such function, its server works as it came.
"""

import logging
from functools import wraps

from mura_skorch.serving.deadlines import GivenUpError, check_waiting
from mura_skorch.serving.limits import Limits
from mura_skorch.serving.requests import JSON, BadRequestError, check_body
from mura_skorch.serving.responses import FAILED

__all__ = ["answer_plainly"]

GIVEN_UP = "gave up a request whose answer nobody waits for any more"

_log = logging.getLogger(__name__)


def answer_plainly(server, limits: Limits) -> None:
    """Let a server check each request before MLflow reads it, and answer errors in a sentence.

    Parameters
    ----------
    server : module
        ``mlflow.pyfunc.scoring_server``.
    limits : Limits
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import (
        DEADLINE_EXCEEDED,
        INTERNAL_ERROR,
        INVALID_PARAMETER_VALUE,
        ErrorCode,
    )

    handle = getattr(server, "invocations", None)
    if handle is None or hasattr(handle, "__wrapped__"):
        return

    @wraps(handle)
    def invocations(data, content_type, model, input_schema):
        try:
            check_waiting()  # there may have been a queue
            body = check_body(data, content_type, limits)
            return handle(body, JSON, model, input_schema)
        except BadRequestError as error:
            raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
        except MlflowException as error:
            # MLflow puts the request's data before `message`; the argument stays as raised.
            sentence = str(error.args[0]).split("\n", 1)[0][:500]
            code = ErrorCode.Value(error.error_code)
            if code == DEADLINE_EXCEEDED:
                _log.warning(GIVEN_UP)
            raise MlflowException(sentence, code) from None
        except GivenUpError as error:
            _log.warning(GIVEN_UP)
            raise MlflowException(str(error), DEADLINE_EXCEEDED) from None
        except Exception as error:
            _log.exception(FAILED)
            raise MlflowException(FAILED, INTERNAL_ERROR) from error

    server.invocations = invocations
