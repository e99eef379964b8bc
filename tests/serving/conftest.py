"""One registered model and one running ``mlflow models serve`` for all tests of serving."""

import pandas as pd
import pytest
from served import ROOT, untrained
from servers import served_model

from mura_skorch.serving import log_model

MAX_BODY_MEGABYTES = 20


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items):
    """Mark what needs a running server as slow: it takes seconds to start."""
    for item in items:
        if "server" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="package")
def clf():
    return untrained(0)


@pytest.fixture(scope="package")
def champion(mlflow_store, clf):
    return log_model(clf, registered_model_name="wrists", alias="champion")


@pytest.fixture(scope="package")
def server(champion, tmp_path_factory):
    """A running ``mlflow models serve``."""
    environment = {
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",  # as in this process: bits depend on it
        "MURA_MAX_BODY_MEGABYTES": str(MAX_BODY_MEGABYTES),
    }
    log = tmp_path_factory.mktemp("server") / "log"
    with served_model(champion, log, "--timeout", "600", **environment) as server:
        yield server


@pytest.fixture(scope="package")
def url(server):
    return f"{server.url}/invocations"


@pytest.fixture
def table(studies: pd.DataFrame):
    """Eight studies of both types."""
    return studies[studies.split == "valid"].iloc[::2]
