import json
import pickle
import warnings
from copy import deepcopy
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from nets import TinyNet, tiny_classifier
from scipy.special import expit, logit
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss, recall_score, roc_auc_score
from sklearn.naive_bayes import GaussianNB

from mura_skorch import MuraClassifier, ValidStudies
from mura_skorch.calibration import (
    apply_platt,
    apply_temperature,
    check_rule,
    choose_threshold,
    fit_platt,
    fit_temperature,
)
from mura_skorch.callbacks import BestWeights
from mura_skorch.models.serialization import check_operating_point
from mura_skorch.report import collect_predictions, write_report


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


def test_of_equally_good_thresholds_the_lowest_is_chosen():
    y_true, y_score = [0, 1, 0, 1, 0, 0, 0, 1, 0], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert choose_threshold(y_true, y_score, "youden") == pytest.approx(0.15)


@pytest.mark.parametrize("step", [0.05, 0.001, 1e-9])
def test_youden_index_is_the_highest_and_its_threshold_the_lowest_in_exact_arithmetic(step):
    rng = np.random.default_rng(1)
    for _ in range(150):
        y_true = rng.permutation([0, 1, *rng.integers(0, 2, rng.integers(1, 12))])
        y_score = 0.5 + step * rng.integers(-9, 10, len(y_true))
        if len(set(y_score)) == 1:
            continue
        n_abnormal, n = int(y_true.sum()), len(y_true)
        index = {
            t: Fraction(int(y_true[y_score > t].sum()), n_abnormal)
            + Fraction(int((1 - y_true[y_score <= t]).sum()), n - n_abnormal)
            for t in every_threshold(y_score)
        }
        below = max(t for t in index if t < choose_threshold(y_true, y_score, "youden"))
        assert below == min(t for t in index if index[t] == max(index.values()))


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
                                      fit_temperature, fit_platt])  # fmt: skip
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


def test_line_is_the_one_of_scikit_learns_sigmoid_calibration(scored):
    y_true, y_score = scored
    X = np.column_stack([y_score, y_score**2])
    model = LogisticRegression(class_weight="balanced").fit(X, y_true)
    p = model.predict_proba(X)[:, 1]
    calibrated = CalibratedClassifierCV(FrozenEstimator(model), method="sigmoid").fit(X, y_true)
    found = apply_platt(p, *fit_platt(y_true, p))
    np.testing.assert_allclose(found, calibrated.predict_proba(X)[:, 1], atol=1e-5)


def calibration_error(y_true, y_score):
    """Return the mean distance between probability and share over 15 bins."""
    frame = pd.DataFrame({"y": y_true, "p": y_score, "bin": (y_score * 15).astype(int)})
    bins = frame.groupby("bin").agg(y=("y", "mean"), p=("p", "mean"), n=("y", "size"))
    return ((bins["y"] - bins["p"]).abs() * bins["n"]).sum() / len(frame)


def test_class_weights_are_undone_by_an_intercept_or_their_ratio_and_by_no_temperature():
    # As of hands in MURA: 26 % are abnormal, whose term of the loss weighs .7323 and not .2677.
    rng = np.random.default_rng(0)
    right = rng.normal(-1.72, 2, 40_000)
    y_true = rng.binomial(1, expit(right))
    shift = np.log(0.7323 / 0.2677)
    p = expit(right + shift)
    share = y_true.mean()
    assert (share, p.mean()) == pytest.approx((0.26, 0.4), abs=0.02)
    fitted_on = slice(0, 20_000)
    cooled = apply_temperature(p, fit_temperature(y_true[fitted_on], p[fitted_on]))
    assert cooled.mean() > share + 0.09
    assert calibration_error(y_true, cooled) > 0.09
    for found in (apply_platt(p, *fit_platt(y_true[fitted_on], p[fitted_on])),
                  apply_platt(p, 1, -shift)):  # fmt: skip
        assert found.mean() == pytest.approx(share, abs=0.005)
        assert calibration_error(y_true, found) < 0.01


