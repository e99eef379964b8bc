import json
import pickle

import numpy as np
import pytest
from nets import TinyNet, tiny_classifier
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge

from mura_skorch.calibration import apply_platt
from mura_skorch.ensemble import MuraEnsemble, best_valid_loss, load_model
from mura_skorch.tracking import TrackedRun


@pytest.fixture(scope="module")
def members(fitted, train):
    """Three classifiers of other seeds; tests must not change them."""
    others = [tiny_classifier(random_state=seed, max_epochs=1).fit(train) for seed in (1, 2)]
    return [fitted, *others]


@pytest.fixture(scope="module")
def ensemble(members):
    return MuraEnsemble.of(members)


# --- the mean --------------------------------------------------------------------------------


def test_ensemble_of_one_member_is_the_member(fitted, valid):
    alone = MuraEnsemble.of([fitted])
    assert np.array_equal(alone.predict_proba(valid), fitted.predict_proba(valid))
    assert alone.predict(valid).tolist() == fitted.predict(valid).tolist()
    assert alone.score(valid) == fitted.score(valid)
    for method in ("predict_view_proba", "localize"):
        pairs = zip(getattr(alone, method)(valid), getattr(fitted, method)(valid), strict=True)
        assert all(np.array_equal(own, other) for own, other in pairs)


def test_ensemble_of_identical_members_is_the_member(fitted, valid):
    same = MuraEnsemble.of([fitted] * 3)
    np.testing.assert_allclose(same.predict_proba(valid), fitted.predict_proba(valid), atol=1e-6)


def test_order_of_members_is_irrelevant(members, ensemble, valid):
    turned = MuraEnsemble.of(members[::-1]).predict_proba(valid)
    np.testing.assert_allclose(turned, ensemble.predict_proba(valid), atol=1e-6)


def test_probability_is_the_mean_over_members_and_over_their_views(members, ensemble, valid):
    proba = ensemble.predict_proba(valid)
    assert proba.dtype == np.float32
    means = np.mean([net.predict_proba(valid) for net in members], axis=0)
    np.testing.assert_allclose(proba, means, atol=1e-6)
    views = [view.mean() for view in ensemble.predict_view_proba(valid)]
    np.testing.assert_allclose(views, proba[:, 1], atol=1e-6)


def test_mean_of_the_map_plus_mean_bias_is_the_mean_logit(members, ensemble, valid):
    bias = np.mean([net.module_.head.bias.item() for net in members])
    logits = np.mean(
        [
            np.concatenate([np.log(p / (1 - p)) for p in net.predict_view_proba(valid)])
            for net in members
        ],
        axis=0,
    )
    maps = np.concatenate(ensemble.localize(valid))
    np.testing.assert_allclose(maps.mean(axis=(1, 2)) + bias, logits, atol=1e-4)


def test_abnormal_is_strictly_above_the_threshold(ensemble, members, valid):
    proba = ensemble.predict_proba(valid)[:, 1]
    threshold = float(np.sort(proba)[3])
    other = MuraEnsemble.of(members, threshold=threshold)
    assert other.predict(valid).sum() == len(valid) - 4


# --- scikit-learn's habits -------------------------------------------------------------------


def test_clone_has_the_same_members_and_fits_none_of_them(ensemble, train, valid):
    copy = clone(ensemble)
    assert is_classifier(copy)
    with pytest.raises(NotFittedError):
        copy.predict_proba(valid)
    copy.fit(train)
    assert np.array_equal(copy.predict_proba(valid), ensemble.predict_proba(valid))
    assert copy.classes_.tolist() == [0, 1]


def test_members_that_are_not_frozen_are_trained(train, valid):
    nets = [(f"seed_{k}", tiny_classifier(random_state=k, max_epochs=1)) for k in (0, 1)]
    ensemble = MuraEnsemble(nets).fit(train)
    assert [net.seed_ for net in ensemble.estimators_] == [0, 1]
    assert ensemble.predict(valid).shape == (len(valid),)


def test_parameters_are_members_and_threshold(ensemble):
    assert set(ensemble.get_params(deep=False)) == {"estimators", "threshold"}


def test_pickled_ensemble_predicts_the_same(ensemble, valid):
    copy = pickle.loads(pickle.dumps(ensemble))
    assert copy.threshold_ == 0.5
    assert np.array_equal(copy.predict_proba(valid), ensemble.predict_proba(valid))


