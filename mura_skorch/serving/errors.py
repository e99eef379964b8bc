"""Turn errors of a request into MLflow's, with one sentence for the client."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    TEMPORARILY_UNAVAILABLE,
)

from mura_skorch.serving.body_reader import ServerBusyError
from mura_skorch.serving.deadlines import DeadlineError
from mura_skorch.serving.requests import BadRequestError

__all__ = ["raise_mlflow_errors"]

FAILED = "the model failed on this request; the server's log has the reason"

_log = logging.getLogger(__name__)


@contextmanager
def raise_mlflow_errors() -> Iterator[None]:
    """Raise every error of the block as an `MlflowException` without a stack trace.

    Raises
    ------
    MlflowException
        Its code is answered by HTTP status 400, 500, 503 or 504.
    """
    try:
        yield
    except MlflowException:
        raise
    except BadRequestError as error:
        raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
    except ServerBusyError as error:
        raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from None
    except DeadlineError as error:
        raise MlflowException(str(error), DEADLINE_EXCEEDED) from None
    except Exception as error:
        _log.exception(FAILED)
        raise MlflowException(FAILED, INTERNAL_ERROR) from error
