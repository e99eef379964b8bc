import pickle

import numpy as np
import pytest
from nets import TinyNet, tiny_classifier, tiny_densenet
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks

from mura_skorch import MuraClassifier, MuraEnsemble
from mura_skorch.features import StudyEmbedder
from mura_skorch.scoring import kappa, kappa_by_study_type

CHECKS = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
]


def tiny_embedder(model=None, **params):
    own = {"backbone": tiny_densenet, "weights": None, "image_size": 32, "precision": "float32"}
    return StudyEmbedder(model, **own | params)


def head_on(embedder):
    return make_pipeline(embedder, StandardScaler(), LogisticRegression(C=0.1))


@pytest.fixture(scope="module")
def network():
    """A classifier with random weights, as a fitted one."""
    return tiny_classifier(random_state=7).initialize()


@pytest.mark.parametrize("check", CHECKS)
def test_embedder_passes_the_checks_of_scikit_learn(check):
    getattr(estimator_checks, check)("StudyEmbedder", StudyEmbedder())


def test_transform_gives_float32_features_of_each_study(network, valid):
    embedder = tiny_embedder(network).fit(valid)
    features = embedder.transform(valid)
    assert features.dtype == np.float32
    assert features.shape == (len(valid), len(embedder.get_feature_names_out()))
    np.testing.assert_array_equal(features, network.embed(valid))


def test_permuting_studies_permutes_features(network, valid):
    embedder = tiny_embedder(network).fit(valid)
    order = np.random.default_rng(0).permutation(len(valid))
    expected = embedder.transform(valid)[order]
    np.testing.assert_allclose(embedder.transform(valid.iloc[order]), expected, atol=1e-6)


def test_output_can_be_a_dataframe_with_the_table_s_index(network, valid):
    embedder = tiny_embedder(network).set_output(transform="pandas")
    found = clone(embedder).fit_transform(valid)
    assert found.index.equals(valid.index)
    assert list(found) == list(tiny_embedder(network).fit(valid).get_feature_names_out())


def test_transform_before_fit_is_refused(valid):
    for method in ("transform", "get_feature_names_out"):
        with pytest.raises(NotFittedError):
            getattr(tiny_embedder(), method)(valid)


def test_clones_and_pickles_keep_the_weights_of_a_fitted_classifier(network, valid):
    expected = network.embed(valid)
    embedder = tiny_embedder(network)
    for other in (
        clone(embedder),
        clone(clone(embedder)),
        pickle.loads(pickle.dumps(embedder)),
        clone(head_on(embedder))[0],
        clone(embedder).set_params(model=clone(FrozenEstimator(network))),
    ):
        np.testing.assert_array_equal(other.fit(valid).transform(valid), expected)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(embedder.fit(valid))).transform(valid), expected
    )


def test_saved_model_is_opened_by_its_folder(valid, tmp_path):
    clf = MuraClassifier(
        module__backbone="mobilenet_v2",
        module__weights=None,
        dataset__image_size=32,
        precision="float32",
        callbacks__mlflow=None,
        random_state=0,
    ).initialize()
    clf.save(tmp_path / "model")
    found = StudyEmbedder(tmp_path / "model").fit_transform(valid.head(3))
    np.testing.assert_allclose(found, clf.embed(valid.head(3)), atol=1e-5)


def test_wrong_models_are_refused_with_a_remedy(network, valid):
    with pytest.raises(ValueError, match="FrozenEstimator"):
        tiny_embedder(clone(network)).fit(valid)
    with pytest.raises(TypeError, match="member of an ensemble"):
        tiny_embedder(MuraEnsemble.of([network])).fit(valid)
    with pytest.raises(FileNotFoundError, match="which is neither"):
        tiny_embedder("no/such/folder").fit(valid)
    with pytest.raises(TypeError, match="expected a DataFrame"):
        tiny_embedder(network).fit([1, 2])


