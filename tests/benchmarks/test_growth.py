"""How the seconds of an epoch grow with the studies and with the views of a study."""

import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from skorch.callbacks import Callback
from torch.nn import Conv2d
from torchvision.models import DenseNet

from mura_skorch import MuraClassifier, write_phantoms
from tests.benchmarks.conftest import DEVICE, add_growth

N_EPOCHS = 3
IMAGE_SIZE = 64  # pixels
N_PICTURES = 64  # drawn ones, of which the tables hold copies


def small_net():
    """Return four layers: what is around the network counts."""
    net = DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=1)
    net.features.conv0 = Conv2d(3, 8, kernel_size=7, stride=4, padding=3, bias=False)
    return net


class Clock(Callback):
    """Seconds from the end of each epoch to that of the next, all callbacks included."""

    def on_train_begin(self, net, **kwargs):
        self.ends_ = []

    def on_epoch_end(self, net, **kwargs):
        self.ends_.append(time.perf_counter())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("growth") / "phantoms"
    write_phantoms(root, n_train=N_PICTURES, n_valid=0, n_test=0, study_types=["XR_WRIST"])
    pictures = sorted(root.rglob("*.png"))[:N_PICTURES]
    for picture in pictures:
        with Image.open(picture) as image:
            small = image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE))
        small.save(picture)
    return [picture.read_bytes() for picture in pictures]


def table_of(n_studies, n_views, pictures, folder):
    """Return a table of studies with copies of the pictures, half of them abnormal."""
    folder.mkdir()
    views = []
    for i in range(n_studies):
        copies = [folder / f"{i}_{k}.png" for k in range(n_views)]
        for k, copy in enumerate(copies):
            # No two files alike: a view belongs to one patient. PNG ends before the name.
            copy.write_bytes(pictures[(i + k) % len(pictures)] + copy.name.encode())
        views.append(tuple(map(str, copies)))
    number = np.arange(n_studies)
    return pd.DataFrame(
        {
            "study_type": "XR_WRIST",
            "patient": number.astype(str),
            "views": views,
            "label": number % 2,
        }
    )


def seconds_per_epoch(table, folder, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    clock = Clock()
    MuraClassifier(
        module__backbone=small_net,
        module__weights=None,
        module__max_views=None,
        dataset__image_size=IMAGE_SIZE,
        dataset__cache=folder / "cache",
        max_epochs=N_EPOCHS,
        callbacks=[("clock", clock)],
        callbacks__mlflow__log_model=False,
        device=DEVICE,
        verbose=0,
        random_state=0,
    ).fit(table)
    return float(np.median(np.diff(clock.ends_)))


@pytest.mark.parametrize(
    ("what", "sizes"),
    [
        ("studies of 2 views", [(n, 2) for n in (100, 1000, 10_000)]),
        ("views of each of 200 studies", [(200, v) for v in (1, 4, 16, 32)]),
    ],
    ids=["studies", "views"],
)
def test_seconds_per_epoch(what, sizes, pictures, tmp_path, monkeypatch):
    counts, seconds = [], []
    for n_studies, n_views in sizes:
        folder = tmp_path / f"{n_studies}_{n_views}"
        table = table_of(n_studies, n_views, pictures, folder)
        counts.append(n_views if n_studies == sizes[-1][0] == sizes[0][0] else n_studies)
        seconds.append(seconds_per_epoch(table, folder, monkeypatch))
    add_growth(what, counts, seconds)
