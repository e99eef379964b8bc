import os
import sys
import threading
import time
import urllib.error
from concurrent.futures import ThreadPoolExecutor

import pytest
import uvicorn
from mlflow.pyfunc import scoring_server
from served import picture, post, study, untrained
from servers import free_port

from mura_skorch.serving.deadlines import (
    DEADLINE,
    Deadline,
    DeadlineError,
    check_deadline,
    result_in_time,
)
from mura_skorch.serving.handler import STOPPED
from mura_skorch.serving.images import decode_studies
from mura_skorch.serving.mlflow_hooks import APP_MODULE, DECORATOR
from mura_skorch.serving.requests import Row
from mura_skorch.serving.responses import stop_between_batches
from mura_skorch.tracking.mlflow_model import save_mlmodel

TIMEOUT = 3  # seconds
LONG = study(*[picture()] * 256) | {"params": {"activation_maps": True}}


# --- one thread ------------------------------------------------------------------------------


@pytest.fixture
def deadline():
    """Return a function that sets the deadline of this thread; restored afterwards."""
    tokens = []

    def set_deadline(seconds):
        deadline = Deadline(seconds)
        tokens.append(DEADLINE.set(deadline))
        return deadline

    yield set_deadline
    for token in reversed(tokens):
        DEADLINE.reset(token)


def test_call_from_python_has_no_deadline():
    check_deadline()
    with ThreadPoolExecutor(1) as pool:
        assert result_in_time(pool.submit(list)) == []


def test_passed_and_cancelled_deadlines_raise(deadline):
    deadline(0)
    with pytest.raises(DeadlineError, match="expected an answer in time"):
        check_deadline()
    current = deadline(1000)
    assert 999 < current.seconds_left <= 1000
    check_deadline()
    current.is_cancelled = True
    assert current.seconds_left == 0
    with pytest.raises(DeadlineError, match="expected an answer in time"):
        check_deadline()


@pytest.fixture
def busy():
    """A pool whose only thread is held, and the event that frees it."""
    freed = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(freed.wait)
        yield pool, freed
        freed.set()


def test_task_is_waited_for_until_the_deadline_and_then_never_starts(deadline, busy):
    pool, freed = busy
    deadline(0.01)
    task = pool.submit(list)
    with pytest.raises(DeadlineError, match="expected a free core in time"):
        result_in_time(task)
    assert task.cancelled()
    deadline(1000)
    freed.set()
    assert result_in_time(pool.submit(list)) == []


def test_task_that_has_begun_ends_as_it_ends_itself(deadline, busy):
    pool, freed = busy
    began = threading.Event()

    def slow():
        began.set()
        time.sleep(0.1)
        raise TimeoutError("its own")

    freed.set()
    task = pool.submit(slow)
    began.wait()
    deadline(0.01)
    with pytest.raises(TimeoutError, match="its own"):
        result_in_time(task)


def test_images_are_not_decoded_after_the_deadline(deadline):
    deadline(0)
    with pytest.raises(DeadlineError):
        decode_studies([Row([picture()], None)], {32})


def test_network_stops_between_parts_of_a_batch(deadline, table):
    clf = untrained(0)
    stop_between_batches(clf)
    expected = clf.predict_proba(table)
    assert len(expected) == len(table)
    deadline(0)
    with pytest.raises(DeadlineError):
        clf.predict_proba(table)


# --- a server --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def url(clf, tmp_path_factory):
    """The app that ``mlflow models serve --timeout`` starts, in this process."""
    folder = tmp_path_factory.mktemp("deadlines")
    save_mlmodel(clf, folder)
    command, environment = scoring_server.get_cmd(str(folder), timeout=TIMEOUT)
    before, port = dict(os.environ), free_port()
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(scoring_server, DECORATOR, getattr(scoring_server, DECORATOR))
        monkeypatch.delitem(sys.modules, APP_MODULE, raising=False)
        os.environ.update(environment)
        app = command.split()[-1]
        server = uvicorn.Server(uvicorn.Config(app, port=port, log_config=None))
        thread = threading.Thread(target=server.run)
        thread.start()
        while thread.is_alive() and not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{port}/invocations"
        server.should_exit = True
        thread.join()
        sys.modules.pop(APP_MODULE, None)
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ.update(before)


def answers(url):
    """Return whether a short request is answered within the timeout."""
    status, answer = post(url, study(picture()))
    return status == 200 and len(answer["predictions"]) == 1


@pytest.mark.slow
def test_requests_after_their_timeout_do_not_keep_the_server_busy(url, caplog):
    with ThreadPoolExecutor(24) as pool:
        statuses = {status for status, _ in pool.map(lambda _: post(url, LONG), range(24))}
    assert 504 in statuses
    assert statuses <= {200, 504}
    assert answers(url)
    assert STOPPED in caplog.messages
    assert not any(record.exc_info for record in caplog.records)


@pytest.mark.slow
def test_clients_that_disconnect_do_not_keep_the_server_busy(url, caplog):
    def disconnect(_):
        with pytest.raises((TimeoutError, urllib.error.URLError)):
            post(url, LONG, timeout=0.5)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(disconnect, range(6)))
    assert answers(url)
    assert STOPPED in caplog.messages
