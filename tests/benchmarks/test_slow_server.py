"""Epochs of a fit whose tracking server takes ten seconds a call, or is away, beside untracked."""

import time

import mlflow
import pytest
from conftest import DEVICE, add_row
from servers import SlowProxy, free_port, tracking_server
from skorch.callbacks import Callback

from mura_skorch import MuraClassifier

N_EPOCHS = 8  # of which the first warms up


class Clock(Callback):
    """Notes when each epoch begins, before anything else does."""

    def on_train_begin(self, net, **kwargs):
        self.times_ = []

    def on_batch_begin(self, net, **kwargs):
        if len(self.times_) < len(net.history):
            self.times_.append(time.perf_counter())


def seconds(studies, folder, uri):
    """Return the seconds of the epochs of a fit but for the first and the last."""
    settings = (
        {"callbacks__mlflow": None} if uri is None else {"callbacks__mlflow__log_model": False}
    )
    if uri is not None:
        mlflow.set_tracking_uri(uri)
    clock = Clock()
    clf = MuraClassifier(
        module__weights=None, dataset__image_size=64, dataset__cache=folder / "cache",
        train_split=None, verbose=0,
        device=DEVICE, random_state=0, max_epochs=N_EPOCHS, callbacks=[clock], **settings,
    )  # fmt: skip
    clf.fit(studies)
    return [
        after - before for before, after in zip(clock.times_[1:], clock.times_[2:], strict=False)
    ]


@pytest.mark.filterwarnings("ignore:expected MLflow at")
def test_epochs_beside_a_slow_server_and_one_that_is_away(studies, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)
    before = mlflow.get_tracking_uri()
    with tracking_server(tmp_path) as server, SlowProxy(server.port, 10) as proxy:
        mlflow.set_tracking_uri(server.url)
        mlflow.set_experiment("benchmark")
        sides = {"10 s a call": proxy.url, "away": f"http://127.0.0.1:{free_port()}"}
        found = {name: [] for name in (None, *sides)}
        for name in found:
            found[name] += seconds(studies, tmp_path, sides.get(name))
    mlflow.set_tracking_uri(before)
    mlflow.set_experiment("Default")
    for name in sides:
        ratios = [mine / other for mine, other in zip(found[name], found[None], strict=True)]
        add_row(f"an epoch, tracking server {name}", "untracked", ratios, 1.05, better=min)
