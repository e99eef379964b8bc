import numpy as np
import pytest
import torch

from mura_skorch.inspection import PERTURBATIONS, perturb_views


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    smooth = np.linspace(40, 200, 32)[None, :] * np.ones((32, 1))
    return np.clip(smooth + rng.normal(0, 3, (3, 32, 32)), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_each_view_is_changed_alone_and_the_original_stays(name, views):
    before = views.copy()
    changed = perturb_views(name, views)
    assert changed.shape == views.shape
    assert changed.dtype == np.uint8
    assert (changed != views).any()
    np.testing.assert_array_equal(views, before)
    if not name.startswith("noise"):
        np.testing.assert_array_equal(perturb_views(name, views[1:2])[0], changed[1])


@pytest.mark.parametrize("name", PERTURBATIONS)
def test_the_same_seed_gives_the_same_views_and_leaves_torch_alone(name, views):
    state = torch.get_rng_state()
    first = perturb_views(name, views, random_state=3)
    np.testing.assert_array_equal(perturb_views(name, views, random_state=3), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_inversion_is_its_own_inverse(views):
    np.testing.assert_array_equal(
        perturb_views("inverted", perturb_views("inverted", views)), views
    )


def test_shift_moves_a_point_by_a_twentieth_of_the_side():
    view = np.zeros((1, 40, 40), dtype=np.uint8)
    view[0, 20, 20] = 255
    moved = perturb_views("shifted 5 % right and down", view)[0]
    assert np.unravel_index(moved.argmax(), moved.shape) == (22, 22)
    back = perturb_views("shifted 5 % left and up", view)[0]
    assert np.unravel_index(back.argmax(), back.shape) == (18, 18)


def test_rotation_left_lifts_the_right_half():
    view = np.zeros((1, 101, 101), dtype=np.uint8)
    view[0, 50, 90] = 255
    height = {name: perturb_views(name, view)[0].max(axis=1).argmax()
              for name in ("rotated 5 degrees left", "rotated 5 degrees right")}  # fmt: skip
    expected = 40 * np.sin(np.deg2rad(5))
    assert 50 - height["rotated 5 degrees left"] == pytest.approx(expected, abs=1)
    assert height["rotated 5 degrees right"] - 50 == pytest.approx(expected, abs=1)


def test_contrast_scales_the_distance_to_the_mean(views):
    spread = views[0].astype(float).std()
    assert perturb_views("contrast x 0.75", views)[0].std() == pytest.approx(
        0.75 * spread, rel=0.02
    )


def test_noise_has_its_standard_deviation():
    grey = np.full((1, 200, 200), 128, dtype=np.uint8)
    assert perturb_views("noise of 5 %", grey).std() == pytest.approx(0.05 * 255, rel=0.02)


def test_half_resolution_removes_a_fine_pattern_and_keeps_the_mean():
    board = (np.indices((1, 32, 32)).sum(axis=0) % 2 * 255).astype(np.uint8)
    found = perturb_views("half resolution", board).astype(float)
    assert found.std() < 30
    assert found.mean() == pytest.approx(127.5, abs=3)


def test_unknown_change_is_refused(views):
    with pytest.raises(ValueError, match="expected one of rotated 5 degrees left.*got 'blurred'"):
        perturb_views("blurred", views)