def test_random_networks_of_one_seed_are_equal(valid):
    found = [tiny_embedder(random_state=seed).fit_transform(valid.head(2)) for seed in (0, 1, 0)]
    np.testing.assert_array_equal(found[0], found[2])
    assert not np.allclose(found[0], found[1])


def test_pipeline_is_cross_validated_by_patient_with_our_scores(train, tmp_path):
    model = head_on(tiny_embedder(cache=tmp_path))
    settings = {"groups": train.patient, "cv": GroupKFold(3)}
    scores = cross_val_score(model, train, train.label, scoring=kappa, **settings)
    found = cross_validate(model, train, train.label, scoring=kappa_by_study_type, **settings)
    np.testing.assert_array_equal(found["test_kappa"], scores)
    assert {"test_kappa/XR_HAND", "test_kappa/XR_WRIST"} <= set(found)
    y_score = cross_val_predict(model, train, train.label, method="predict_proba", **settings)
    assert y_score.shape == (len(train), 2)


def test_every_fold_has_the_scores_of_all_study_types_of_training(train, valid, tmp_path):
    model = head_on(tiny_embedder(cache=tmp_path)).fit(train, train.label)
    hands = valid[valid.study_type == "XR_HAND"]
    assert "kappa/XR_WRIST" in kappa_by_study_type(model, hands)


@pytest.mark.slow
def test_search_over_networks_and_penalties_runs_in_workers(train, network, tmp_path):
    model = head_on(tiny_embedder(cache=tmp_path))
    grid = {
        "studyembedder__model": [None, FrozenEstimator(network)],
        "logisticregression__C": [0.01, 1.0],
    }
    search = GridSearchCV(
        model, grid, scoring=kappa, cv=GroupKFold(2), n_jobs=2, error_score="raise"
    )
    search.fit(train, train.label, groups=train.patient)
    assert search.predict_proba(train).shape == (len(train), 2)


def test_pipeline_is_calibrated(train, valid, tmp_path):
    folds = list(GroupKFold(2).split(train, groups=train.patient))
    model = CalibratedClassifierCV(head_on(tiny_embedder(cache=tmp_path)), cv=folds)
    y_score = model.fit(train, train.label).predict_proba(valid)
    np.testing.assert_allclose(y_score.sum(axis=1), 1)


def test_filled_cache_computes_nothing_and_changes_nothing(network, valid, tmp_path, monkeypatch):
    expected = tiny_embedder(network).fit_transform(valid)
    embedder = tiny_embedder(network, cache=tmp_path).fit(valid)
    np.testing.assert_array_equal(embedder.transform(valid), expected)

    def fail(*args, **kwargs):
        raise AssertionError("computed again")

    monkeypatch.setattr(MuraClassifier, "embed_views", fail)
    part = valid.sample(5, random_state=0)
    found = tiny_embedder(network, cache=tmp_path).fit(part).transform(part)
    np.testing.assert_array_equal(found, expected[valid.index.get_indexer(part.index)])


def test_cache_knows_networks_by_their_weights(valid, tmp_path):
    few = valid.head(2)
    nets = [tiny_classifier(random_state=seed).initialize() for seed in (1, 2)]
    first, second = (tiny_embedder(net, cache=tmp_path).fit_transform(few) for net in nets)
    assert not np.allclose(first, second)
    nets[0].module_.head.bias.data += 1  # which features do not pass
    n_files = len(list(tmp_path.glob("*.npy")))
    np.testing.assert_array_equal(tiny_embedder(nets[0], cache=tmp_path).fit_transform(few), first)
    assert len(list(tmp_path.glob("*.npy"))) == n_files


def test_features_of_a_subclassed_network_are_embedded(valid):
    clf = tiny_classifier(module=TinyNet, module__pooling="attention").initialize()
    assert np.isfinite(StudyEmbedder(clf).fit_transform(valid.head(2))).all()
