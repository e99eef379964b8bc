"""Training waits for no GPU: shown on the CPU by tensors that have no values."""

import json
import math

import pytest
import torch
from nets import TinyNet, tiny_classifier
from skorch.history import History

# torch has no public tensor without values that knows a device's rules: with the "meta" device,
# autocast is refused.
from torch._subclasses.fake_tensor import (
    DynamicOutputShapeException,
    FakeTensorMode,
)

from mura_skorch.data import Augment, StudyCollate
from mura_skorch.models import StudyTypeBCE
from mura_skorch.models.pooling import POOLINGS
from mura_skorch.training.batch_losses import BatchLosses

N_VIEWS = (1, 3, 2)
SIZE = 32


@pytest.fixture(scope="module")
def batch():
    """Three studies, with the positions of their views."""
    generator = torch.Generator().manual_seed(0)
    samples = [
        (
            {
                "views": torch.randint(0, 256, (n, SIZE, SIZE), generator=generator).byte(),
                "study_type": 0,
            },
            float(n > 1),
        )
        for n in N_VIEWS
    ]
    inputs, label = StudyCollate()(samples)
    return {**inputs, "view_index": inputs["view_mask"].flatten().nonzero().squeeze(1)}, label


def train_once(inputs, label, pooling, level):
    """Compute a training step of a new network; return its loss."""
    network = TinyNet(pooling=pooling, augment=Augment()).train()
    criterion = StudyTypeBCE(level)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    logits = network(**inputs)
    loss = criterion(logits, label, inputs["study_type"], inputs["view_mask"])
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("level", ["study", "view"])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_training_step_reads_no_value_of_the_device(batch, pooling, level):
    """Each operation whose result depends on values raises here, and waits for a GPU."""
    with FakeTensorMode() as mode:
        inputs = {name: mode.from_tensor(value) for name, value in batch[0].items()}
        label = mode.from_tensor(batch[1])
        assert train_once(inputs, label, pooling, level).shape == ()
        del inputs["view_index"]
        with pytest.raises(DynamicOutputShapeException):
            train_once(inputs, label, pooling, level)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_positions_of_the_views_change_no_bit(batch, pooling):
    inputs, _ = batch
    without = {name: value for name, value in inputs.items() if name != "view_index"}
    network = TinyNet(pooling=pooling).eval()
    for own, other in zip(network(**inputs), network(**without), strict=True):
        assert torch.equal(own, other)


def test_net_passes_positions_to_networks_that_take_them(train):
    found = {}

    class Watching(TinyNet):
        def forward(self, views, view_mask, study_type=None, view_index=None):
            found["same"] = torch.equal(views.flatten(0, 1)[view_index], views[view_mask])
            return super().forward(views, view_mask, study_type, view_index)

    tiny_classifier(module=Watching, max_epochs=1).fit(train)
    assert found["same"]


class Copied:
    """The end of a copy that a test decides."""

    def __init__(self):
        self.is_over = False

    def query(self):
        return self.is_over

    def synchronize(self):
        self.is_over = True


@pytest.fixture
def losses():
    """Losses of an epoch whose copies to the CPU end when the test says so."""
    copies = []

    def copy(loss):
        copies.append(Copied())
        return loss, copies[-1]

    history = History()
    history.new_epoch()
    return BatchLosses(history, "train_loss", copy), history, copies


def record(losses, history, value, row=0):
    history.new_batch()
    losses.record(torch.tensor(value), torch.tensor([row]))


def test_losses_are_numbers_in_the_order_of_the_batches_once_they_arrive(losses):
    losses, history, copies = losses
    for value in (1.0, 2.0, 3.0):
        record(losses, history, value)
    assert all(torch.is_tensor(value) for value in history[-1, "batches", :, "train_loss"])
    copies[0].is_over = copies[2].is_over = True
    record(losses, history, 4.0)
    assert [type(value) for value in history[-1, "batches", :, "train_loss"]] == [
        float, torch.Tensor, torch.Tensor, torch.Tensor,
    ]  # fmt: skip
    losses.finish()
    assert json.dumps(history[-1, "batches", :, "train_loss"]) == "[1.0, 2.0, 3.0, 4.0]"


@pytest.mark.parametrize("arrives", ["at a later batch", "at the end"])
def test_loss_that_is_not_finite_names_its_own_batch_whenever_it_arrives(losses, arrives):
    losses, history, copies = losses
    record(losses, history, 1.0, row=5)
    record(losses, history, math.nan, row=6)
    if arrives == "at the end":
        action = losses.finish
    else:
        copies[0].is_over = copies[1].is_over = True
        action = lambda: record(losses, history, 2.0, row=7)  # noqa: E731
    with pytest.raises(FloatingPointError, match="got nan") as error:
        action()
    assert error.value.rows == [6]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_epoch_of_training_waits_for_no_gpu(train):
    clf = tiny_classifier(device="cuda", train_split=None, callbacks__best=None).fit(train)
    batches = list(clf.get_iterator(clf.get_dataset(train), training=True))
    clf.history.new_epoch()
    losses = BatchLosses(clf.history, "train_loss")
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches:
            clf.history.new_batch()
            losses.record(clf.train_step(batch)["loss"], batch[0]["row"])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    losses.finish()
    assert all(math.isfinite(value) for value in clf.history[-1, "batches", :, "train_loss"])
