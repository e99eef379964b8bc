import asyncio
import json
import threading
from types import SimpleNamespace

import pytest
from served import study
from starlette.requests import Request

from mura_skorch.serving.deadlines import check_deadline
from mura_skorch.serving.handler import STOPPED, RequestHandler
from mura_skorch.serving.limits import Limits

BODY = json.dumps(study("x", study_type="XR_WRIST") | {"params": {"activation_maps": True}})


def model_of(answer_rows):
    return SimpleNamespace(limits=Limits(body_megabytes=1), answer_rows=answer_rows)


def answer(model, *messages, content_type="application/json"):
    """Return status and JSON of the answer to a request that arrives in messages."""
    queue = list(messages)
    scope = {"type": "http", "headers": [(b"content-type", content_type.encode())]}

    async def receive():
        if not queue:
            await asyncio.Event().wait()  # the client is still connected
        return queue.pop(0)

    response = asyncio.run(RequestHandler(model).answer(Request(scope, receive)))
    assert response.media_type == "application/json"
    return response.status_code, json.loads(response.body)


def message(text, *, more_body=False):
    return {"type": "http.request", "body": text.encode(), "more_body": more_body}


def test_answer_of_the_model_is_sent_as_predictions():
    def answer_rows(rows, *, activation_maps):
        return [row._asdict() | {"maps": activation_maps} for row in rows]

    parts = message(BODY[:20], more_body=True), message(BODY[20:])
    expected = {"images": ["x"], "study_type": "XR_WRIST", "maps": True}
    assert answer(model_of(answer_rows), *parts) == (200, {"predictions": [expected]})


def test_part_of_a_request_is_refused():
    parts = message(BODY[:20], more_body=True), {"type": "http.disconnect"}
    status, error = answer(model_of(None), *parts)
    assert status == 400
    assert error["message"] == "expected a complete request, got a part of it"


def test_request_above_the_limit_is_refused():
    status, error = answer(model_of(None), message("x" * 1_000_001))
    assert status == 400
    assert error["message"].startswith("expected a request of at most 1,000,000 bytes")


@pytest.mark.parametrize("failure", [KeyError("secret"), MemoryError("secret")])
def test_failure_of_the_model_is_500_without_its_reason(failure, caplog):
    def answer_rows(rows, **params):
        raise failure

    status, error = answer(model_of(answer_rows), message(BODY))
    assert (status, error["error_code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in str(error)
    assert "secret" in caplog.text


def test_model_stops_when_the_client_disconnects(caplog):
    is_computing = threading.Event()

    def answer_rows(rows, **params):
        is_computing.set()
        while True:
            check_deadline()

    messages = [message(BODY)]

    async def receive():
        if messages:
            return messages.pop()
        await asyncio.to_thread(is_computing.wait)
        return {"type": "http.disconnect"}

    scope = {"type": "http", "headers": [(b"content-type", b"application/json")]}
    handler = RequestHandler(model_of(answer_rows))
    response = asyncio.run(handler.answer(Request(scope, receive)))
    assert response.status_code == 504
    assert STOPPED in caplog.messages
    assert handler.bodies.n_in_memory == 0