def test_members_and_their_parameters_are_parameters_by_name():
    first, second = tiny_classifier(), tiny_classifier()
    ensemble = MuraEnsemble([("a", first), ("b", second)])
    params = ensemble.get_params()
    assert (params["a"], params["b"]) == (first, second)
    assert params["b__lr"] == second.lr
    ensemble.set_params(b__lr=0.25, threshold=0.3)
    assert (first.lr, second.lr, ensemble.threshold) == (params["a__lr"], 0.25, 0.3)
    third = tiny_classifier()
    ensemble.set_params(a=third)
    assert ensemble.estimators == [("a", third), ("b", second)]
    ensemble.set_params(estimators=[("c", first)], c__lr=0.5)
    assert ensemble.estimators == [("c", first)]
    assert first.lr == 0.5
    with pytest.raises(ValueError, match="Invalid parameter 'a'"):
        ensemble.set_params(a=third)
    assert clone(ensemble).get_params()["c__lr"] == 0.5


def test_dropped_member_is_left_out(members, valid, tmp_path):
    frozen = [(f"m{k}", FrozenEstimator(net)) for k, net in enumerate(members)]
    without = MuraEnsemble(frozen).set_params(m1="drop").fit(valid)
    two = MuraEnsemble.of([members[0], members[2]])
    assert np.array_equal(without.predict_proba(valid), two.predict_proba(valid))
    without.save(tmp_path)
    loaded = load_model(tmp_path, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), two.predict_proba(valid))


def test_transform_gives_the_probabilities_of_each_member(members, ensemble, valid):
    expected = np.hstack([net.predict_proba(valid) for net in members])
    assert np.array_equal(ensemble.transform(valid), expected)
    names = ensemble.get_feature_names_out().tolist()
    assert names[:3] == [
        "muraensemble_member_00", "muraensemble_member_01", "muraensemble_member_10"
    ]  # fmt: skip


def test_unfitted_members_are_refused():
    with pytest.raises(NotFittedError):
        MuraEnsemble.of([tiny_classifier()])


@pytest.mark.parametrize(
    ("estimators", "message"),
    [
        ([], "at least one member"),
        ([("a", "drop")], "at least one member"),
        ({"a": 1}, "a list of"),
        ([tiny_classifier()], "a list of"),
        ([("a", Ridge())], "got Ridge as a"),
        ([("a__b", tiny_classifier())], "rename a__b"),
        ([("threshold", tiny_classifier())], "rename threshold"),
        ([("a", tiny_classifier()), ("a", tiny_classifier())], "rename a"),
    ],
)
def test_members_that_are_no_named_classifiers_are_refused(estimators, message, train):
    with pytest.raises(ValueError, match=message):
        MuraEnsemble(estimators).fit(train)
    if not estimators:
        with pytest.raises(ValueError, match=message):
            MuraEnsemble.of([])


def test_failed_fit_leaves_the_ensemble_unfitted(train, valid):
    ensemble = MuraEnsemble([("a", tiny_classifier(lr="x"))])
    with pytest.raises((TypeError, ValueError)):
        ensemble.fit(train)
    with pytest.raises(NotFittedError):
        ensemble.predict_proba(valid)


# --- operating point -------------------------------------------------------------------------


def test_recalibration_scales_the_mean_and_leaves_the_ensemble(ensemble, train, tmp_path):
    before = ensemble.predict_proba(train)[:, 1]
    label = (before > np.median(before)).astype(int)
    label[np.argsort(before)[[3, 10, -9, -2]]] ^= 1
    local = ensemble.recalibrate(train, label, threshold="sensitivity=0.9")
    after = local.predict_proba(train)[:, 1]
    expected = apply_platt(before, local.slope_, local.intercept_)
    np.testing.assert_allclose(after, expected, atol=1e-5)
    assert local.predict(train)[label == 1].mean() >= 0.9
    assert np.array_equal(ensemble.predict_proba(train)[:, 1], before)
    local.save(tmp_path / "local")
    loaded = load_model(tmp_path / "local", module=TinyNet)
    assert np.array_equal(loaded.predict_proba(train)[:, 1], after)
    assert (loaded.threshold, loaded.threshold_) == (local.threshold, local.threshold_)


def test_prior_of_members_is_corrected_before_the_mean_but_for_those_calibrated_already(
    members, ensemble, train, valid
):
    options = {"threshold": 0.3, "calibration": None, "prior_correction": True}
    own = [net.recalibrate(**options) for net in members]
    means = np.mean([net.predict_proba(valid) for net in own], axis=0)
    found = ensemble.recalibrate(**options)
    assert not np.allclose(found.predict_proba(valid), ensemble.predict_proba(valid), atol=1e-3)
    np.testing.assert_allclose(found.predict_proba(valid), means, atol=1e-9)
    views = zip(*(net.predict_view_proba(valid) for net in own), strict=True)
    for mean, of_study in zip(found.predict_view_proba(valid), views, strict=True):
        np.testing.assert_allclose(mean, np.mean(of_study, axis=0), atol=1e-9)
    again = MuraEnsemble.of(own).recalibrate(**options).predict_proba(valid)
    np.testing.assert_allclose(again, means, atol=1e-9)


