"""Our fit and prediction beside the blog's loop on the same files: whole, and arithmetic alone."""

import pytest
import torch
from blog_loop import BlogLoop
from conftest import DEVICE

from mura_skorch import MuraClassifier
from mura_skorch.collate import StudyCollate
from mura_skorch.dataset import StudyDataset

IMAGE_SIZE = 224  # pixels
# Targets: of training on a GPU by minibatch; on a CPU with bfloat16 instructions and without.
GPU = {8: 8, 64: 30}
TRAINING = {"bfloat16": 4, "float32": 1.5}
PREDICTION = {"bfloat16": 3.5}


@pytest.fixture(scope="module")
def blog(studies):
    torch.backends.cudnn.allow_tf32 = False  # as it was then
    return BlogLoop(studies, image_size=IMAGE_SIZE, device=DEVICE)


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
    """The same studies, prepared: one batch of 8 studies and the blog's 8 batches of one."""
    samples = [StudyDataset(studies, image_size=IMAGE_SIZE)[i] for i in range(8)]
    inputs, label = StudyCollate()(samples)
    images = [
        (study["views"].unsqueeze(1).float() / 255).expand(-1, 3, -1, -1).to(DEVICE)
        for study, _ in samples
    ]
    return inputs, label, images


def test_training_end_to_end(in_turn, studies, ours, blog):
    in_turn(
        f"training, {DEVICE}, {ours.precision_}, minibatch {ours.batch_size}, end to end, cached",
        "the blog's loop",
        lambda: ours.partial_fit(studies, epochs=1),
        lambda: blog.train_epoch(studies),
        target=GPU[ours.batch_size] if DEVICE == "cuda" else TRAINING[ours.precision_],
    )


def test_training_arithmetic(in_turn, ours, blog, tensors):
    inputs, label, images = tensors

    def blogs():
        blog.network.train()
        for batch, y in zip(images, label, strict=True):
            blog.optimizer.zero_grad()
            p = torch.sigmoid(blog.network(batch)).mean()
            (-(y * p.log() + (1 - y) * (1 - p).log())).backward()
            blog.optimizer.step()

    def mine():
        ours.optimizer_.zero_grad()
        ours.train_step_single((inputs, label))
        ours.optimizer_.step()

    in_turn(f"training, {DEVICE}, {ours.precision_}, arithmetic alone", "the blog's", mine, blogs)


def test_prediction_end_to_end(in_turn, studies, ours, blog):
    in_turn(
        f"prediction, {DEVICE}, {ours.precision_}, end to end, cached",
        "the blog's loop",
        lambda: ours.predict_proba(studies),
        lambda: blog.predict(studies),
        target=PREDICTION.get(ours.precision_) if DEVICE == "cpu" else None,
    )


def test_prediction_arithmetic(in_turn, ours, blog, tensors):
    inputs, label, images = tensors

    @torch.no_grad()
    def blogs():
        blog.network.eval()
        for batch in images:
            torch.sigmoid(blog.network(batch)).mean()

    in_turn(
        f"prediction, {DEVICE}, {ours.precision_}, arithmetic alone",
        "the blog's",
        lambda: ours.evaluation_step((inputs, label)),
        blogs,
    )
