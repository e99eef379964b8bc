import copy
import inspect
import pickle
import re
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from nets import TinyNet, tiny_classifier
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import ConfusionMatrixDisplay, RocCurveDisplay
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    GroupKFold,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
)
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks, estimator_html_repr, get_tags

from mura_skorch import MuraClassifier, MuraEnsemble
from mura_skorch.scoring import kappa, kappa_by_study_type

GUIDE = Path(__file__).parents[1] / "docs" / "how_to" / "scikit_learn.md"
GRID = {"lr": [1e-3, 1e-4]}

# scikit-learn's checks that make no X of their own. check_set_params and
# check_no_attributes_set_in_init fail on skorch itself.
CHECKS = [
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_estimators_unfitted",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_parameters_default_constructible",
    "check_valid_tag_types",
]


def quick(**params):
    return tiny_classifier(**{"max_epochs": 1, **params})


@pytest.fixture(scope="module")
def small(studies, tmp_path_factory):
    """The studies with views of 32 pixels: the tests here read them a hundred times."""
    folder = tmp_path_factory.mktemp("small")

    def shrink(path):
        copy_of = folder / path.replace("/", "_")
        Image.open(path).convert("L").resize((32, 32)).save(copy_of)
        return str(copy_of)

    return studies.assign(views=[tuple(map(shrink, views)) for views in studies["views"]])


@pytest.fixture(scope="module")
def train(small):
    return small[small.split == "train"]


@pytest.fixture(scope="module")
def valid(small):
    return small[small.split == "valid"]


@pytest.fixture(scope="module")
def fitted(train):
    return quick().fit(train)


@pytest.fixture(scope="module")
def folds(train):
    return list(GroupKFold(2).split(train, groups=train["patient"]))


@pytest.fixture(scope="module")
def in_turn(train):
    """Probabilities of a cross-validation by patient, one fit after the other."""
    return cross_proba(train, train["label"])


def cross_proba(X, y, **settings):
    return cross_val_predict(
        quick(), X, y, groups=X["patient"], cv=GroupKFold(2), method="predict_proba", **settings
    )


# --- what it says of itself ------------------------------------------------------------------


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "estimator",
    [MuraClassifier(), MuraEnsemble([("a", MuraClassifier()), ("b", MuraClassifier())])],
    ids=["classifier", "ensemble"],
)
def test_passes_the_checks_of_scikit_learn_that_need_no_array(name, estimator):
    getattr(estimator_checks, name)(type(estimator).__name__, clone(estimator))


@pytest.mark.parametrize("kind", [MuraClassifier, MuraEnsemble])
def test_labels_stand_second_and_may_be_missing(kind):
    for method in (kind.fit, kind.score):
        parameters = list(inspect.signature(method).parameters.values())
        assert [parameter.name for parameter in parameters[:3]] == ["self", "X", "y"]
        assert parameters[2].default is None


@pytest.mark.parametrize("make", [quick, lambda: MuraEnsemble([("a", quick())])])
def test_tags_tell_the_truth(make, train):
    tags = get_tags(make())
    assert tags.estimator_type == "classifier"
    assert is_classifier(make())
    assert not tags.classifier_tags.multi_class
    assert not tags.classifier_tags.multi_label
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.sparse
    assert tags.input_tags.string
    assert not tags.no_validation
    with pytest.raises(TypeError, match="expected a DataFrame"):  # as it says: it validates
        make().fit(np.zeros((4, 2)), [0, 1, 0, 1])
    assert not tags.target_tags.required
    assert is_classifier(make().fit(train))  # as it says: y is not required
    with pytest.raises(ValueError, match="0 .normal. or 1 .abnormal., got 2"):
        make().fit(train, [0, 1, 2, 1] * 8)


def test_fitted_estimator_has_classes_and_the_columns_it_saw(fitted, train, valid):
    assert fitted.classes_.tolist() == [0, 1]
    assert fitted.n_features_in_ == train.shape[1]
    assert fitted.feature_names_in_.tolist() == list(train.columns)
    for name in ("decision_function", "transform"):
        assert not hasattr(fitted, name)
    for name in ("n_features_in_", "feature_names_in_"):
        assert not hasattr(clone(fitted), name)
    log_proba = fitted.predict_log_proba(valid)
    assert np.array_equal(log_proba, np.log(fitted.predict_proba(valid)))


