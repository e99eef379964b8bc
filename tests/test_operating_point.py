import json
import pickle
import warnings
from copy import deepcopy

import numpy as np
import pytest
from conftest import TinyNet, tiny_classifier
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import balanced_accuracy_score, log_loss, recall_score
from sklearn.naive_bayes import GaussianNB

from mura_skorch import MuraClassifier, ValidStudies
from mura_skorch.callbacks import BestWeights
from mura_skorch.operating_point import (
    apply_temperature,
    check_rule,
    choose_threshold,
    fit_temperature,
)


@pytest.fixture
def scored():
    """Labels and overlapping, tied scores of 300 studies."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 300)
    return y_true, np.clip(rng.normal(0.4 + 0.2 * y_true, 0.2), 0, 1).round(2)


def rates(y_true, y_score, threshold):
    called = y_score > threshold
    return called[y_true == 1].mean(), 1 - called[y_true == 0].mean()


def every_threshold(y_score):
    return [-0.01, *np.unique(y_score)]


# --- pure functions --------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [0.5, 0.8, 0.95, 0.99, 1.0])
def test_wanted_sensitivity_is_reached_with_the_highest_specificity(scored, wanted):
    y_true, y_score = scored
    y_score = y_score.clip(0.01)
    sensitivity, specificity = rates(
        y_true, y_score, choose_threshold(y_true, y_score, f"sensitivity={wanted}")
    )
    assert sensitivity >= wanted
    reached = [rates(y_true, y_score, t) for t in every_threshold(y_score)]
    assert specificity == max(spec for sens, spec in reached if sens >= wanted)


def test_no_threshold_has_a_higher_youden_index(scored):
    y_true, y_score = scored
    index = sum(rates(y_true, y_score, choose_threshold(y_true, y_score, "youden")))
    assert index == max(sum(rates(y_true, y_score, t)) for t in every_threshold(y_score))


@pytest.mark.parametrize("rule", ["youden", "sensitivity=0.9"])
def test_strictly_above_and_at_least_decide_alike_in_both_precisions(scored, rule):
    y_true, y_score = scored
    for scores in (y_score, y_score.astype(np.float32)):
        threshold = choose_threshold(y_true, scores, rule)
        assert 0 < threshold < 1
        assert ((scores > threshold) == (scores >= threshold)).all()
    assert threshold == choose_threshold(y_true, y_score, rule)


def test_scores_that_single_precision_cannot_tell_apart_are_one():
    low = np.float32(0.3)
    scores = np.array([0.1, low, np.nextafter(low, np.float32(1)), 0.8], dtype=np.float32)
    assert choose_threshold([0, 0, 1, 1], scores, "youden") not in scores


def test_a_number_is_returned_as_it_is():
    assert choose_threshold([], [], 0.3) == 0.3


@pytest.mark.parametrize(
    "rule", ["best", "sensitivity=0", "sensitivity=1.5", "sensitivity=95", -0.1, 1.1, True, None]
)
def test_unknown_rules_are_refused_with_those_that_exist(rule):
    with pytest.raises(ValueError, match="'youden', or 'sensitivity=S'"):
        check_rule(rule)


@pytest.mark.parametrize("function", [lambda y, p: choose_threshold(y, p, "youden"),
                                      fit_temperature])  # fmt: skip
def test_one_class_equal_scores_and_nan_are_refused(function):
    with pytest.raises(ValueError, match="expected normal and abnormal studies"):
        function([1, 1], [0.2, 0.3])
    with pytest.raises(ValueError, match="expected different scores"):
        function([0, 1], [0.2, 0.2])
    with pytest.raises(ValueError, match="nan"):
        function([0, 1], [0.2, np.nan])


def test_sensitivity_that_no_threshold_reaches_is_refused():
    with pytest.raises(ValueError, match="probability 0"):
        choose_threshold([0, 1, 1], [0.5, 0.0, 0.9], "sensitivity=1")


def test_temperature_gives_scikit_learns_calibrated_probabilities(scored):
    y_true, y_score = scored
    X = np.column_stack([y_score] * 3)  # too sure
    model = GaussianNB().fit(X, y_true)
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(X, y_true)
    p = model.predict_proba(X)[:, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = apply_temperature(p, fit_temperature(y_true, p))
    np.testing.assert_allclose(scaled, calibrated.predict_proba(X)[:, 1], atol=1e-6)
    assert log_loss(y_true, scaled) < log_loss(y_true, p)


def test_temperature_keeps_order_and_one_half_and_is_undone_by_its_inverse():
    p = np.linspace(0, 1, 21)
    scaled = apply_temperature(p, 3.0)
    assert np.isfinite(scaled).all()
    assert (np.diff(scaled) > 0).all()
    assert scaled[10] == pytest.approx(0.5)
    np.testing.assert_allclose(apply_temperature(scaled, 1 / 3), p, atol=1e-9)
    assert np.array_equal(apply_temperature(p, 1.0), p)


@pytest.mark.parametrize(("y", "how"), [([0, 0, 1, 1], "without an error"),
                                        ([1, 1, 0, 0], "not at all")])  # fmt: skip
def test_temperature_of_perfect_or_useless_scores_warns(y, how):
    with pytest.warns(UserWarning, match=how):
        fit_temperature(y, [0.1, 0.2, 0.7, 0.8])


# --- in a fit --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def youden(train, valid):
    """A classifier whose threshold was chosen in its fit."""
    return tiny_classifier(threshold="youden", train_split=ValidStudies(valid)).fit(train)


def test_fit_chooses_on_the_validation_part_with_the_best_weights(youden, valid):
    score, label = youden.predict_proba(valid)[:, 1], valid["label"].astype(int)
    assert youden.threshold_ == choose_threshold(label, score, "youden")
    assert youden.threshold == "youden"
    assert youden.predict(valid).tolist() == (score > youden.threshold_).tolist()
    at_half = balanced_accuracy_score(label, score > 0.5)
    assert balanced_accuracy_score(label, youden.predict(valid)) >= at_half


def test_chosen_threshold_survives_saving_and_pickling(youden, valid, tmp_path):
    youden.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    for net in (loaded, pickle.loads(pickle.dumps(youden))):
        assert net.threshold_ == youden.threshold_
        assert net.threshold == "youden"
        assert net.predict(valid).tolist() == youden.predict(valid).tolist()


def test_clone_keeps_the_rule_and_forgets_the_number(youden):
    copy = clone(youden)
    assert copy.threshold == "youden"
    with pytest.raises(AttributeError):
        copy.threshold_  # noqa: B018


def test_number_set_on_a_fitted_net_is_honoured(youden, valid):
    net = pickle.loads(pickle.dumps(youden)).set_params(threshold=0.3)
    assert net.threshold_ == 0.3
    assert net.predict(valid).tolist() == (net.predict_proba(valid)[:, 1] > 0.3).tolist()
    net.set_params(threshold="sensitivity=0.9")
    with pytest.raises(ValueError, match="call fit or recalibrate"):
        net.predict(valid)


def test_folder_of_the_best_weights_knows_the_threshold(train, tmp_path):
    net = tiny_classifier(threshold="sensitivity=0.9", callbacks__best__dirname=tmp_path).fit(train)
    folder = next(cb.folder_ for _, cb in net.callbacks_ if isinstance(cb, BestWeights))
    assert MuraClassifier.load(folder, module=TinyNet).threshold_ == net.threshold_


def test_run_holds_rule_number_and_decisions(train):
    import mlflow

    net = tiny_classifier(threshold="youden", callbacks__mlflow__log_model=False).fit(train)
    run = mlflow.get_run(net.run_id_)
    assert run.data.params["threshold"] == "youden"
    assert run.data.metrics["threshold"] == pytest.approx(net.threshold_)
    text = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/valid_predictions.csv")
    assert str(net.threshold_)[:6] in text


def test_rule_without_validation_data_is_refused_before_the_first_epoch(train):
    net = tiny_classifier(threshold="youden", train_split=None)
    with pytest.raises(ValueError, match="validation data to choose the threshold"):
        net.fit(train)
    assert not net.history


def test_bad_rule_is_refused_before_the_network_is_made(train):
    with pytest.raises(ValueError, match="expected a threshold"):
        tiny_classifier(threshold="best").fit(train)


def test_validation_part_of_one_class_warns_and_keeps_one_half(train, valid):
    normal = ValidStudies(valid[valid.label == 0])
    net = tiny_classifier(threshold="youden", train_split=normal, max_epochs=1)
    with pytest.warns(UserWarning, match=r"The threshold is 0\.5; choose another"):
        net.fit(train)
    assert net.threshold_ == 0.5


def test_models_saved_before_there_were_rules_load(fitted, valid, tmp_path):
    fitted.save(tmp_path)
    config = json.loads((tmp_path / "model.json").read_text())
    del config["operating_point"], config["run_id"]
    (tmp_path / "model.json").write_text(json.dumps(config))
    net = MuraClassifier.load(tmp_path, module=TinyNet)
    assert (net.threshold_, net.temperature_, net.run_id_) == (0.5, 1.0, None)
    assert np.array_equal(net.predict_proba(valid), fitted.predict_proba(valid))


# --- on a local table ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local_table(fitted, train):
    """Studies that the classifier ranks well, with some errors."""
    score = fitted.predict_proba(train)[:, 1]
    label = (score > np.median(score)).astype(int)
    label[np.argsort(score)[[3, 10, -9, -2]]] ^= 1
    return train.assign(label=label)


def test_recalibration_fits_both_and_leaves_the_model(fitted, local_table, tmp_path):
    before = fitted.predict_proba(local_table)
    local = fitted.recalibrate(local_table, threshold="sensitivity=0.9")
    label, p = local_table["label"].astype(int), before[:, 1]
    assert local.temperature_ == fit_temperature(label, p)
    scaled = local.predict_proba(local_table)[:, 1]
    np.testing.assert_allclose(scaled, apply_temperature(p, local.temperature_), atol=1e-6)
    assert recall_score(label, local.predict(local_table)) >= 0.9
    assert (fitted.threshold_, fitted.temperature_) == (0.5, 1.0)
    assert np.array_equal(fitted.predict_proba(local_table), before)
    local.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(local_table), local.predict_proba(local_table))
    assert loaded.predict(local_table).tolist() == local.predict(local_table).tolist()


def test_recalibrating_twice_is_recalibrating_once(fitted, local_table):
    once = fitted.recalibrate(local_table)
    twice = once.recalibrate(local_table)
    assert (once.threshold_, once.temperature_) == (twice.threshold_, twice.temperature_)


def test_recalibration_without_temperature_keeps_probabilities(fitted, local_table):
    local = fitted.recalibrate(local_table, local_table["label"], threshold=0.4, temperature=False)
    assert local.threshold_ == 0.4
    assert np.array_equal(local.predict_proba(local_table), fitted.predict_proba(local_table))


def test_training_on_forgets_what_belonged_to_the_old_weights(fitted, local_table):
    net = fitted.recalibrate(local_table).set_params(threshold=0.5, train_split=None)
    assert net.partial_fit(local_table).temperature_ == 1.0


def test_maps_stay_as_the_network_gives_them(fitted, local_table):
    local = fitted.recalibrate(local_table)
    maps = zip(*(net.localize(local_table) for net in (local, fitted)), strict=True)
    assert all(np.array_equal(own, other) for own, other in maps)


def test_view_of_a_study_of_one_view_has_the_study_s_probability_at_any_temperature(fitted, valid):
    single = valid.assign(views=[views[:1] for views in valid["views"]])
    local = deepcopy(fitted)
    local.temperature_ = 3.0
    expected = local.predict_proba(single)[:, 1]
    found = np.concatenate(local.predict_view_proba(single))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_rule_that_could_not_be_applied_is_said_with_the_threshold(train, tmp_path):
    one_class = train.groupby("patient").head(1)
    held_out = one_class[one_class["label"] == 0].head(3)
    rest = train[~train["patient"].isin(held_out["patient"])]
    clf = tiny_classifier(threshold="youden", max_epochs=1, train_split=ValidStudies(held_out))
    with pytest.warns(UserWarning, match="The threshold is 0.5"):
        clf.fit(rest)
    clf.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    for model in (clf, loaded):
        said = model.describe_operating_point()
        assert said == "abnormal above 0.5 (youden could not be applied)"


def test_unfitted_rule_has_no_threshold():
    with pytest.raises(NotFittedError):
        MuraClassifier(threshold="youden").threshold_  # noqa: B018
