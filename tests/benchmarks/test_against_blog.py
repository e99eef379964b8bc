"""Our fit and prediction beside the blog's loop on the same files, in turn, in one process.

Run with `make bench`. The ratio is of views per second, end to end: reading, preparing, arithmetic.
"""

import os
import statistics
import time

import pytest
import torch
from blog_loop import BlogLoop

from mura_skorch import MuraClassifier, read_studies, write_phantoms

ROUNDS = 3
N_STUDIES = 16
IMAGE_SIZE = 224  # pixels


@pytest.fixture(scope="module", autouse=True)
def all_cores():
    """Both sides compute on all cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count())
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    root = tmp_path_factory.mktemp("bench") / "phantoms"
    write_phantoms(root, n_train=N_STUDIES, n_valid=0, n_test=0, study_types=["XR_WRIST"])
    return read_studies(root)


@pytest.fixture(scope="module")
def blog(studies):
    return BlogLoop(studies, image_size=IMAGE_SIZE)


@pytest.fixture(scope="module", params=["auto", "float32"])
def ours(request, studies):
    return MuraClassifier(
        module__weights=None,
        dataset__image_size=IMAGE_SIZE,
        train_split=None,
        precision=request.param,
        callbacks__mlflow=None,
        verbose=0,
        random_state=0,
    ).initialize()


def in_turn(benchmark, capsys, studies, name, ours, blog):
    """Time ours with pytest-benchmark and the blog's in between; return the median ratio."""
    n_views = int(studies["views"].map(len).sum())
    ours()  # warm up: memory, kernels
    blog()
    blogs = []

    def time_blog():
        begin = time.perf_counter()
        blog()
        blogs.append(time.perf_counter() - begin)

    benchmark.pedantic(ours, setup=time_blog, rounds=ROUNDS, iterations=1)
    mine = benchmark.stats.stats.data
    ratios = [theirs / own for theirs, own in zip(blogs, mine, strict=True)]
    benchmark.extra_info["ratios"] = ratios
    with capsys.disabled():
        print(  # noqa: T201, the point of a benchmark
            f"\n{name}: ours {n_views / statistics.median(mine):.1f}, blog "
            f"{n_views / statistics.median(blogs):.1f} views/s; ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) "
            f"over {ROUNDS} rounds of {n_views} views at {IMAGE_SIZE} px"
        )
    return statistics.median(ratios)


def test_training_epoch_is_at_least_half_as_fast_again(benchmark, capsys, studies, ours, blog):
    ratio = in_turn(
        benchmark,
        capsys,
        studies,
        f"training, {ours.precision_}",
        lambda: ours.partial_fit(studies, epochs=1),
        lambda: blog.train_epoch(studies),
    )
    if ours.precision == "auto":
        assert ratio >= 1.5


def test_prediction_pass(benchmark, capsys, studies, ours, blog):
    ours.partial_fit(studies, epochs=0)  # knows its study types
    in_turn(
        benchmark,
        capsys,
        studies,
        f"prediction, {ours.precision_}",
        lambda: ours.predict_proba(studies),
        lambda: blog.predict(studies),
    )