def test_members_calibration_comes_before_the_mean(members, train, valid):
    score = members[1].predict_proba(train)[:, 1]
    own = members[1].recalibrate(train, (score > np.median(score)).astype(int))
    found = MuraEnsemble.of([own, own]).predict_proba(valid)
    np.testing.assert_allclose(found, own.predict_proba(valid), atol=1e-9)


# --- saving ----------------------------------------------------------------------------------


def test_saved_and_loaded_ensemble_predicts_bit_equal(ensemble, valid, tmp_path):
    ensemble.save(tmp_path)
    loaded = MuraEnsemble.load(tmp_path, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), ensemble.predict_proba(valid))
    assert MuraEnsemble.load(tmp_path, module=TinyNet, threshold=0.3).threshold_ == 0.3


def test_saved_ensemble_lists_runs_seeds_and_losses_and_holds_no_pickle(members, valid, tmp_path):
    net = pickle.loads(pickle.dumps(members[0]))
    net.run_id_ = "0123456789abcdef0123456789abcdef"
    MuraEnsemble.of([net, *members[1:]]).save(tmp_path)
    config = json.loads((tmp_path / "ensemble.json").read_text())
    rows = config["members"]
    assert [row["run_id"] for row in rows] == [net.run_id_, None, None]
    assert [row["random_state"] for row in rows] == [0, 1, 2]
    assert [row["valid_loss"] for row in rows] == list(map(best_valid_loss, members))
    assert config["note"] == "phantoms: no clinical meaning"
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {
        ".json", ".safetensors"
    }  # fmt: skip
    loaded = load_model(tmp_path, module=TinyNet)
    assert [member.run_id_ for member in loaded.estimators_] == [net.run_id_, None, None]


def test_model_of_a_run_is_opened_whatever_it_is(ensemble, fitted, valid, tmp_path):
    for name, model in (("one", fitted), ("many", ensemble)):
        model.save(tmp_path / name)
        with TrackedRun(name=name) as run:
            run.log_folder(tmp_path / name, "model")
        loaded = load_model(run.run_id, module=TinyNet)
        assert type(loaded) is type(model)
        assert np.array_equal(loaded.predict_proba(valid), model.predict_proba(valid))


@pytest.mark.parametrize("content", ["{", "{}", '{"format": 2}', "[]"])
def test_damaged_missing_and_foreign_files_are_refused_with_their_path(tmp_path, content):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        MuraEnsemble.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        load_model(tmp_path)
    (tmp_path / "ensemble.json").write_text(content)
    with pytest.raises(ValueError, match=str(tmp_path)):
        load_model(tmp_path)


def test_folder_with_a_model_of_each_kind_is_refused(ensemble, fitted, tmp_path):
    ensemble.save(tmp_path)
    fitted.save(tmp_path)
    with pytest.raises(ValueError, match="expected one model"):
        load_model(tmp_path, module=TinyNet)


def test_threshold_of_numpy_is_saved(members, tmp_path):
    MuraEnsemble.of(members[:1], threshold=np.float32(0.4)).save(tmp_path)
    loaded = MuraEnsemble.load(tmp_path, module=TinyNet)
    assert loaded.threshold_ == pytest.approx(0.4)


def test_saving_onto_a_file_names_it_and_leaves_it(ensemble, fitted, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("study,label\n")
    for model in (fitted, ensemble):
        for target in (file, file / "model"):
            with pytest.raises(FileExistsError, match=r"new folder .* got the file .*csv;"):
                model.save(target)
    assert file.read_text() == "study,label\n"


def test_errors_say_what_to_do(ensemble, tmp_path):
    with pytest.raises(FileNotFoundError, match="check the path, or open a single classifier"):
        MuraEnsemble.load(tmp_path)
    ensemble.save(tmp_path)
    file = tmp_path / "ensemble.json"
    later = json.loads(file.read_text()) | {"format": 2, "mura_skorch": "9.0"}
    file.write_text(json.dumps(later))
    with pytest.raises(
        ValueError, match=r"got format 2 .* by mura_skorch 9.0.* install that version"
    ):
        MuraEnsemble.load(tmp_path)
