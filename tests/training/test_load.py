import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from nets import TinyNet, tiny_classifier

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
]
SCRIPT = Path(__file__).parents[2] / "experiments" / "load.py"
N_VIEWS = 500


@pytest.fixture(scope="module")
def load():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.fixture(scope="module")
def made_up(load, tmp_path_factory):
    return load.make_studies(tmp_path_factory.mktemp("load"), 2000)


def test_made_up_studies_have_the_numbers_of_views_of_mura(made_up):
    share = made_up["views"].map(len).value_counts(normalize=True)
    assert share[3] == pytest.approx(6466 / 13457, abs=0.03)
    assert made_up["views"].map(len).max() >= 5
    assert made_up["views"].explode().is_unique


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Tables of memory, threads and files; of a process of its own, which holds nothing else."""
    out = tmp_path_factory.mktemp("measured")
    sizes = ["--n-studies", "2000", "--n-epochs", "4", "--n-fits", "50"]
    environment = {key: text for key, text in os.environ.items() if "MLFLOW" not in key}
    subprocess.run(
        [sys.executable, SCRIPT, *sizes, "--out", out], env=environment, cwd=out, check=True
    )
    return {name: pd.read_csv(out / f"{name}.csv") for name in ("epochs", "fits")}


def test_many_fits_in_one_process_leave_no_memory_threads_or_files(measured):
    fits = measured["fits"].set_index("fit")
    early, late = fits.loc[10], fits.loc[50]
    assert late["threads"] <= early["threads"]
    assert late["files"] <= early["files"]
    assert late["private_mb"] - early["private_mb"] < 4  # 0.1 MB a fit


def test_memory_stays_flat_over_epochs_in_the_main_process_and_in_each_worker(load, measured):
    samples = measured["epochs"]
    assert set(samples["process"]) == {"main", "worker 1", "worker 2"}
    assert set(samples["epoch"]) == {1, 2, 3, 4}
    found = load.growth(samples)
    # To keep an epoch's views would take 2 MB.
    assert found.max() < 1, found


def test_only_the_last_epoch_keeps_its_minibatches(train):
    net = tiny_classifier(max_epochs=3).fit(train)
    assert [len(row["batches"]) for row in net.history[:-1]] == [0, 0]
    assert len(net.history[-1, "batches", :, "train_loss"]) == 4
    assert len(net.history[:, "train_loss"]) == 3


def test_study_of_500_views_is_trained_on_and_predicted_in_parts(load, train, valid, tmp_path):
    sizes = []

    class Watching(TinyNet):
        def _features(self, views):
            sizes.append(len(views))
            return super()._features(views)

    long = train.copy()
    paths, own = list(train["views"].explode()), list(train["views"].iloc[0])
    for i in range(N_VIEWS - len(own)):
        own.append(str(shutil.copy(paths[i % len(paths)], tmp_path / f"{i}.png")))
    long.at[long.index[0], "views"] = tuple(own)
    net = tiny_classifier(module=Watching, max_epochs=1, train_split=None).fit(long)
    assert max(sizes) <= 64 + 7 * 5  # module__max_views and the seven others of its minibatch
    assert np.isfinite(net.history[-1, "train_loss"])
    sizes.clear()
    before = load.holdings()
    (proba,), (of_views, *_) = net.predict_proba(long[:1])[:, 1:], net.predict_view_proba(long[:1])
    after = load.holdings()
    assert max(sizes) == 64
    assert of_views.shape == (N_VIEWS,)
    assert proba[0] == pytest.approx(of_views.mean(), abs=1e-5)
    assert (after["threads"], after["files"]) == (before["threads"], before["files"])
    alone = net.predict_view_proba(train[:1])[0]
    np.testing.assert_allclose(of_views[: len(alone)], alone, atol=1e-5)
