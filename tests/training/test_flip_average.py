from copy import deepcopy

import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier
from scipy.special import expit
from torch import nn

from mura_skorch import MuraClassifier, MuraEnsemble
from mura_skorch.data import studies_of
from mura_skorch.data.views import ArrayViews
from tests.inspection.test_activation_maps import known, logits_of, random_classifier, view_logits


class LastView(nn.Module):
    """A network of the user's own: the study's logit is that of its last view."""

    def __init__(self):
        super().__init__()
        self.network = TinyNet()

    def forward(self, views, view_mask, study_type=None):
        _, logit = self.network(views, view_mask)
        return logit[view_mask.sum(dim=1).cumsum(0) - 1], logit


@pytest.fixture(scope="module")
def pair(valid):
    """One network, without and with the average over flips."""
    plain, averaged = (known(random_classifier(flip_average=on), valid) for on in (False, True))
    averaged.module_.load_state_dict(plain.module_.state_dict())
    return plain, averaged


def mirrored(clf, studies):
    """Return a dataset of the mirror images."""
    dataset = clf.get_dataset(studies)
    views = dataset.views
    dataset.views = ArrayViews(np.ascontiguousarray(views[0 : len(views)][:, :, ::-1]))
    return dataset


def test_logit_of_a_view_is_the_mean_of_both_sides(pair, valid):
    plain, averaged = pair
    sides = [plain.logits_with_views(data)[1] for data in (valid, mirrored(plain, valid))]
    left, right = (np.concatenate(side) for side in sides)
    assert np.abs(left - right).max() > 1e-3
    found = np.concatenate(averaged.logits_with_views(valid)[1])
    np.testing.assert_allclose(found, (left + right) / 2, atol=1e-5)


def test_prediction_is_that_of_the_mirror_image(pair, valid):
    _, averaged = pair
    assert np.array_equal(
        averaged.predict_proba(valid), averaged.predict_proba(mirrored(averaged, valid))
    )


def test_probability_of_a_study_is_the_mean_over_its_views(pair, valid):
    proba, of_views = pair[1].predict_with_views(valid)
    np.testing.assert_allclose(proba[:, 1], [own.mean() for own in of_views], atol=1e-6)


def test_mean_of_the_map_and_the_bias_are_the_logit(pair, valid):
    clf = known(random_classifier(flip_average=True, dataset__image_size=65), valid)
    logits = view_logits(clf, valid)
    np.testing.assert_allclose(logits_of(clf, clf.localize(valid)), logits, atol=1e-5, rtol=0)


def test_map_of_the_mirror_image_is_the_mirrored_map(valid):
    clf = known(random_classifier(flip_average=True, dataset__image_size=160), valid)
    maps, others = clf.localize(valid), clf.localize(mirrored(clf, valid))
    for own, other in zip(maps, others, strict=True):
        np.testing.assert_allclose(own, other[:, :, ::-1], atol=1e-6)


def test_another_pooling_than_the_mean_averages_the_logit_of_the_study(valid):
    settings = {"dataset__image_size": 32, "callbacks__mlflow": None, "random_state": 0}
    clf = known(MuraClassifier(LastView, flip_average=True, **settings).initialize(), valid)
    logit, of_views = clf.logits_with_views(valid)
    np.testing.assert_allclose(logit, [own[-1] for own in of_views], atol=1e-6)


def test_training_takes_the_same_steps(train):
    fits = [tiny_classifier(flip_average=on, callbacks__plateau=None) for on in (False, True)]
    plain, averaged = (clf.fit(train) for clf in fits)
    assert plain.history[:, "train_loss"] == averaged.history[:, "train_loss"]


def test_validation_scores_are_those_of_the_predictions(train):
    clf = tiny_classifier(flip_average=True, max_epochs=1).fit(train)
    _, held_out = clf.get_split_datasets(train)
    right = clf.predict(held_out) == studies_of(held_out)["label"].to_numpy(int)
    assert clf.history[-1, "valid_acc"] == pytest.approx(right.mean())


def test_saved_model_and_ensemble_average_over_flips(fitted, valid, tmp_path):
    fitted.save(tmp_path / "one")
    clf = MuraClassifier.load(tmp_path / "one", module=TinyNet, flip_average=True)
    proba = clf.predict_proba(valid)
    assert not np.array_equal(proba, fitted.predict_proba(valid))
    clf.save(tmp_path / "two")
    loaded = MuraClassifier.load(tmp_path / "two", module=TinyNet)
    assert loaded.flip_average is True
    assert np.array_equal(loaded.predict_proba(valid), proba)
    pooled = MuraEnsemble.of([loaded, fitted]).predict_proba(valid)
    np.testing.assert_allclose(pooled, (proba + fitted.predict_proba(valid)) / 2, atol=1e-6)


def test_recalibration_is_of_the_averaged_logits(pair, valid):
    averaged = pair[1]
    local = averaged.recalibrate(threshold=0.5, calibration=None)
    local.slope_ = 2.0
    logit, _ = averaged.logits_with_views(valid)
    np.testing.assert_allclose(local.predict_proba(valid)[:, 1], expit(2 * logit))


def test_what_is_no_bool_is_refused(train):
    with pytest.raises(TypeError, match="expected flip_average to be True or False, got 'yes'"):
        tiny_classifier(flip_average="yes").fit(train)


def test_features_are_averaged_so_that_the_last_layer_gives_the_views_logits(fitted, valid):
    averaged = deepcopy(fitted).set_params(flip_average=True)
    features = torch.from_numpy(np.concatenate(averaged.embed_views(valid)))
    with torch.no_grad():
        found = torch.sigmoid(averaged.module_.head(features).squeeze(1)).numpy()
    expected = np.concatenate(averaged.predict_view_proba(valid))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert np.abs(expected - np.concatenate(fitted.predict_view_proba(valid))).max() > 1e-4
