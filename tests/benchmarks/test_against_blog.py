"""Our fit and prediction beside the blog's loop on the same files: whole, and arithmetic alone."""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest

from mura_skorch import MuraClassifier
from mura_skorch.data import StudyCollate, StudyDataset
from mura_skorch.inference.engines import native_bfloat16
from tests.benchmarks.blog_loop import run_blog, start_blog
from tests.benchmarks.conftest import DEVICE, wait

IMAGE_SIZE = 224  # pixels
# Sides of ours, as parameters of the classifier. "auto" is what a user gets.
TRAINED = {
    "cpu": [{"precision": "auto"}, {"precision": "float32"}],
    "cuda": [{"batch_size": 8}, {"batch_size": 64}],
}[DEVICE]
READ = {
    "cpu": [
        {"precision": "auto"},
        {"precision": "float32"},
        {"precision": "float32", "engine": "onnxruntime"},
        {"precision": "float32", "engine": "openvino"},
        {"precision": "bfloat16", "engine": "openvino"},
        {"precision": "int8"},
    ],
    "cuda": [{"precision": "auto"}],
}[DEVICE]
# The least ratio, end to end: in training on a GPU by batch size, else by precision.
TRAINING = {"cpu": {"bfloat16": 3, "float32": 1.5}, "cuda": {8: 8, 64: 30}}[DEVICE]
PREDICTION = {  # of the fastest engine
    "openvino, bfloat16": 3.5,
    "openvino, float32": 1.6,
    "openvino, int8": 5.5,
}


def classifier(**params):
    """Return our classifier, for one epoch off the record."""
    return MuraClassifier(
        module__weights=None,
        dataset__image_size=IMAGE_SIZE,
        train_split=None,
        max_epochs=1,
        device=DEVICE,
        callbacks__mlflow=None,
        verbose=0,
        random_state=0,
        **params,
    )


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


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", params=TRAINED, ids=str)
def trained(request, studies, cache):
    """Our classifier, its cache filled and its study types known."""
    clf = classifier(dataset__cache=cache, **request.param).initialize()
    check_differs_from_float32(clf, request.param)
    return clf.partial_fit(studies)


@pytest.fixture(scope="module")
def saved(studies, tmp_path_factory):
    """A model in a folder, also in integers."""
    folder = tmp_path_factory.mktemp("model")
    clf = classifier().fit(studies[:8])
    if DEVICE == "cpu":
        clf.quantize(studies[:8], studies[8:16], force=True)  # its speed alone matters here
    clf.save(folder)
    return folder


@pytest.fixture(scope="module", params=READ, ids=str)
def reader(request, saved, cache):
    """Our classifier, loaded to predict."""
    settings = request.param
    if settings.get("engine") == "openvino" and settings["precision"] == "bfloat16":
        pytest.importorskip("openvino")
        if not native_bfloat16():
            pytest.skip("OpenVINO finds no instructions for bfloat16")
    clf = MuraClassifier.load(saved, dataset__cache=cache, device=DEVICE, **settings)
    check_differs_from_float32(clf, settings)
    return clf


def check_differs_from_float32(clf, settings):
    """Skip "auto" where it is float32, which has rows of its own."""
    if DEVICE == "cpu" and settings["precision"] == "auto" and clf.precision_ == "float32":
        pytest.skip("precision='auto' is float32 here: see its own row")


@pytest.fixture(scope="module")
def tensors(studies):
    """A batch of the first 8 studies, prepared; the blog's process prepares the same ones."""
    dataset = StudyDataset(studies, image_size=IMAGE_SIZE)
    return StudyCollate()([dataset[i] for i in range(8)])


def test_training_end_to_end(in_turn, studies, trained, blog):
    by = trained.batch_size if DEVICE == "cuda" else trained.precision_
    in_turn(
        f"training, {DEVICE}, {trained.precision_}, minibatch {trained.batch_size}, end to end, "
        "cached",
        "the blog's loop",
        lambda: trained.partial_fit(studies),
        lambda: blog.run("train_epoch", studies),
        target=TRAINING[by],
    )


def test_training_arithmetic(in_turn, trained, blog, tensors):
    inputs, label = tensors

    def mine():
        trained.optimizer_.zero_grad()
        trained.train_step_single((inputs, label))
        trained.optimizer_.step()
        wait()

    in_turn(
        f"training, {DEVICE}, {trained.precision_}, minibatch 8, arithmetic alone",
        "the blog's",
        mine,
        lambda: blog.run("train_tensors"),
    )


def test_prediction_end_to_end(in_turn, studies, reader, blog):
    used = reader.describe_engine()  # which makes it
    in_turn(
        f"prediction, {DEVICE}, {used}, end to end, cached",
        "the blog's loop",
        lambda: reader.predict_proba(studies),
        lambda: blog.run("predict", studies),
        target=PREDICTION.get(used),
        rounds=5,
    )


def test_prediction_arithmetic(in_turn, reader, blog, tensors):
    if reader.prediction_engine() is not None:
        pytest.skip("of torch alone")
    inputs, label = tensors

    def mine():
        reader.evaluation_step((inputs, label))
        wait()

    in_turn(
        f"prediction, {DEVICE}, {reader.precision_}, arithmetic alone",
        "the blog's",
        mine,
        lambda: blog.run("predict_tensors"),
    )
