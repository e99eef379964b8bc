"""What tests share: drawn studies, a network that trains in a second, one MLflow store."""

import contextlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from drawn import write_small_phantoms
from hypothesis.configuration import set_hypothesis_home_dir
from joblib.externals.loky import get_reusable_executor
from nets import tiny_classifier

from mura_skorch import read_studies

# Files that take longest: two workers that begin with them end at about the same time.
LONGEST_FIRST = [
    "tracking/test_offline.py",
    "test_docs.py",
    "experiments/test_per_body_part.py",
    "experiments/test_sweep.py",
    "serving/test_serving.py",
    "serving/test_limits.py",
    "training/test_resume.py",
    "training/test_signals.py",
    "test_distribution.py",
    "test_hostile.py",
    "test_fuzz.py",
    "test_remote_data.py",
]


def pytest_configure():
    """Keep hypothesis from making a folder in the repository."""
    set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")


def pytest_collection_modifyitems(items):
    """Begin with the longest files; the others stay in their order."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


# What a fit or a tool would leave in the folder that it runs in.
TRACES = {
    ".hypothesis",
    "mlflow.db",
    "mlruns",
    "mlartifacts",
    "mlflow_offline",
    "phantoms",
    "results",
}


@pytest.fixture(scope="session", autouse=True)
def clean_repository():
    """Fail at the end if tests left something in the repository."""
    root = Path(__file__).parents[1]
    before = set(os.listdir(root))
    yield
    assert not TRACES & set(os.listdir(root)) - before


@pytest.fixture(scope="session", autouse=True)
def mlflow_store(tmp_path_factory):
    """One database for the session: making one takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    with contextlib.chdir(folder):  # MLflow makes the folder of artifacts in the current one
        yield os.environ["MLFLOW_TRACKING_URI"]
    del os.environ["MLFLOW_TRACKING_URI"]


@pytest.fixture
def restored_store(mlflow_store):
    """Give MLflow back to the session's store after a test that used another."""
    import mlflow  # here: other processes import this file to find out what a fit imports

    os.environ.pop("MLFLOW_EXPERIMENT_ID", None)
    yield
    mlflow.set_tracking_uri(None)  # from here on the environment decides again
    os.environ["MLFLOW_TRACKING_URI"] = mlflow_store
    mlflow.set_experiment("Default")
    for name in ("MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        os.environ.pop(name, None)


@pytest.fixture(scope="module", autouse=True)
def own_workers():
    """End the workers with each file: they keep the environment and threads they began with."""
    yield
    get_reusable_executor().shutdown(wait=True)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Give each file one thread: an experiment sets the number of its process, which rounds."""
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_folder(tmp_path):
    """Run each test in a folder of its own: nothing is left in the repository.

    Without monkeypatch, which would then undo a test's changes after all its other fixtures.
    """
    with contextlib.chdir(tmp_path):
        yield


@pytest.fixture(scope="session")
def phantom_root(tmp_path_factory):
    """A folder of two study types, 16 training and 8 validation studies each."""
    return write_small_phantoms(
        tmp_path_factory.mktemp("phantoms") / "PHANTOMS-v1.1",
        n_train=16,
        n_valid=8,
        n_test=2,
        study_types=["XR_HAND", "XR_WRIST"],
    )


@pytest.fixture(scope="session")
def studies(phantom_root):
    return read_studies(phantom_root)


@pytest.fixture(scope="session")
def train(studies):
    return studies[studies.split == "train"]


@pytest.fixture(scope="session")
def valid(studies):
    return studies[studies.split == "valid"]


@pytest.fixture(scope="session")
def fitted(train, tmp_path_factory):
    """A classifier fitted once; tests must not change it."""
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("fitted"))
    try:
        return tiny_classifier().fit(train)
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def real_root():
    """The folder of real radiographs that MURA_SKORCH_REAL_DATA names."""
    folder = os.environ.get("MURA_SKORCH_REAL_DATA")
    if not folder:
        pytest.skip("set MURA_SKORCH_REAL_DATA to a folder of real radiographs in MURA's layout")
    return Path(folder)


@pytest.fixture
def predictions():
    """A prediction table of 60 made-up studies of 30 patients, scored a little better than luck."""
    rng = np.random.default_rng(0)
    label = np.array([0, 1] * 30)
    return pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(60)],
            "study_type": ["XR_HAND", "XR_HAND", "XR_WRIST"] * 20,
            "patient": [f"p{i // 2}" for i in range(60)],
            "label": label,
            "n_views": 2,
            "score": np.clip(0.5 + 0.3 * (label - 0.5) + rng.normal(0, 0.2, 60), 0, 1),
        }
    )