def test_mean_of_calibrated_probabilities_is_the_share_of_abnormal_studies(scored):
    y_true, y_score = scored
    calibrated = apply_platt(y_score, *fit_platt(y_true, y_score))
    assert calibrated.mean() == pytest.approx(y_true.mean(), abs=1 / len(y_true))
    assert log_loss(y_true, calibrated) < log_loss(y_true, y_score)


def test_line_of_scores_without_an_error_is_finite():
    slope, intercept = fit_platt([0, 0, 1, 1], [0.1, 0.2, 0.7, 0.8])
    assert 0 < slope < 5
    assert apply_platt([0.1, 0.8], slope, intercept).round(2).tolist() == [0.21, 0.78]


def test_line_of_reversed_scores_gives_the_share_in_the_old_order_with_a_warning():
    y_true, y_score = [1, 1, 0, 0, 0, 0, 0, 0], np.linspace(0.1, 0.8, 8)
    with pytest.warns(UserWarning, match="wrong way round"):
        found = apply_platt(y_score, *fit_platt(y_true, y_score))
    assert found == pytest.approx(0.25, abs=0.05)
    assert (np.diff(found) > 0).all()


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
    assert (net.threshold_, net.slope_, net.intercept_, net.run_id_) == (0.5, 1.0, 0.0, None)
    assert np.array_equal(net.predict_proba(valid), fitted.predict_proba(valid))


# --- on a local table ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def local_table(fitted, train):
    """Studies that the classifier ranks well, with some errors."""
    score = fitted.predict_proba(train)[:, 1]
    label = (score > np.median(score)).astype(int)
    label[np.argsort(score)[[3, 10, -9, -2]]] ^= 1
    return train.assign(label=label)


def test_models_saved_with_a_temperature_have_its_slope(fitted, valid, tmp_path):
    fitted.save(tmp_path)
    config = json.loads((tmp_path / "model.json").read_text())
    config["operating_point"] = {"threshold": 0.5, "temperature": 4.0}
    (tmp_path / "model.json").write_text(json.dumps(config))
    net = MuraClassifier.load(tmp_path, module=TinyNet)
    expected = apply_temperature(fitted.predict_proba(valid)[:, 1], 4.0)
    np.testing.assert_allclose(net.predict_proba(valid)[:, 1], expected, atol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"slope": value} for value in (0, -1.0, True, "1", float("nan"), float("inf"))),
        *({"slope": None, "temperature": value} for value in (0, None, "1")),
        *({"intercept": value} for value in (None, float("nan"), float("-inf"))),
        *({"threshold": value} for value in (None, -0.1)),
        *({"prior_correction": 1}, {"chosen_in_fit": "yes"}),
        *({"chosen_on": value} for value in ([], {"XR_HAND": 1})),
    ],
    ids=str,
)
def test_operating_points_that_were_never_saved_are_refused(fitted, wrong):
    right = fitted.operating_point()
    check_operating_point(right)
    with pytest.raises(ValueError, match=f"its {list(wrong)[-1]}|its slope"):
        check_operating_point(right | wrong)


def test_recalibration_fits_both_and_leaves_the_model(fitted, local_table, tmp_path):
    before = fitted.predict_proba(local_table)
    local = fitted.recalibrate(local_table, threshold="sensitivity=0.9")
    label, p = local_table["label"].astype(int), before[:, 1]
    assert (local.slope_, local.intercept_) == pytest.approx(fit_platt(label, p), rel=1e-4)
    after = local.predict_proba(local_table)
    scaled = after[:, 1]
    assert after.dtype == np.float64
    np.testing.assert_allclose(after.sum(axis=1), 1)
    np.testing.assert_allclose(scaled, apply_platt(p, *fit_platt(label, p)), atol=1e-5)
    assert scaled.mean() == pytest.approx(label.mean(), abs=1 / len(label))
    assert recall_score(label, local.predict(local_table)) >= 0.9
    assert (fitted.threshold_, fitted.slope_, fitted.intercept_) == (0.5, 1.0, 0.0)
    assert np.array_equal(fitted.predict_proba(local_table), before)
    local.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(local_table), local.predict_proba(local_table))
    assert loaded.predict(local_table).tolist() == local.predict(local_table).tolist()
    assert loaded.describe_operating_point() == local.describe_operating_point()


