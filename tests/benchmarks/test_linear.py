"""Work on tables grows about as they do: four times the rows take about four times the seconds."""

import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mura_skorch import PatientSplit, kappa_interval, read_studies, study_scores
from mura_skorch.data import StudyDataset, check_views
from tests.benchmarks.conftest import add_row

FACTOR = 4
# An algorithm of quadratic cost has a ratio of 16; caches that run out of room cost some, too.
LARGEST_RATIO = 10
ROUNDS = 3


def patients(n):
    """Return n patients with two studies each on average, and labels of them."""
    rng = np.random.default_rng(0)
    patient = np.concatenate([np.arange(n), rng.integers(0, n, n)])
    y_true = rng.integers(0, 2, 2 * n)
    return patient, y_true, np.where(rng.random(2 * n) < 0.8, y_true, 1 - y_true)


def kappa(n, folder):
    patient, y_true, y_pred = patients(n)
    return lambda: kappa_interval(
        y_true, y_pred, method="bootstrap", groups=patient, n_resamples=200
    )


def scores(n, folder):
    rng = np.random.default_rng(0)
    patient, y_true, _ = patients(n)
    study_type = rng.integers(0, 7, 2 * n).astype(str)
    y_score = rng.random(2 * n)
    return lambda: study_scores(
        y_true, y_score, study_type=study_type, groups=patient, n_resamples=100
    )


def split(n, folder):
    patient, label, _ = patients(n)
    table = pd.DataFrame({"study_type": "XR_HAND", "patient": patient, "label": label})
    dataset = StudyDataset(table.assign(views=[(f"{i}.png",) for i in range(len(table))]))
    return lambda: PatientSplit()(dataset)


def views(n, folder):
    folder.mkdir()
    paths = [folder / f"{i}.png" for i in range(n)]
    for path in paths:
        Image.fromarray(np.zeros((20, 30), dtype=np.uint8)).save(path)
    return lambda: check_views(paths)


def folder_of_studies(n, folder):
    for i in range(n):
        own = folder / f"train/XR_HAND/patient{i:05d}/study1_positive"
        own.mkdir(parents=True)
        for view in range(3):
            (own / f"image{view + 1}.png").touch()
    return lambda: read_studies(folder)


@pytest.mark.parametrize(
    ("make", "n"),
    [
        pytest.param(kappa, 25_000, id="kappa interval of 100,000 patients"),
        pytest.param(scores, 2_000, id="scores of 8,000 patients"),
        pytest.param(split, 25_000, id="split of 100,000 patients"),
        pytest.param(views, 500, id="check of 2,000 views"),
        pytest.param(folder_of_studies, 500, id="folder of 2,000 studies"),
    ],
)
def test_seconds_grow_with_the_rows(make, n, tmp_path, request):
    calls = [make(size, tmp_path / str(size)) for size in (n, FACTOR * n)]
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for call in calls:
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
        ratios.append(seconds[1] / seconds[0])
    what = request.node.callspec.id
    ratio = add_row(what, "a quarter of them", ratios, LARGEST_RATIO, better=min)
    assert ratio <= LARGEST_RATIO