def test_score_takes_weights_of_studies(fitted, valid):
    right = fitted.predict(valid) == valid["label"]
    assert fitted.score(valid, valid["label"], sample_weight=right + 1e-9) == pytest.approx(1)


@pytest.mark.parametrize("name", ["groups", "sample_weight"])
def test_fit_says_what_to_do_instead_of_groups_and_weights(train, name):
    with pytest.raises(TypeError, match=f"expected X and y alone, got {name}: "):
        quick().fit(train, **{name: train["patient"]})


def test_diagram_shows_parameters_and_whether_it_is_fitted(fitted):
    before, after = estimator_html_repr(clone(fitted)), fitted._repr_html_()
    for page in (before, after):
        assert "MuraClassifier" in page
        assert "dataset__image_size" in page
    assert "Not fitted" in before
    assert "Not fitted" not in after
    assert "MuraClassifier" in make_pipeline(FunctionTransformer(), fitted)._repr_html_()


def test_copies_predict_the_same(fitted, valid, tmp_path):
    expected = fitted.predict_proba(valid)
    joblib.dump(fitted, tmp_path / "model.joblib")
    copies = [
        joblib.load(tmp_path / "model.joblib"),
        copy.deepcopy(fitted),
        pickle.loads(pickle.dumps(make_pipeline(fitted))),
    ]
    for model in copies:
        assert np.array_equal(model.predict_proba(valid), expected)


# --- groups and labels -----------------------------------------------------------------------


@pytest.mark.parametrize("index", ["study", "study_type"])
def test_index_of_the_table_does_not_matter(train, in_turn, index):
    indexed = train.set_index(index, drop=False)
    assert np.array_equal(cross_proba(indexed, indexed["label"]), in_turn)


@pytest.mark.parametrize("kind", [list, lambda y: y.to_numpy(dtype=int), lambda y: y.astype(bool)])
def test_kind_of_the_labels_does_not_matter(train, in_turn, kind):
    assert np.array_equal(cross_proba(train, kind(train["label"])), in_turn)


def test_every_study_is_predicted_by_a_model_that_never_saw_its_patient(train, in_turn):
    expected = np.empty_like(in_turn)
    for fit_on, score_on in GroupKFold(2).split(train, groups=train["patient"]):
        assert not set(train["patient"].iloc[fit_on]) & set(train["patient"].iloc[score_on])
        expected[score_on] = quick().fit(train.iloc[fit_on]).predict_proba(train.iloc[score_on])
    assert np.array_equal(in_turn, expected)


def test_named_scorers_share_one_cross_validation(train):
    scoring = ["accuracy", "balanced_accuracy", "roc_auc", "average_precision", "f1"]
    scoring += ["neg_log_loss", "neg_brier_score", "matthews_corrcoef"]
    found = cross_validate(
        quick(), train, train["label"], groups=train["patient"], cv=GroupKFold(2),
        scoring=scoring, return_train_score=True, return_estimator=True, error_score="raise",
    )  # fmt: skip
    for name in scoring:
        assert np.isfinite(found[f"test_{name}"]).all()
        assert np.isfinite(found[f"train_{name}"]).all()
    assert [type(net) for net in found["estimator"]] == [MuraClassifier] * 2


# --- searches and curves ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "search",
    [
        lambda net, cv: GridSearchCV(net, GRID, cv=cv, scoring=["roc_auc", "f1"], refit="roc_auc"),
        lambda net, cv: RandomizedSearchCV(net, GRID, n_iter=2, cv=cv, random_state=0),
        lambda net, cv: HalvingGridSearchCV(
            net, GRID, cv=cv, resource="max_epochs", max_resources=2, min_resources=1, factor=2
        ),
    ],
    ids=["grid", "random", "halving"],
)
def test_search_by_patient(search, train, valid):
    found = search(quick(), GroupKFold(2)).set_params(error_score="raise")
    found.fit(train, train["label"], groups=train["patient"])
    assert found.best_params_["lr"] in GRID["lr"]
    assert found.predict_proba(valid).shape == (len(valid), 2)
    assert np.isfinite(found.score(valid, valid["label"]))


