"""Put our request handler into the server that ``mlflow models serve`` starts.

The only file that uses a private name of MLflow, `DECORATOR`. MLflow's own handler reads a request
of any size before it calls the model, and its errors repeat the request. MLflow makes the server's
app right after it has loaded the model, and offers no setting, argument or plugin to add middleware
or another handler. It does wrap its handler in a decorator, which is replaced here.
"""

import inspect
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

__all__ = ["is_server_starting", "replace_handler"]

SERVER_MODULE = "mlflow.pyfunc.scoring_server"
APP_MODULE = f"{SERVER_MODULE}.app"  # what `mlflow models serve` passes to uvicorn
DECORATOR = "_async_catch_mlflow_exception"


def is_server_starting() -> bool:
    """Return whether this process is a scoring server of MLflow that is loading its model.

    Raises
    ------
    RuntimeError
        This version of MLflow has no such server.
    """
    if not _is_module(APP_MODULE):
        raise _unsupported(f"the module {APP_MODULE}")
    module = sys.modules.get(APP_MODULE)
    return module is not None and not hasattr(module, "app")


def replace_handler(handler: Callable) -> None:
    """Let the scoring server that is starting answer ``POST /invocations`` with another handler.

    Parameters
    ----------
    handler : coroutine function
        Takes a `starlette.requests.Request` and returns a `starlette.responses.Response`.

    Raises
    ------
    RuntimeError
        This version of MLflow has no such decorator, or uses it for something else.
    """
    server: Any = sys.modules[SERVER_MODULE]
    if not hasattr(server, DECORATOR):
        raise _unsupported(f"the decorator {DECORATOR} in {SERVER_MODULE}")

    def replace(mlflow_handler):
        if list(inspect.signature(mlflow_handler).parameters) != ["request"]:
            raise _unsupported(f"{DECORATOR} around a handler of the parameter request")
        return handler

    setattr(server, DECORATOR, replace)


def _is_module(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a package above it is missing
        return False


def _unsupported(expected):
    import mlflow

    return RuntimeError(
        f"expected {expected}, got MLflow {mlflow.__version__} without it: this server could not "
        "limit requests; install MLflow 3.17, or report the version to mura_skorch"
    )
