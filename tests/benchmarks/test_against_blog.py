"""Our fit and prediction beside the blog's loop on the same files: whole, and arithmetic alone."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from mura_skorch import MuraClassifier
from mura_skorch.data import StudyCollate, StudyDataset
from tests.benchmarks.blog_loop import run_blog, start_blog
from tests.benchmarks.conftest import DEVICE, wait

IMAGE_SIZE = 224  # pixels
# Targets: of training on a GPU by minibatch; on a CPU with bfloat16 instructions and without.
GPU = {8: 8, 64: 30}
TRAINING = {"bfloat16": 4, "float32": 1.5}
PREDICTION = {"bfloat16": 3.5}


class Blog:
    """The blog's loop in a process of its own, where nothing of our package is in force."""

    def __init__(self, studies):
        os.environ.pop("ONEDNN_PRIMITIVE_CACHE_CAPACITY", None)
        spawn = multiprocessing.get_context("spawn")
        options = {"initializer": start_blog, "initargs": (studies, IMAGE_SIZE, DEVICE)}
        self.pool = ProcessPoolExecutor(1, mp_context=spawn, **options)
        self.run("ready")

    def run(self, job, *args):
        return self.pool.submit(run_blog, job, *args).result()


@pytest.fixture(scope="module")
def blog(studies):
    loop = Blog(studies)
    yield loop
    loop.pool.shutdown()


@pytest.fixture(
    scope="module",
    params=[("auto", 8), ("float32", 8)] if DEVICE == "cpu" else [("auto", 8), ("auto", 64)],
    ids=str,
)
def ours(request, studies, tmp_path_factory):
    """Our classifier, its cache filled and its study types known."""
    precision, batch_size = request.param
    clf = MuraClassifier(
        module__weights=None,
        dataset__image_size=IMAGE_SIZE,
        dataset__cache=tmp_path_factory.mktemp("cache"),
        train_split=None,
        precision=precision,
        batch_size=batch_size,
        device=DEVICE,
        callbacks__mlflow=None,
        verbose=0,
        random_state=0,
    )
    return clf.initialize().partial_fit(studies, epochs=0)


@pytest.fixture(scope="module")
def tensors(studies):
    """A batch of the first 8 studies, prepared; the blog's process prepares the same ones."""
    dataset = StudyDataset(studies, image_size=IMAGE_SIZE)
    return StudyCollate()([dataset[i] for i in range(8)])


def test_training_end_to_end(in_turn, studies, ours, blog):
    in_turn(
        f"training, {DEVICE}, {ours.precision_}, minibatch {ours.batch_size}, end to end, cached",
        "the blog's loop",
        lambda: ours.partial_fit(studies, epochs=1),
        lambda: blog.run("train_epoch", studies),
        target=GPU[ours.batch_size] if DEVICE == "cuda" else TRAINING[ours.precision_],
        rounds=5,
    )


def test_training_arithmetic(in_turn, ours, blog, tensors):
    inputs, label = tensors

    def mine():
        ours.optimizer_.zero_grad()
        ours.train_step_single((inputs, label))
        ours.optimizer_.step()
        wait()

    in_turn(
        f"training, {DEVICE}, {ours.precision_}, minibatch 8, arithmetic alone",
        "the blog's",
        mine,
        lambda: blog.run("train_tensors"),
    )


def test_prediction_end_to_end(in_turn, studies, ours, blog):
    in_turn(
        f"prediction, {DEVICE}, {ours.precision_}, end to end, cached",
        "the blog's loop",
        lambda: ours.predict_proba(studies),
        lambda: blog.run("predict", studies),
        target=PREDICTION.get(ours.precision_) if DEVICE == "cpu" else None,
        rounds=5,
    )


def test_prediction_arithmetic(in_turn, ours, blog, tensors):
    inputs, label = tensors

    def mine():
        ours.evaluation_step((inputs, label))
        wait()

    in_turn(
        f"prediction, {DEVICE}, {ours.precision_}, arithmetic alone",
        "the blog's",
        mine,
        lambda: blog.run("predict_tensors"),
    )
