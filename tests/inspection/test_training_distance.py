import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier, tiny_densenet
from PIL import Image

from mura_skorch import MuraClassifier
from mura_skorch.inspection import UNLIKE_PERCENTILE, TrainingDistance

RNG = np.random.default_rng(0)
# Correlated features of studies, as of a network: few directions hold most of the variance.
SCALE = np.array([5.0, 3.0, *[0.3] * 38])


def draw(n):
    return (RNG.normal(size=(n, 40)) * SCALE).astype("float32")


def test_about_one_in_a_hundred_new_studies_is_beyond_the_99th_percentile():
    found = TrainingDistance.fit(draw(2000), np.arange(2000))
    percentile = found.percentile(draw(20_000))
    assert np.mean(percentile > UNLIKE_PERCENTILE) == pytest.approx(0.01, abs=0.005)
    assert np.median(percentile) == pytest.approx(50, abs=5)


def test_studies_off_the_usual_directions_are_unlike():
    found = TrainingDistance.fit(draw(500), np.arange(500))
    off = draw(20)
    off[:, 20] += 5  # less than the spread of the first feature
    assert (found.percentile(off) > UNLIKE_PERCENTILE).all()
    along = draw(20)
    along[:, 0] += 5
    assert np.median(found.percentile(along)) < UNLIKE_PERCENTILE


def test_studies_of_one_patient_do_not_vouch_for_each_other():
    features = np.repeat(draw(60), 10, axis=0) + RNG.normal(size=(600, 40)).astype("float32") / 100
    by_patient = TrainingDistance.fit(features, np.repeat(np.arange(60), 10))
    by_study = TrainingDistance.fit(features, np.arange(600))
    assert by_patient.quantiles[50] > by_study.quantiles[50]


def test_constant_features_are_no_error():
    features = draw(50)
    features[:, 3] = 0
    found = TrainingDistance.fit(features, np.arange(50))
    assert np.isfinite(found.percentile(features)).all()


def test_tensors_give_the_same_distance_and_hold_no_study():
    features = draw(300)
    found = TrainingDistance.fit(features, np.arange(300))
    again = TrainingDistance.from_tensors(found.to_tensors())
    np.testing.assert_array_equal(again.percentile(features), found.percentile(features))
    assert sum(value.numel() for value in found.to_tensors().values()) < features.size / 10


def test_damaged_tensors_are_refused():
    tensors = TrainingDistance.fit(draw(50), np.arange(50)).to_tensors()
    for damaged in ({**tensors, "mean": torch.zeros(3)}, {"mean": torch.zeros(3)}):
        with pytest.raises(ValueError, match="training distance"):
            TrainingDistance.from_tensors(damaged)


def test_too_few_patients_are_refused():
    with pytest.raises(ValueError, match="expected 10 training studies of 5 patients"):
        TrainingDistance.fit(draw(50), np.arange(50) % 4)


@pytest.fixture(scope="module")
def measured(train):
    return tiny_classifier(random_state=3).initialize().measure_training(train)


@pytest.fixture
def noise(valid, tmp_path):
    """Studies whose views are noise."""
    paths = []
    for number in range(4):
        paths.append(str(tmp_path / f"{number}.png"))
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(paths[-1])
    return valid.head(4).assign(views=[(path,) for path in paths])


def test_noise_is_unlike_radiographs_and_radiographs_are_not(measured, train, valid, noise):
    assert (measured.training_percentile(noise) > UNLIKE_PERCENTILE).all()
    assert np.mean(measured.training_percentile(valid) > UNLIKE_PERCENTILE) <= 0.25


def test_saved_model_keeps_its_training_distance(measured, valid, tmp_path):
    measured.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet, module__backbone=tiny_densenet)
    np.testing.assert_allclose(
        loaded.training_percentile(valid), measured.training_percentile(valid), atol=1e-6
    )


def test_other_weights_forget_the_distance(measured, train, valid, tmp_path):
    clf = tiny_classifier(random_state=3).initialize().measure_training(train)
    clf.save(tmp_path)
    clf.load_weights(tmp_path)
    with pytest.raises(ValueError, match=r"call measure_training\(train\) before you save it"):
        clf.training_percentile(valid)
    clf.measure_training(train).initialize()
    assert clf.training_distance_ is None
