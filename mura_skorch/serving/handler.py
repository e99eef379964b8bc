"""Answer HTTP requests for predictions within limits of size and time."""

import asyncio
import json
import logging
from typing import Any

from mlflow.environment_variables import MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from mura_skorch.serving.body_reader import BodyReader
from mura_skorch.serving.deadlines import DEADLINE, Deadline, DeadlineError, check_deadline
from mura_skorch.serving.errors import raise_mlflow_errors
from mura_skorch.serving.requests import JSON, BadRequestError, check_body

__all__ = ["RequestHandler"]

STOPPED = "stopped computing an answer: its client no longer waits"

_log = logging.getLogger(__name__)


class RequestHandler:
    """Answers requests with the predictions of one model.

    Parameters
    ----------
    model : StudyModel
        Loaded.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.bodies = BodyReader(model.limits.n_bytes)

    async def answer(self, request: Request) -> Response:
        """Return predictions, or one sentence on what is wrong, as JSON.

        Parameters
        ----------
        request : Request
            Its body is not read yet.

        Returns
        -------
        Response
            Status 200, or 400 (bad request), 500 (the model failed), 503 (busy), 504 (too late).
            MLflow itself answers 504 as soon as its timeout has passed.
        """
        try:
            with raise_mlflow_errors():
                return Response(await self._read_and_predict(request), media_type=JSON)
        except MlflowException as error:
            return Response(
                error.serialize_as_json(), error.get_http_status_code(), media_type=JSON
            )

    async def _read_and_predict(self, request):
        deadline = Deadline(MLFLOW_SCORING_SERVER_REQUEST_TIMEOUT.get())
        DEADLINE.set(deadline)
        content_type = request.headers.get("content-type")
        async with self.bodies.read(_chunks(request)) as body:
            watch = asyncio.create_task(_watch(request, deadline))
            try:
                return await asyncio.to_thread(self._predict, body, content_type)
            finally:
                watch.cancel()

    def _predict(self, body, content_type):
        try:
            check_deadline()  # the request may have waited for a thread
            rows, activation_maps = check_body(body, content_type, self.model.limits)
            answers = self.model.answer_rows(rows, activation_maps=activation_maps)
        except DeadlineError:
            _log.warning(STOPPED)
            raise
        return json.dumps({"predictions": answers})


async def _chunks(request):
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise BadRequestError("expected a complete request, got a part of it") from None


async def _watch(request, deadline):
    """Cancel the deadline when the client disconnects, the only message after the body."""
    await request.receive()
    deadline.is_cancelled = True