def test_recalibrating_twice_is_recalibrating_once(fitted, local_table):
    once = fitted.recalibrate(local_table)
    twice = once.recalibrate(local_table)
    assert once.operating_point() == twice.operating_point()


def test_recalibration_without_calibration_keeps_probabilities(fitted, local_table):
    local = fitted.recalibrate(local_table, local_table["label"], threshold=0.4, calibration=None)
    assert local.threshold_ == 0.4
    assert np.array_equal(local.predict_proba(local_table), fitted.predict_proba(local_table))


def test_temperature_is_a_slope_without_an_intercept(fitted, local_table):
    local = fitted.recalibrate(local_table, calibration="temperature")
    temperature = fit_temperature(
        local_table["label"].astype(int), fitted.predict_proba(local_table)[:, 1]
    )
    assert (1 / local.slope_, local.intercept_) == pytest.approx((temperature, 0), rel=1e-3)
    with pytest.warns(FutureWarning, match="pass calibration='temperature'"):
        old = fitted.recalibrate(local_table, temperature=True)
    assert old.operating_point() == local.operating_point()
    with pytest.warns(FutureWarning, match="temperature is deprecated"):
        old = fitted.recalibrate(local_table, temperature=False)
    assert not old.is_recalibrated_


def test_unknown_calibration_and_missing_studies_are_refused(fitted, local_table):
    with pytest.raises(ValueError, match="calibration of .*got 'isotonic'"):
        fitted.recalibrate(local_table, calibration="isotonic")
    for settings in ({}, {"threshold": 0.5}, {"calibration": None}):
        with pytest.raises(ValueError, match="got none; pass them, or a number"):
            fitted.recalibrate(**settings)


def test_calibration_makes_no_two_confident_studies_equal(fitted, local_table):
    sure = deepcopy(fitted)
    logits, _ = fitted.logits_with_views(local_table)
    layer, factor = sure.module_.head, 80 / np.ptp(logits)
    layer.weight.data = layer.weight.data * factor
    layer.bias.data = (layer.bias.data - float(np.median(logits))) * factor
    assert (sure.predict_proba(local_table)[:, 1] == 1).sum() > 1  # in single precision
    local = sure.recalibrate(local_table)
    logits, _ = sure.logits_with_views(local_table)
    scaled = local.predict_proba(local_table)[:, 1]
    assert len(set(scaled)) == len(set(logits))
    label = local_table["label"]
    assert roc_auc_score(label, scaled) == roc_auc_score(label, logits)


def test_prior_correction_subtracts_the_log_of_the_ratio_of_the_class_weights(
    fitted, valid, tmp_path
):
    fitted = deepcopy(fitted)
    fitted.criterion_.class_weight = torch.tensor([[0.25, 0.75], [0.6, 0.4], [0.5, 0.5]])
    table = valid.assign(
        study_type=valid["study_type"].mask(np.arange(len(valid)) % 4 == 3, "XR_FOOT")
    )
    shift = table["study_type"].map({"XR_HAND": np.log(3), "XR_WRIST": np.log(2 / 3), "XR_FOOT": 0})
    options = {"threshold": 0.3, "calibration": None, "prior_correction": True}
    local = fitted.recalibrate(**options)
    local.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "training never saw XR_FOOT")
        before, views_before = fitted.predict_with_views(table)
        after, views_after = local.predict_with_views(table)
        assert np.array_equal(loaded.predict_proba(table), after)
        assert np.array_equal(fitted.recalibrate(table, **options).predict_proba(table), after)
    np.testing.assert_allclose(logit(after[:, 1]), logit(before[:, 1]) - shift, atol=1e-5)
    for own, other, by in zip(views_after, views_before, shift, strict=True):
        np.testing.assert_allclose(logit(own), logit(other) - by, atol=1e-5)
    assert local.describe_operating_point() == (
        "abnormal above 0.3; corrected for the class weights of the loss"
    )


