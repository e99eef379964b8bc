from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier, tiny_densenet
from torch import nn
from torch.nn import functional
from torchvision.models import DenseNet

from mura_skorch import StudyNetwork
from mura_skorch.inspection import localize, peak_in_box, peak_of, resize_map


class HiddenLayer(nn.Module):
    """A network with a layer between the average of its feature maps and its last layer."""

    def __init__(self):
        super().__init__()
        self.features = nn.Conv2d(3, 4, 3)
        self.classifier = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))

    def forward(self, views):
        return self.classifier(self.features(views).mean(dim=(2, 3)))


def deeper_densenet():
    return DenseNet(growth_rate=4, block_config=(2, 2, 2, 2), num_init_features=8, num_classes=1)


def random_classifier(**params):
    """Return an untrained classifier whose batch norms are not at their start."""
    clf = tiny_classifier(**params).initialize()
    generator = torch.Generator().manual_seed(1)
    for layer in clf.module_.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.bias.data.normal_(generator=generator)
            layer.running_mean.normal_(0, 0.1, generator=generator)
    clf.module_.head.bias.data.fill_(0.7)
    return clf


def known(clf, studies):
    clf.study_types_ = sorted(studies["study_type"].unique())
    return clf


def view_logits(clf, studies):
    return torch.cat([logit for _, logit in clf.forward_iter(clf.get_dataset(studies))]).numpy()


def logits_of(clf, maps):
    bias = clf.module_.head.bias.item()
    return np.concatenate([own.mean(axis=(1, 2)) for own in maps]) + bias


@pytest.mark.parametrize("backbone", [tiny_densenet, deeper_densenet])
@pytest.mark.parametrize("image_size", [32, 65, 224])
def test_mean_of_the_map_and_the_bias_are_the_logit(backbone, image_size, valid):
    studies = valid.head(3)
    own = {"module": StudyNetwork, "module__backbone": backbone}
    clf = known(random_classifier(**own, dataset__image_size=image_size), studies)
    logits = view_logits(clf, studies)
    assert np.ptp(logits) > 1e-4
    np.testing.assert_allclose(logits_of(clf, clf.localize(studies)), logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("image_size", [65, 96])
def test_law_holds_for_densenet_169(image_size, valid):
    studies = valid.head(2)
    params = {"module": StudyNetwork, "dataset__image_size": image_size}
    clf = known(random_classifier(**params), studies)
    maps = clf.localize(studies)
    assert maps[0].shape[1:] == (image_size // 32, image_size // 32)
    np.testing.assert_allclose(logits_of(clf, maps), view_logits(clf, studies), atol=1e-5, rtol=0)


def test_law_holds_in_bfloat16_to_its_rounding(valid):
    clf = known(random_classifier(precision="bfloat16", dataset__image_size=64), valid)
    maps = clf.localize(valid)
    # The network's own ReLU, mean and last layer are rounded to 8 bits, each term apart.
    terms = max(np.abs(own).mean(axis=(1, 2)).max() for own in maps) + 1
    tolerance = 4 * terms * 2**-8
    logits = view_logits(clf, valid)
    assert all(own.dtype == np.float32 for own in maps)
    np.testing.assert_allclose(logits_of(clf, maps), logits, atol=tolerance, rtol=0)


def test_one_float32_map_per_view_in_the_order_of_the_table(fitted, valid):
    maps = fitted.localize(valid)
    assert [len(own) for own in maps] == valid["views"].map(len).tolist()
    assert {(own.ndim, own.dtype.name) for own in maps} == {(3, "float32")}
    order = np.random.default_rng(0).permutation(len(valid))
    moved = fitted.localize(valid.iloc[order])
    for place, own in zip(order, moved, strict=True):
        np.testing.assert_allclose(own, maps[place], atol=1e-5)


def test_maps_do_not_depend_on_the_batches(fitted, valid):
    together = np.concatenate(fitted.localize(valid))
    alone = [fitted.localize(valid.iloc[[row]])[0] for row in range(len(valid))]
    np.testing.assert_allclose(np.concatenate(alone), together, atol=1e-5)


def test_probabilities_are_found_again_in_the_maps(fitted, valid):
    views = np.concatenate(fitted.predict_view_proba(valid))
    logits = torch.from_numpy(logits_of(fitted, fitted.localize(valid)))
    np.testing.assert_allclose(torch.sigmoid(logits).numpy(), views, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_mode_weights_and_gradients_are_left_as_they_were(training, fails, valid):
    clf = known(random_classifier(), valid)
    clf.module_.train(training)
    clf.module_.network.features.norm0.eval()  # a frozen layer stays frozen, too
    parts = [*clf.module_.modules(), *clf.criterion_.modules()]
    modes = [part.training for part in parts]
    state = {key: value.clone() for key, value in clf.module_.state_dict().items()}
    random_state = torch.get_rng_state()
    if fails:
        bad = valid.copy()
        bad.at[bad.index[-1], "views"] = ("no/such/image1.png",)
        with pytest.raises(FileNotFoundError, match="no/such/image1"):
            clf.localize(bad)
    else:
        clf.localize(valid)
    assert [part.training for part in parts] == modes
    assert all(torch.equal(value, state[key]) for key, value in clf.module_.state_dict().items())
    assert all(weight.requires_grad and weight.grad is None for weight in clf.module_.parameters())
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True], ids=["eval mode", "training mode"])
def test_threads_get_the_maps_and_probabilities_of_their_own_studies(valid, training):
    clf = known(random_classifier(batch_size=2), valid)
    parts = [valid.iloc[i::4] for i in range(4)]
    expected = [(clf.localize(part), clf.predict_proba(part)) for part in parts]
    clf.module_.train(training)  # as a fit without validation leaves it
    state = {key: value.clone() for key, value in clf.module_.state_dict().items()}
    with ThreadPoolExecutor(6) as pool:
        jobs = [
            (pool.submit(clf.localize, part), pool.submit(clf.predict_proba, part))
            for part in parts * 2
        ]
        for (maps, proba), (own_maps, own_proba) in zip(jobs, expected * 2, strict=True):
            np.testing.assert_allclose(
                np.concatenate(maps.result()), np.concatenate(own_maps), atol=1e-5
            )
            np.testing.assert_allclose(proba.result(), own_proba, atol=1e-6)
    assert all(torch.equal(value, state[key]) for key, value in clf.module_.state_dict().items())


def test_network_with_a_layer_after_the_average_is_refused(valid):
    clf = tiny_classifier(module=StudyNetwork, module__backbone=HiddenLayer)
    clf = known(clf.initialize(), valid)
    with pytest.raises(TypeError, match="reads an average of feature maps.*layers between"):
        clf.localize(valid)


def test_network_without_maps_is_refused_before_an_image_is_read(valid):
    clf = known(tiny_classifier().initialize(), valid)
    clf.module_ = nn.Linear(1, 1)
    missing = valid.head(1).assign(views=[("no/such/image1.png",)])
    with pytest.raises(TypeError, match="a network with activation maps.*got Linear"):
        clf.localize(missing)


@pytest.mark.parametrize("max_views", [1, 3, None])
@pytest.mark.parametrize("memory_efficient", [False, True])
def test_maps_depend_on_no_setting_of_memory(max_views, memory_efficient):
    generator = torch.Generator().manual_seed(0)
    views = torch.randint(0, 256, (2, 4, 32, 32), dtype=torch.uint8, generator=generator)
    mask = torch.tensor([[True] * 4, [True, True, False, False]])
    plain = TinyNet().eval()
    other = TinyNet(max_views=max_views, memory_efficient=memory_efficient).eval()
    other.load_state_dict(plain.state_dict())
    with torch.no_grad():
        maps, expected = other.activation_maps(views, mask), plain.activation_maps(views, mask)
        _, logit = other(views, mask)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)
    bias = other.head.bias
    torch.testing.assert_close(maps.mean(dim=(1, 2)) + bias, logit, atol=1e-5, rtol=0)


