"""Random numbers of a fit, alone and beside other fits."""

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier
from skorch.callbacks import Callback
from torch import nn

from mura_skorch.data import StudyDataset
from mura_skorch.training.random_state import FitRandomness, draws_randomly, give_generator


class WithDropout(TinyNet):
    """A network that draws by itself, from torch's global random state."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.network.features.relu0 = nn.Sequential(nn.ReLU(), nn.Dropout(0.5))


class Meeting(Callback):
    """Wait in the first training batch until another fit is in its own."""

    def __init__(self, barrier):
        self.barrier = barrier

    def on_batch_end(self, net, training=None, **kwargs):
        if training and len(net.history) == 1 and not hasattr(self, "has_met_"):
            self.has_met_ = True
            self.barrier.wait(60)


class CountedDropout(WithDropout):
    """Count the networks that compute a training step at the same moment."""

    lock, now, most = threading.Lock(), 0, 0

    def forward(self, *args, **kwargs):
        kind = type(self)
        if not self.training:
            return super().forward(*args, **kwargs)
        with self.lock:
            kind.now += 1
            kind.most = max(kind.most, kind.now)
        try:
            return super().forward(*args, **kwargs)
        finally:
            with self.lock:
                kind.now -= 1


def losses(net):
    return net.history[:, ("train_loss", "valid_loss")]


def in_two_threads(train, nets):
    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda net: net.fit(train), nets))


def test_two_fits_in_two_threads_run_side_by_side_with_the_bits_of_each_alone(train):
    alone = [tiny_classifier(random_state=seed).fit(train) for seed in (0, 1)]
    barrier = threading.Barrier(2)  # which breaks if the fits take turns
    nets = [
        tiny_classifier(random_state=seed, callbacks=[("meeting", Meeting(barrier))])
        for seed in (0, 1)
    ]
    for expected, found in zip(alone, in_two_threads(train, nets), strict=True):
        assert losses(found) == losses(expected)


def test_fits_of_networks_that_draw_by_themselves_take_turns_with_the_bits_of_each_alone(train):
    def make(seed):
        return tiny_classifier(module=CountedDropout, random_state=seed)

    alone = [make(seed).fit(train) for seed in (0, 1)]
    state = torch.get_rng_state()
    for expected, found in zip(alone, in_two_threads(train, map(make, (0, 1))), strict=True):
        assert losses(found) == losses(expected)
    assert CountedDropout.most == 1
    assert torch.equal(torch.get_rng_state(), state)


class Blocked(WithDropout):
    """Stay in the first training step until told to go on."""

    inside, may_go = threading.Event(), threading.Event()

    def forward(self, *args, **kwargs):
        self.inside.set()
        self.may_go.wait(120)
        return super().forward(*args, **kwargs)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # that is the point
def test_process_forked_while_a_thread_fits_can_fit(train):
    child = multiprocessing.get_context("fork").Process(
        target=lambda: tiny_classifier(module=WithDropout, max_epochs=1).fit(train)
    )
    with ThreadPoolExecutor(1) as other_thread:
        fit = other_thread.submit(tiny_classifier(module=Blocked, max_epochs=1).fit, train)
        try:
            assert Blocked.inside.wait(60)
            child.start()
            child.join(120)
        finally:
            Blocked.may_go.set()
        fit.result()
    assert child.exitcode == 0


class Noisy(StudyDataset):
    """A dataset of a user's own that draws from torch's global random state."""

    def __getitem__(self, index):
        inputs, label = super().__getitem__(index)
        views = inputs["views"]
        return {**inputs, "views": views + torch.randint(9, views.shape, dtype=views.dtype)}, label


def jitter(views):
    """Vary views with numbers of torch's global random state."""
    return views + torch.rand(len(views), 1, 1, 1)


@pytest.mark.parametrize(
    "params",
    [
        {"module": WithDropout},
        {"module__augment": jitter},
        {"dataset": Noisy},
        {"iterator_train__sampler": "weighted"},
    ],
    ids=["module", "augment", "dataset", "sampler"],
)
def test_parts_that_draw_from_the_global_state_follow_the_seed(train, params):
    def fit():
        given = dict(params)
        if "iterator_train__sampler" in given:
            given["iterator_train__sampler"] = torch.utils.data.WeightedRandomSampler(
                np.ones(len(train)), len(train)
            )
        return tiny_classifier(max_epochs=1, train_split=None, **given).fit(train)

    first = fit()
    torch.rand(1)
    again = fit()
    assert first.history[:, "train_loss"] == again.history[:, "train_loss"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (nn.Dropout(0.1), True),
        (nn.Sequential(nn.Conv2d(1, 1, 1), nn.Dropout2d(0.0)), False),
        (nn.MultiheadAttention(4, 1, dropout=0.1), True),
        (nn.RReLU(), True),
        (TinyNet(), False),
        (WithDropout(), True),
        (TinyNet(augment=jitter), True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_networks_that_draw_are_known_by_their_layers(part, expected):
    assert draws_randomly(part) is expected


def test_network_says_by_itself_that_it_draws_in_another_way():
    net = TinyNet()
    net.draws_randomly = True
    assert draws_randomly(net)


def test_stochastic_depth_draws():
    from torchvision.ops import StochasticDepth

    assert draws_randomly(StochasticDepth(0.2, "row"))


def test_augmentation_gets_the_generator_of_the_fit():
    net = TinyNet(augment=lambda views, generator=None: torch.rand(3, generator=generator))
    randomness = FitRandomness(0)
    for _ in range(2):  # a later call gives another one
        give_generator(net, randomness.steps)
    expected = torch.rand(3, generator=FitRandomness(0).steps)
    assert torch.equal(net.augment(None), expected)


def test_numbers_continue_from_a_stored_state():
    first, second = FitRandomness(0), FitRandomness(1)
    with first.forked("cpu"):
        torch.rand(5)
    torch.rand(3, generator=first.loader)
    second.load_state_dict(first.state_dict())
    for name in ("loader", "steps"):
        drawn = [torch.rand(4, generator=getattr(item, name)) for item in (first, second)]
        assert torch.equal(*drawn)
    drawn = []
    for item in (first, second):
        with item.forked("cpu"):
            drawn.append(torch.rand(4))
    assert torch.equal(*drawn)


def test_seeds_give_different_numbers_for_loading_and_steps():
    randomness = FitRandomness(0)
    drawn = [torch.rand(4, generator=item) for item in (randomness.loader, randomness.steps)]
    assert not torch.equal(*drawn)