def test_learning_curve_by_patient(train):
    one_type = train[train.study_type == "XR_HAND"]
    sizes, train_scores, valid_scores = learning_curve(
        quick(), one_type, one_type["label"], groups=one_type["patient"],
        cv=StratifiedGroupKFold(2), train_sizes=[0.75, 1.0], error_score="raise",
    )  # fmt: skip
    assert len(sizes) == 2
    assert train_scores.shape == valid_scores.shape == (2, 2)


def test_permutation_test_tells_a_classifier_that_knows_from_luck(train):
    class Knowing(DummyClassifier):
        def predict(self, X):
            return X["label"].to_numpy(dtype=int)

    folds = list(GroupKFold(2).split(train, groups=train["patient"]))
    score, permuted, p_value = permutation_test_score(
        Knowing(), train, train["label"].astype(int), cv=folds, n_permutations=19, scoring=kappa
    )
    assert score == 1
    assert max(permuted) < 1
    assert p_value == pytest.approx(1 / 20)


def test_permutation_test_runs_by_patient(train):
    folds = list(GroupKFold(2).split(train, groups=train["patient"]))
    _, permuted, _ = permutation_test_score(
        quick(), train, train["label"], cv=folds, n_permutations=2, scoring=kappa
    )
    assert np.isfinite(permuted).all()


def test_words_that_scikit_learn_would_turn_upside_down_are_refused(train):
    words = np.where(train["label"] == 1, "abnormal", "normal")
    with pytest.raises(ValueError, match="the opposite of X\\['label'\\] in every row"):
        VotingClassifier([("a", quick())], voting="soft").fit(train, words)


# --- meta-estimators -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net, cv: CalibratedClassifierCV(net, cv=cv),
        lambda net, cv: CalibratedClassifierCV(MuraEnsemble([("a", net)]), cv=cv),
        lambda net, cv: CalibratedClassifierCV(net, cv=cv, ensemble=False, method="temperature"),
        lambda net, cv: StackingClassifier([("a", net)], cv=cv),
        lambda net, cv: Pipeline([("clf", net)]),
    ],
    ids=["calibrated", "calibrated ensemble", "calibrated at once", "stacking", "pipeline"],
)
def test_meta_estimator_gives_probabilities(wrap, train, valid, folds):
    model = wrap(quick(), folds).fit(train, train["label"].astype(int))
    proba = model.predict_proba(valid)
    assert proba.shape == (len(valid), 2)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-5)
    assert set(model.predict(valid)) <= {0, 1}
    assert 0 <= model.score(valid, valid["label"].astype(int)) <= 1


@pytest.mark.filterwarnings("ignore:X has feature names")  # of the stacked regression
@pytest.mark.parametrize(
    "wrap",
    [
        lambda net, cv: StackingClassifier([("a", net)], cv=cv),
        lambda net, cv: VotingClassifier([("a", net)], voting="soft", flatten_transform=True),
        lambda net, cv: MuraEnsemble([("a", net)]),
    ],
    ids=["stacking", "voting", "ensemble"],
)
def test_meta_estimator_gives_tables(wrap, train, valid, folds):
    model = wrap(quick(), folds).set_output(transform="pandas").fit(train, train["label"])
    found = model.transform(valid)
    assert isinstance(found, pd.DataFrame)
    assert found.index.equals(valid.index)
    assert model.n_features_in_ == train.shape[1]
    assert len(model.predict(valid)) == len(valid)


def test_ensemble_of_loaded_models_gives_tables(fitted, valid, tmp_path):
    fitted.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    assert loaded.feature_names_in_.tolist() == ["study_type", "views"]
    model = MuraEnsemble.of([loaded]).set_output(transform="pandas")
    assert model.transform(valid).shape == (len(valid), 2)


def test_bagging_is_refused_in_favour_of_an_ensemble_of_seeds(train):
    with pytest.raises(TypeError, match="Instead of a BaggingClassifier use MuraEnsemble"):
        BaggingClassifier(quick()).fit(train, train["label"])


def test_column_transformer_gives_tables_or_a_clear_error(train, valid):
    columns = ["study_type", "patient", "views"]
    kept = ColumnTransformer([("kept", "passthrough", columns)], verbose_feature_names_out=False)
    with pytest.raises(TypeError, match=r'call set_output\(transform="pandas"\)'):
        make_pipeline(kept, quick()).fit(train, train["label"])
    model = make_pipeline(kept.set_output(transform="pandas"), quick())
    found = model.fit(train, train["label"]).predict_proba(valid)
    alone = quick().fit(train[columns], train["label"])
    assert np.array_equal(found, alone.predict_proba(valid))


