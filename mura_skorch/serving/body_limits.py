"""Bodies: MLflow's decorator of its handler goes in; one that reads no more than it may comes out.

MLflow reads a request of any size before it calls anything of ours. So the decorator in which its
server handles errors, `mlflow.pyfunc.scoring_server._async_catch_mlflow_exception`, is wrapped when
the model is loaded. There the clock of a request starts, too.
"""

import asyncio
from functools import wraps

from mura_skorch.serving.deadlines import WAITING, Waiting
from mura_skorch.serving.limits import Limits
from mura_skorch.serving.requests import BadRequestError

__all__ = ["read_within_limits"]

N_LARGEST = 4  # bodies of the largest size that are in memory at once


def read_within_limits(server, limits: Limits) -> None:
    """Let a server refuse what is too long without keeping it, and know who waits.

    Parameters
    ----------
    server : module
        ``mlflow.pyfunc.scoring_server``, before its ``init``.
    limits : Limits
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE

    catch = getattr(server, "_async_catch_mlflow_exception", None)
    if catch is None or hasattr(catch, "__wrapped__"):
        return
    reader = BodyReader(limits.n_bytes)

    @wraps(catch)
    def catching(handle):
        @wraps(handle)
        async def handle_within_limits(request):
            waiting = Waiting(server.MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())
            WAITING.set(waiting)
            parts: list[bytes] = []
            watch = None
            try:
                await reader.read(request.receive, parts)
                watch = asyncio.create_task(_watch(request.receive, waiting))
                return await handle(type(request)(request.scope, _replay(*parts)))
            except BadRequestError as error:
                raise MlflowException(str(error), INVALID_PARAMETER_VALUE) from None
            except BlockingIOError as error:
                raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from None
            finally:
                waiting.is_gone = True
                reader.n_kept -= sum(map(len, parts))
                if watch:
                    watch.cancel()

        return catch(handle_within_limits)

    server._async_catch_mlflow_exception = catching


class BodyReader:
    """Reads bodies, and counts the bytes that all requests at hand keep."""

    def __init__(self, n_bytes):
        self.n_bytes = n_bytes
        self.n_kept = 0

    async def read(self, receive, parts):
        """Make the body the one element of a list; drop what is too much, but read it to its end.

        A client that still sends when it is answered would not see the answer.
        """
        n_bytes, is_full, more = 0, False, True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise BadRequestError("expected a whole request, got a part of one")
            part = message.get("body", b"")
            more = message.get("more_body", False)
            n_bytes += len(part)
            is_full |= self.n_kept + len(part) > N_LARGEST * self.n_bytes
            if n_bytes > self.n_bytes or is_full:
                self.n_kept -= sum(map(len, parts))
                parts.clear()
            else:
                self.n_kept += len(part)
                parts.append(part)
        if n_bytes > self.n_bytes:
            raise BadRequestError(
                f"expected a request of at most {self.n_bytes:,} bytes, got {n_bytes:,}: send the "
                "studies in several requests"
            )
        if is_full:
            raise BlockingIOError(
                f"expected at most {N_LARGEST * self.n_bytes:,} bytes of all requests at once, "
                "got more: ask again later"
            )
        parts[:] = [b"".join(parts)]


async def _watch(receive, waiting):
    """Note when a client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    waiting.is_gone = True


def _replay(body):
    """Return what a request receives whose body is known."""

    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}

    return receive
