import numpy as np
import pytest
from sklearn.model_selection import StratifiedGroupKFold

from mura_skorch.features import StudyEmbedder
from mura_skorch.features.heads import classifier_of_head, fit_head


@pytest.fixture(scope="module")
def embedder(train):
    return StudyEmbedder(backbone="mobilenet_v2", weights=None, image_size=32).fit(train)


def test_network_with_a_heads_weights_scores_studies_as_the_head_does(embedder, train, valid):
    features = embedder.transform(train)
    label = train["label"].to_numpy(dtype=int)
    head = fit_head(features, label, train["patient"].to_numpy())
    clf = classifier_of_head(embedder.model_, head, train["study_type"].unique())
    _, of_views = clf.logits_with_views(valid)
    means = [own.mean() for own in of_views]
    expected = head.decision_function(embedder.transform(valid))
    np.testing.assert_allclose(means, expected, atol=1e-3)
    maps = [own.mean(axis=(1, 2)) + clf.module_.head.bias.item() for own in clf.localize(valid)]
    np.testing.assert_allclose(np.concatenate(maps), np.concatenate(of_views), atol=1e-3)
    assert not np.allclose(embedder.model_.module_.head.weight.detach(), 0), "the source is left"


def test_penalty_is_chosen_by_folds_that_share_no_patient():
    rng = np.random.default_rng(0)
    patient = np.repeat(np.arange(40), 2)
    label = patient % 2
    features = rng.normal(size=(80, 5)) + label[:, None]
    head = fit_head(features, label, patient)
    assert isinstance(head.cv, StratifiedGroupKFold)
    assert head.score(features, label) > 0.9
