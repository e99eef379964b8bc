"""The way from files to tensors: the cache beside decoding, tables beside the blog's way."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mura_skorch import PatientSplit, read_studies
from mura_skorch.data import Prepare, StudyDataset, fill_cache
from tests.benchmarks.conftest import add_row

IMAGE_SIZE = 224  # pixels
N_STUDIES = 14_656  # of MURA's two splits
N_OF_BLOG = 1500  # studies: its cost of one grows with the table, to minutes for all


def decoded(path):
    """Return one view as Pillow decodes and resizes it."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L").resize((IMAGE_SIZE, IMAGE_SIZE)))


def test_views_from_the_cache(in_turn, studies, tmp_path):
    dataset = StudyDataset(studies, image_size=IMAGE_SIZE, cache=tmp_path).prepare()
    in_turn(
        "input path, cache filled",
        "Pillow: decode and resize each time",
        lambda: [dataset[i] for i in range(len(dataset))],
        lambda: [decoded(path) for views in studies["views"] for path in views],
        target=50,
        rounds=7,
    )


def test_filling_the_cache(in_turn, studies, tmp_path):
    paths = list(studies["views"].explode()) * 4
    folders = (tmp_path / str(i) for i in count())

    def one_pass():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(decoded, paths))

    in_turn(
        f"filling the cache, {os.cpu_count()} cores",
        "one pass of Pillow over the same files, as many threads",
        lambda: fill_cache(next(folders), paths, Prepare(IMAGE_SIZE)),
        one_pass,
        target=0.85,
        rounds=5,
    )


@pytest.fixture(scope="module")
def full_size(tmp_path_factory):
    """A folder of MURA's structure and size; all images are one."""
    from full_size import write_full_size

    folder = tmp_path_factory.mktemp("full")
    Image.new("L", (8, 8)).save(folder / "picture.png")
    write_full_size(folder / "MURA-v1.1", folder / "picture.png")
    return folder / "MURA-v1.1"


def test_reading_a_full_size_folder(full_size):
    def blogs():
        table = pd.DataFrame(columns=["Path", "Count", "Label"])
        i = 0
        for split in ("train", "valid"):
            for study_type in os.listdir(full_size / split):
                for patient in list(os.walk(full_size / split / study_type))[0][1]:  # noqa: RUF015
                    folder = full_size / split / study_type / patient
                    for study in os.listdir(folder):
                        label = {"positive": 1, "negative": 0}[study.split("_")[1]]
                        table.loc[i] = [f"{folder}/{study}", len(os.listdir(folder / study)), label]
                        i += 1
                        if i == N_OF_BLOG:
                            return

    def seconds_of(read, *args):
        begin = time.perf_counter()
        read(*args)
        return time.perf_counter() - begin

    assert len(read_studies(full_size)) == N_STUDIES  # the disk's cache
    ours = [seconds_of(read_studies, full_size) for _ in range(5)]
    theirs = seconds_of(blogs) / N_OF_BLOG * N_STUDIES
    what = "reading a full-size MURA folder"
    against = f"listdir and one df.loc[i] per study, at the cost of the first {N_OF_BLOG:,}"
    add_row(what, against, [theirs / seconds for seconds in ours], 20)
    add_row(f"{what}, seconds", "", ours, 1, min)


def test_a_million_studies():
    n = 1_000_000
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 800_000, n)
    study_type = np.array([f"XR_{i}" for i in range(7)])[rng.integers(0, 7, n)]
    views = [
        tuple(f"/data/MURA-v1.1/train/{t}/patient{p:06d}/image{k}.png" for k in range(1, v + 1))
        for t, p, v in zip(study_type, patient, rng.integers(1, 5, n), strict=True)
    ]
    studies = pd.DataFrame(
        {
            **{"study_type": study_type, "patient": patient.astype(str), "views": views},
            "label": rng.integers(0, 2, n),
        }
    )
    begin = time.perf_counter()
    train, valid = PatientSplit(0.1)(StudyDataset(studies))
    for _ in np.random.default_rng(0).permutation(len(train)):
        pass
    seconds = time.perf_counter() - begin
    assert len(train) + len(valid) == n
    add_row("dataset, split and one pass over 1,000,000 studies, seconds", "", [seconds], 30, min)