def test_prior_of_a_loss_without_class_weights_cannot_be_corrected(fitted, valid):
    fitted = deepcopy(fitted)
    fitted.criterion_ = torch.nn.BCEWithLogitsLoss()
    with pytest.raises(ValueError, match="a loss with class weights, .*got BCEWithLogitsLoss"):
        fitted.recalibrate(threshold=0.3, calibration=None, prior_correction=True)


def test_line_is_fitted_on_what_the_prior_correction_leaves(fitted, local_table):
    fitted = deepcopy(fitted)
    fitted.criterion_.class_weight = torch.tensor([[0.25, 0.75], [0.6, 0.4], [0.5, 0.5]])
    corrected = fitted.recalibrate(threshold=0.3, calibration=None, prior_correction=True)
    local = fitted.recalibrate(local_table, prior_correction=True)
    label, p = local_table["label"].astype(int), corrected.predict_proba(local_table)[:, 1]
    assert (local.slope_, local.intercept_) == pytest.approx(fit_platt(label, p), rel=1e-6)
    expected = apply_platt(p, local.slope_, local.intercept_)
    np.testing.assert_allclose(local.predict_proba(local_table)[:, 1], expected, atol=1e-9)


def test_training_on_forgets_what_belonged_to_the_old_weights(fitted, local_table):
    net = fitted.recalibrate(local_table, prior_correction=True)
    net.set_params(threshold=0.5, train_split=None).partial_fit(local_table)
    assert not net.is_recalibrated_


def test_maps_stay_as_the_network_gives_them(fitted, local_table):
    local = fitted.recalibrate(local_table)
    maps = zip(*(net.localize(local_table) for net in (local, fitted)), strict=True)
    assert all(np.array_equal(own, other) for own, other in maps)


def test_view_of_a_study_of_one_view_has_the_study_s_probability_on_any_scale(fitted, valid):
    single = valid.assign(views=[views[:1] for views in valid["views"]])
    local = deepcopy(fitted)
    local.slope_, local.intercept_ = 0.3, -1.0
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


# --- in a report -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_headline_names_the_threshold_and_what_chose_it(youden, fitted, valid, train, tmp_path):
    local = youden.recalibrate(train, calibration=None)
    local.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    reversed_hands = train[train["study_type"] == "XR_HAND"].iloc[::-1]
    for clf, table, choice in (
        (fitted, valid, "a fixed number"),
        (youden, train, "youden, chosen on the validation part of the fit"),
        (youden, valid, "youden, chosen on the studies scored here"),
        (local, valid, "youden, chosen on other labelled studies"),
        (loaded, reversed_hands, "youden, chosen on the studies scored here"),
    ):
        predictions = collect_predictions(clf, table, n_cases=0).predictions
        assert predictions["chosen_by"].eq(choice).all()
        write_report(tmp_path / "report", predictions)
        page = (tmp_path / "report" / "report.html").read_text()
        number = f"{clf.threshold_:.4g}".removeprefix("0")
        assert f"; abnormal above {number} ({choice})." in page
        assert ("decisions and calibration look too good" in page) == ("scored here" in choice)


def test_fixed_threshold_on_probabilities_calibrated_on_the_scored_studies_is_said(
    fitted, local_table
):
    local = fitted.recalibrate(local_table, threshold=0.3)
    said = "a fixed number, on probabilities calibrated on the studies scored here"
    assert local.describe_choice(local_table) == said
    assert local.describe_choice(local_table[:9]).endswith("on other labelled studies")
    unlabelled = local_table[:1].assign(study="other", label=None)
    predictions = collect_predictions(
        local, pd.concat([local_table, unlabelled]), n_cases=0
    ).predictions
    assert predictions["chosen_by"].eq(said).all()
