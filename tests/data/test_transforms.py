import numpy as np
import pytest
import torch

from mura_skorch.data import Augment, Prepare


@pytest.mark.parametrize("shape", [(512, 300), (89, 512), (1, 1), (224, 224)])
def test_prepared_view_is_a_uint8_square(shape):
    prepared = Prepare(64)(np.full(shape, 7, dtype=np.uint8))
    assert prepared.shape == (64, 64)
    assert prepared.dtype == np.uint8
    assert (prepared == 7).all()


def test_preparation_keeps_left_left_and_top_top():
    view = np.zeros((200, 100), dtype=np.uint8)
    view[:100, :50] = 200
    prepared = Prepare(10)(view)
    assert prepared[0, 0] == 200
    assert prepared[9, 0] == prepared[0, 9] == 0


def test_no_flip_and_no_rotation_change_nothing():
    views = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(Augment(degrees=0, flip=0)(views), views, atol=1e-5, rtol=0)


def test_certain_flip_mirrors_left_and_right():
    views = torch.rand(3, 1, 16, 16)
    mirrored = Augment(degrees=0, flip=1)(views)
    torch.testing.assert_close(mirrored, views.flip(3), atol=1e-5, rtol=0)


def test_flips_happen_at_the_given_rate():
    torch.manual_seed(0)
    views = torch.zeros(2000, 1, 4, 4)
    views[..., 0] = 1
    flipped = Augment(degrees=0, flip=0.25)(views)[:, 0, 0, 3] > 0.5
    assert flipped.float().mean().item() == pytest.approx(0.25, abs=0.04)


def test_rotation_turns_without_stretching():
    disk = torch.zeros(1, 1, 65, 65)
    row, column = torch.meshgrid(torch.arange(65) - 32, torch.arange(65) - 32, indexing="ij")
    disk[0, 0] = (row**2 + column**2 < 20**2).float()
    turned = Augment(degrees=180, flip=0)(disk)
    assert (turned - disk).abs().mean() < 0.01


def test_rotation_stays_within_its_degrees():
    torch.manual_seed(0)
    views = torch.zeros(200, 1, 101, 101)
    views[:, :, 50, 90] = 1  # 40 pixels to the right of the centre
    views = torch.nn.functional.max_pool2d(views, 3, stride=1, padding=1)
    turned = Augment(degrees=20, flip=0)(views).sum(dim=1)
    rows = (turned * torch.arange(101.0)[None, :, None]).sum(dim=(1, 2)) / turned.sum(dim=(1, 2))
    angles = torch.asin((rows - 50) / 40) * 180 / torch.pi
    assert angles.abs().max() < 21
    assert angles.min() < -10
    assert angles.max() > 10


def test_each_view_is_drawn_for_itself():
    views = torch.rand(1, 1, 16, 16).expand(8, 1, 16, 16)
    varied = Augment(degrees=30)(views)
    assert len({tuple(view.flatten().tolist()) for view in varied}) == 8


def test_same_random_state_gives_the_same_views():
    views = torch.rand(5, 1, 16, 16)
    torch.manual_seed(3)
    first = Augment()(views)
    torch.manual_seed(3)
    assert torch.equal(Augment()(views), first)