def test_one_versus_the_rest_is_the_classifier(train, valid):
    model = OneVsRestClassifier(quick()).fit(train, train["label"].astype(int))
    expected = quick().fit(train).predict_proba(valid)
    np.testing.assert_allclose(model.predict_proba(valid), expected, atol=1e-6)


def test_tuned_threshold_decides_by_kappa(train, valid, folds):
    tuned = TunedThresholdClassifierCV(quick(), scoring=kappa, cv=folds)
    tuned.fit(train, train["label"])
    assert -1 <= tuned.best_score_ <= 1
    above = tuned.predict_proba(valid)[:, 1] >= tuned.best_threshold_
    assert tuned.predict(valid).tolist() == above.astype(int).tolist()
    fixed = FixedThresholdClassifier(FrozenEstimator(tuned.estimator_), threshold=1.0)
    assert not fixed.fit(train, train["label"]).predict(valid).any()


@pytest.mark.slow
def test_votes_of_two_seeds_in_two_processes_are_their_mean(train, valid):
    nets = [("a", quick()), ("b", quick(random_state=1))]
    soft = VotingClassifier(nets, voting="soft", n_jobs=2).fit(train, train["label"])
    means = np.mean([net.fit(train).predict_proba(valid) for _, net in nets], axis=0)
    np.testing.assert_allclose(soft.predict_proba(valid), means, atol=1e-6)
    frozen = [(name, FrozenEstimator(net)) for name, net in nets]
    assert set(VotingClassifier(frozen).fit(train, train["label"]).predict(valid)) <= {0, 1}


def test_pipeline_selects_columns_before(train, valid):
    kept = ["study_type", "patient", "views"]
    model = make_pipeline(
        FunctionTransformer(pd.DataFrame.filter, kw_args={"items": kept}), quick()
    )
    found = cross_val_score(
        model, train, train["label"], groups=train["patient"], cv=GroupKFold(2), error_score="raise"
    )
    assert np.isfinite(found).all()
    with sklearn.config_context(transform_output="pandas"):
        model.fit(train, train["label"])
    alone = quick().fit(train[kept], train["label"])
    assert np.array_equal(model.predict_proba(valid), alone.predict_proba(valid))


def test_display_objects_take_it(fitted, valid):
    curve = RocCurveDisplay.from_estimator(fitted, valid, valid["label"])
    assert 0 <= curve.roc_auc <= 1
    matrix = ConfusionMatrixDisplay.from_estimator(fitted, valid, valid["label"])
    assert matrix.confusion_matrix.sum() == len(valid)


# --- routing, threads, processes -------------------------------------------------------------


def test_metadata_routing_sends_groups_to_the_splitter(train, valid):
    X, y, groups = train, train["label"], train["patient"]
    cv = GroupKFold(2)
    with sklearn.config_context(enable_metadata_routing=True):
        assert quick().fit(X, y).score(X, y) == make_pipeline(quick()).fit(X, y).score(X, y)
        scores = cross_validate(
            quick(), X, y, params={"groups": groups}, cv=cv, scoring=kappa_by_study_type
        )
        assert "test_kappa/XR_HAND" in scores
        for model in (
            GridSearchCV(quick(), {"lr": [1e-3]}, cv=cv, error_score="raise"),
            CalibratedClassifierCV(quick(), cv=cv),
            TunedThresholdClassifierCV(quick(), cv=cv),
        ):
            assert model.fit(X, y, groups=groups).predict(valid).shape == (len(valid),)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_two_fits_at_a_time_give_what_they_give_in_turn(train, in_turn, backend):
    with joblib.parallel_config(backend):
        assert np.array_equal(cross_proba(train, train["label"], n_jobs=2), in_turn)


# --- the guide -------------------------------------------------------------------------------


@pytest.mark.slow
def test_guides_python_runs_from_top_to_bottom(train, valid):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) > 5
    names = {"clf": quick(), "train": train, "valid": valid, "print": lambda *values: None}
    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), names)
