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


def disk(radius, size=101):
    """Return a view of a white disk in the middle."""
    middle = torch.arange(size) - size // 2
    return (middle[:, None] ** 2 + middle**2 <= radius**2).float()[None, None]


def radii(views):
    return (views.sum(dim=(1, 2, 3)) / torch.pi).sqrt()


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.6])
def test_scale_magnifies_about_the_centre(factor):
    scaled = Augment(degrees=0, flip=0, scale=(factor, factor))(disk(20))
    assert radii(scaled).item() == pytest.approx(20 * factor, rel=0.02)
    torch.testing.assert_close(scaled, scaled.flip(2, 3), atol=1e-4, rtol=0)


def test_scales_stay_in_their_range_and_enlarge_as_often_as_they_reduce():
    views = disk(20).expand(400, 1, 101, 101)
    generator = torch.Generator().manual_seed(0)
    found = radii(Augment(scale=(0.5, 2))(views, generator=generator)) / 20
    assert 0.48 < found.min() < 0.53
    assert 1.9 < found.max() < 2.05
    assert (found > 1).float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_scale_leaves_angles_and_flips_as_they_were():
    views = torch.rand(6, 1, 32, 32)
    without, by_one = (
        Augment(scale=scale)(views, generator=torch.Generator().manual_seed(1))
        for scale in (None, (1.0, 1.0))
    )
    assert torch.equal(without, by_one)


def test_scale_is_in_the_repr_only_where_it_is_set():
    assert repr(Augment()) == "Augment(degrees=10, flip=0.5)"
    assert repr(Augment(scale=(0.8, 1.25))) == "Augment(degrees=10, flip=0.5, scale=(0.8, 1.25))"


@pytest.mark.parametrize("scale", [0.8, (1.25, 0.8), (0, 1), (0.8,), (0.8, np.inf), ("a", "b")])
def test_wrong_scale_is_refused_with_what_it_should_be(scale):
    with pytest.raises(ValueError, match=r"expected scale as two numbers above 0.*such as \(0\.8"):
        Augment(scale=scale)