def test_method_and_function_are_the_same(fitted, valid):
    for own, other in zip(fitted.localize(valid), localize(fitted, valid), strict=True):
        np.testing.assert_array_equal(own, other)


# --- in the view's own pixels ----------------------------------------------------------------


@pytest.mark.parametrize("size", [(512, 400), (90, 512), (7, 7), (1, 3)])
def test_resizing_is_torchs_bilinear_without_aligned_corners(size):
    cam = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    if min(size) >= 7:
        expected = functional.interpolate(
            torch.from_numpy(cam)[None, None], size=size, mode="bilinear", align_corners=False
        )
        np.testing.assert_allclose(resize_map(cam, size), expected[0, 0].numpy(), atol=1e-5)
    assert resize_map(cam, size).shape == size
    assert resize_map(cam, size).dtype == np.float32


def test_constant_map_stays_constant():
    assert (resize_map(np.full((2, 3), 1.5, dtype=np.float32), (50, 20)) == 1.5).all()


# --- the pointing game -----------------------------------------------------------------------


def delta(row, column, shape=(20, 20)):
    cam = np.zeros(shape)
    cam[row, column] = 1
    return cam


def test_peak_is_a_largest_pixel_of_the_resized_map():
    rng = np.random.default_rng(0)
    for _ in range(20):
        cam, size = rng.normal(size=(5, 4)).astype(np.float32), rng.integers(40, 500, 2)
        x, y = peak_of(cam, size)
        resized = resize_map(cam, size)
        around = resized[int(y - 0.5) : int(y + 1.5), int(x - 0.5) : int(x + 1.5)]
        assert around.max() == pytest.approx(resized.max(), abs=1e-5)


def test_delta_in_the_box_is_a_hit_and_in_the_corner_none():
    box, size = (180, 60, 260, 140), (200, 400)  # centre at x 220, y 100
    assert peak_in_box(delta(10, 11), box, size)
    assert not peak_in_box(delta(0, 0), box, size)
    assert not peak_in_box(delta(-1, -1), box, size)


def test_ends_of_the_box_are_exclusive():
    cam = np.ones((1, 1))  # peaks at the centre of 100 x 100
    assert peak_in_box(cam, (50, 50, 51, 51), (100, 100))
    assert not peak_in_box(cam, (0, 0, 50, 50), (100, 100))


def test_height_and_width_are_not_mixed_up():
    assert peak_of(delta(0, 19), (100, 400)) == (390.0, 2.5)
