import pytest
import torch
from nets import TinyNet
from torchvision.models import DenseNet

from mura_skorch import Augment, StudyNetwork
from mura_skorch.data import StudyCollate
from mura_skorch.models import pool_views

SIZE = 32


def batch_of(*n_views, seed=0, size=SIZE):
    """Return a batch of random studies."""
    generator = torch.Generator().manual_seed(seed)
    samples = [
        (
            {
                "views": torch.randint(
                    0, 256, (n, size, size), generator=generator, dtype=torch.uint8
                ),
                "study_type": 0,
            },
            0.0,
        )
        for n in n_views
    ]
    return samples, StudyCollate()(samples)[0]


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return TinyNet().eval()


@torch.no_grad()
def test_padded_equals_one_by_one(net):
    samples, inputs = batch_of(1, 5, 2, 12)
    together, _ = net(**inputs)
    alone = torch.cat([net(**StudyCollate()([sample])[0])[0] for sample in samples])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=0)


@torch.no_grad()
def test_study_of_one_view_equals_the_view(net):
    _, inputs = batch_of(1, 1, 1)
    study_logit, view_logit = net(**inputs)
    torch.testing.assert_close(study_logit, view_logit, atol=1e-5, rtol=0)


@torch.no_grad()
def test_repeating_every_view_changes_nothing(net):
    _, inputs = batch_of(3, 3)
    once, _ = net(**inputs)
    twice, _ = net(inputs["views"].repeat(1, 2, 1, 1), inputs["view_mask"].repeat(1, 2))
    torch.testing.assert_close(once, twice, atol=1e-6, rtol=0)


@torch.no_grad()
def test_study_probability_is_the_mean_of_its_views(net):
    _, inputs = batch_of(2, 4)
    study_logit, view_logit = net(**inputs)
    means = [part.mean() for part in torch.sigmoid(view_logit).split([2, 4])]
    torch.testing.assert_close(torch.sigmoid(study_logit), torch.stack(means))


@torch.no_grad()
def test_order_of_studies_and_of_views_does_not_matter(net):
    _, inputs = batch_of(3, 3, 3)
    logit, _ = net(**inputs)
    moved, _ = net(inputs["views"].flip(0).flip(1), inputs["view_mask"])
    torch.testing.assert_close(moved, logit.flip(0), atol=1e-6, rtol=0)


def test_padding_meets_neither_network_nor_batch_norm():
    _, inputs = batch_of(1, 4)
    states = []
    for fill in (0, 255):
        torch.manual_seed(0)
        net = TinyNet().train()
        inputs["views"][~inputs["view_mask"]] = fill
        net(**inputs)
        states.append(net.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.parametrize("logit", [-300.0, 300.0])
def test_saturated_views_give_a_finite_logit_and_gradient(logit):
    view_logit = torch.full((3,), logit, requires_grad=True)
    study_logit = pool_views(view_logit, torch.ones(1, 3, dtype=torch.bool))
    study_logit.sum().backward()
    assert study_logit.item() == pytest.approx(logit)
    assert torch.isfinite(view_logit.grad).all()


def test_pooling_is_the_logit_of_the_mean_probability():
    mask = torch.tensor([[True, True, True], [True, False, False]])
    logits = torch.tensor([1.5, -2.0, 0.3, 0.7], dtype=torch.float64)
    expected = torch.stack([torch.sigmoid(logits[:3]).mean(), torch.sigmoid(logits[3])]).logit()
    torch.testing.assert_close(pool_views(logits.float(), mask), expected.float())


def test_augmentation_is_for_training_views_only():
    torch.manual_seed(0)
    _, inputs = batch_of(2, 3)
    net = TinyNet(augment=Augment(degrees=90)).eval()
    plain = TinyNet().eval()
    plain.load_state_dict(net.state_dict())
    with torch.no_grad():
        assert torch.equal(net(**inputs)[1], plain(**inputs)[1])
        assert not torch.equal(net.train()(**inputs)[1], plain.train()(**inputs)[1])


def test_single_small_view_in_a_training_batch_is_refused_clearly():
    _, inputs = batch_of(1, size=8)  # one pixel is left of it
    with pytest.raises(ValueError, match=r"two views or more.*got one of 8.*raise image_size"):
        TinyNet().train()(**inputs)


def test_network_is_torchvisions_densenet_169_with_one_output():
    net = StudyNetwork()
    assert isinstance(net.network, DenseNet)
    assert net.head.out_features == 1
    assert sum(parameter.numel() for parameter in net.parameters()) == 12_486_145
