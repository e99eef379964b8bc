"""The served model, DenseNet-169 at 224 pixels: start-up, latency and throughput over HTTP."""

import base64
import contextlib
import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from servers import served_model

from mura_skorch import MuraClassifier
from mura_skorch.tracking.mlflow_model import save_mlmodel
from tests.benchmarks.conftest import DEVICE, add_row

SERVED = f"served, {'CPU' if DEVICE == 'cpu' else 'GPU'}"


@pytest.fixture(scope="module")
def clf(studies):
    """A model that is trained just enough to be quantized."""
    clf = MuraClassifier(
        module__weights=None,
        train_split=None,
        max_epochs=1,
        callbacks__mlflow=None,
        verbose=0,
        random_state=0,
    ).fit(studies[:8])
    return clf.quantize(studies[:8], studies[8:16], force=True) if DEVICE == "cpu" else clf


@pytest.fixture(scope="module")
def table(studies):
    """64 studies of 2 to 3 views of about 400 x 500 pixels."""
    return pd.concat([studies] * 64).iloc[:64].drop(columns="study")  # of which some are several


@pytest.fixture(scope="module")
def folder(clf, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    save_mlmodel(clf, folder / "model")
    return folder


@pytest.fixture(scope="module")
def url(folder):
    begin = time.perf_counter()
    with served_model(folder / "model", folder / "log", "-t", "600") as server:
        add_row(f"{SERVED}: start-up, seconds", "", [time.perf_counter() - begin], None)
        yield f"{server.url}/invocations"


def body_of(table, **params):
    rows = [
        {"images": [base64.b64encode(Path(path).read_bytes()).decode() for path in row.views]}
        for row in table.itertuples()
    ]
    return json.dumps({"dataframe_records": rows, "params": params}).encode()


def seconds_of(url, body):
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    begin = time.perf_counter()
    with urllib.request.urlopen(request, timeout=600) as answer:
        json.load(answer)
    return time.perf_counter() - begin


def repeated(url, body, n):
    seconds_of(url, body)  # kernels
    return [seconds_of(url, body) for _ in range(n)]


def against_predict_proba(what, clf, table, seconds):
    clf.predict_proba(table)  # kernels
    own = []
    for _ in seconds:
        begin = time.perf_counter()
        clf.predict_proba(table)
        own.append(time.perf_counter() - begin)
    ratio = [a / b for a, b in zip(own, seconds, strict=True)]
    add_row(f"{SERVED}: {what}", "predict_proba of the same files", ratio, None)


def test_latency_of_one_study(url, clf, table):
    seconds = repeated(url, body_of(table[:1]), 15)
    add_row(f"{SERVED}: one study, seconds", "", seconds, None)
    against_predict_proba("one study a request", clf, table[:1], seconds)
    body = body_of(table[:1], activation_maps=True)
    add_row(f"{SERVED}: one study with maps, seconds", "", repeated(url, body, 9), None)


def test_latency_after_clients_that_disconnect(url, table):
    """The server stops computing for clients that are gone, so the next one hardly waits."""
    one, many = body_of(table[:1]), body_of(table)
    request = urllib.request.Request(url, many, {"Content-Type": "application/json"})
    eight = 8 * min(repeated(url, many, 1))

    def disconnect(_):
        with contextlib.suppress(TimeoutError, urllib.error.URLError):
            urllib.request.urlopen(request, timeout=eight / 16)  # while one is computed

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(disconnect, range(8)))
    what = f"{SERVED}: one study after 8 clients with 64 disconnect"
    assert add_row(what, "computing all 8", [seconds_of(url, one) / eight], 0.5, better=min) < 0.5


def test_throughput_of_64_studies(url, clf, table):
    n_views = table["views"].map(len).sum()
    seconds = repeated(url, body_of(table), 3)
    add_row(f"{SERVED}: 64 studies, seconds", "", seconds, None)
    add_row(f"{SERVED}: 64 studies, views a second", "", [n_views / s for s in seconds], None)
    against_predict_proba("64 studies a request", clf, table, seconds)


@pytest.mark.skipif(DEVICE != "cpu", reason="engines compute on the CPU")
@pytest.mark.parametrize(
    "environment", [{"MURA_ENGINE": "auto"}, {"MURA_PRECISION": "int8"}], ids=str
)
def test_engine_serves_64_studies_faster(in_turn, folder, url, table, environment):
    body = body_of(table)
    with served_model(folder / "model", folder / "fast.log", "-t", "600", **environment) as server:
        fast = f"{server.url}/invocations"
        request = urllib.request.Request(fast, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            used = json.load(answer)["predictions"][0]["engine"]
        in_turn(
            f"{SERVED}: 64 studies a request, {used}",
            "the default, torch",
            lambda: seconds_of(fast, body),
            lambda: seconds_of(url, body),
        )


def test_latency_of_four_clients_at_once(url, table):
    body = body_of(table[:1])
    with ThreadPoolExecutor(4) as pool:
        begin = time.perf_counter()
        seconds = list(pool.map(lambda _: seconds_of(url, body), range(32)))
        elapsed = time.perf_counter() - begin
    four = f"{SERVED}: one study, four clients"
    add_row(f"{four}, seconds", "", seconds, None)
    add_row(f"{four}, studies a second", "", [32 / elapsed], None)
