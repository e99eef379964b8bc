import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nets import TinyNet, tiny_classifier
from PIL import Image
from sklearn.base import clone, is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch.optim.lr_scheduler import StepLR

from mura_skorch import (
    Augment,
    MuraClassifier,
    PatientSplit,
    StudyTypeBCE,
    ValidStudies,
)
from mura_skorch.data import StudyDataset
from mura_skorch.studies import explode_views


def weights_of(net):
    return {key: value.clone() for key, value in net.module_.state_dict().items()}


def equal_weights(first, second):
    return all(torch.equal(first[key], second[key]) for key in first)


# --- prediction ------------------------------------------------------------------------------


def test_probabilities_are_rows_that_add_up_to_one(fitted, valid):
    proba = fitted.predict_proba(valid)
    assert proba.shape == (len(valid), 2)
    assert proba.dtype == np.float32
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-6)


def test_permuting_studies_permutes_predictions(fitted, valid):
    order = np.random.default_rng(0).permutation(len(valid))
    moved = fitted.predict_proba(valid.iloc[order])
    np.testing.assert_allclose(moved, fitted.predict_proba(valid)[order], atol=1e-6)


def test_study_probability_is_the_mean_of_its_view_probabilities(fitted, valid):
    views = fitted.predict_view_proba(valid)
    assert [len(view) for view in views] == valid["views"].map(len).tolist()
    means = [view.mean() for view in views]
    np.testing.assert_allclose(means, fitted.predict_proba(valid)[:, 1], atol=1e-6)


def test_study_probability_is_the_mean_of_its_views_as_studies_of_their_own(fitted, valid):
    alone = explode_views(valid)
    scores = pd.Series(fitted.predict_proba(alone)[:, 1])
    means = scores.groupby(alone["study"].str.rpartition("/")[0].to_numpy(), sort=False).mean()
    np.testing.assert_allclose(means, fitted.predict_proba(valid)[:, 1], atol=1e-6)


def test_abnormal_is_strictly_above_the_threshold(fitted, valid):
    net = pickle.loads(pickle.dumps(fitted))
    proba = net.predict_proba(valid)[:, 1]
    net.threshold = float(np.sort(proba)[3])
    assert net.predict(valid).tolist() == (proba > net.threshold).tolist()
    assert net.predict(valid).sum() == len(valid) - 4


def test_score_is_the_accuracy(fitted, valid):
    expected = (fitted.predict(valid) == valid["label"].astype(int)).mean()
    assert fitted.score(valid) == fitted.score(valid, valid["label"]) == pytest.approx(expected)


def test_unlabelled_studies_and_a_table_without_labels_can_be_predicted(fitted, studies):
    test = studies[studies.split == "test"]
    bare = test[["study_type", "views"]]
    assert np.array_equal(fitted.predict_proba(test), fitted.predict_proba(bare))


def test_type_never_seen_warns_and_works(fitted, valid):
    other = valid.assign(study_type="XR_KNEE")
    with pytest.warns(UserWarning, match="never saw XR_KNEE"):
        proba = fitted.predict_proba(other)
    assert np.array_equal(proba, fitted.predict_proba(valid))


def test_normal_run_gives_no_warning(train, valid):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_classifier().fit(train).predict(valid)


# --- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["study", "view"])
@pytest.mark.parametrize("count", ["views", "studies"])
def test_every_loss_trains(train, level, count):
    net = tiny_classifier(criterion__level=level, criterion__count=count).fit(train)
    assert np.isfinite(net.history[:, ("train_loss", "valid_loss")]).all()


def test_loss_is_weighted_by_the_training_part_alone(train):
    net = tiny_classifier(max_epochs=1).fit(train)
    table = net.get_split_datasets(train)[0]
    from mura_skorch.data import studies_of

    part = studies_of(table)
    for row, name in enumerate(net.study_types_):
        own = part[part.study_type == name]
        n_views = own["views"].map(len)
        share_normal = n_views[own["label"] == 0].sum() / n_views.sum()
        assert net.criterion_.class_weight[row, 1].item() == pytest.approx(share_normal)


def test_given_labels_take_the_place_of_the_column(train):
    flipped = 1 - train["label"].astype(int)
    by_y = tiny_classifier(max_epochs=1).fit(train.drop(columns="label"), flipped)
    by_column = tiny_classifier(max_epochs=1).fit(train.assign(label=flipped))
    assert equal_weights(weights_of(by_y), weights_of(by_column))


def test_training_without_validation(train):
    net = tiny_classifier(train_split=None).fit(train)
    assert "valid_loss" not in net.history[-1]
    assert net.history[-1, "batches", 0, "train_batch_size"] == 8


def test_tables_label_kind_does_not_matter(train):
    kinds = ["Int8", "int64", "float64", bool]
    nets = [tiny_classifier(max_epochs=1).fit(train.astype({"label": kind})) for kind in kinds]
    assert all(equal_weights(weights_of(nets[0]), weights_of(net)) for net in nets)


def test_table_made_in_pandas_is_as_good_as_one_read(train, valid):
    own = pd.DataFrame(
        {
            "study_type": train["study_type"].to_list(),
            "patient": train["patient"].to_list(),
            "views": [[Path(path) for path in views] for views in train["views"]],
            "label": train["label"].to_list(),
        }
    )
    net = tiny_classifier(max_epochs=1).fit(own)
    assert equal_weights(weights_of(net), weights_of(tiny_classifier(max_epochs=1).fit(train)))
    assert net.predict(valid).shape == (len(valid),)


def test_network_learns_bright_from_dark(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(48):
        paths = [str(tmp_path / f"{i}_{j}.png") for j in range(1 + i % 3)]
        for path in paths:
            grey = rng.integers(0, 90, (40, 40)) + 120 * (i % 2)
            Image.fromarray(grey.astype(np.uint8)).save(path)
        rows.append(("XR_HAND", f"p{i}", tuple(paths), i % 2))
    table = pd.DataFrame(rows, columns=["study_type", "patient", "views", "label"])
    net = tiny_classifier(max_epochs=12, lr=1e-2, train_split=ValidStudies(table[36:]))
    assert net.fit(table[:36]).score(table[36:]) == 1.0


# --- random state ----------------------------------------------------------------------------


@pytest.mark.slow
def test_same_random_state_gives_the_same_bits_with_0_and_2_workers(train):
    alone = tiny_classifier().fit(train)
    again = tiny_classifier().fit(train)
    workers = tiny_classifier(iterator_train__num_workers=2, iterator_valid__num_workers=2).fit(
        train
    )
    assert equal_weights(weights_of(alone), weights_of(again))
    assert equal_weights(weights_of(alone), weights_of(workers))
    losses = [net.history[:, ("train_loss", "valid_loss")] for net in (alone, again, workers)]
    assert losses[0] == losses[1] == losses[2]


def test_other_random_states_give_other_weights(train):
    nets = [tiny_classifier(random_state=seed, max_epochs=1).fit(train) for seed in (0, 1, None)]
    weights = [weights_of(net)["head.weight"] for net in nets]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_fresh_seed_is_recorded_and_repeats_the_fit(train):
    net = tiny_classifier(random_state=None, max_epochs=1).fit(train)
    again = tiny_classifier(random_state=net.seed_, max_epochs=1).fit(train)
    assert equal_weights(weights_of(net), weights_of(again))


def test_users_random_state_is_left_alone(train, valid):
    import random

    def state():
        numpy_state = np.random.get_state()  # noqa: NPY002
        return torch.get_rng_state().tolist(), random.getstate(), numpy_state[1].tolist()

    before = state()
    net = tiny_classifier(callbacks__mlflow__log_model=False).fit(train)
    net.partial_fit(train)
    net.predict(valid)
    clone(net).initialize()
    assert state() == before


def test_refit_starts_afresh(train):
    net = tiny_classifier().fit(train)
    first = weights_of(net)
    assert equal_weights(first, weights_of(net.fit(train)))
    assert len(net.history) == 2


# --- scikit-learn's habits -------------------------------------------------------------------


def test_clone_keeps_every_parameter(fitted):
    params, cloned = fitted.get_params(deep=False), clone(fitted).get_params(deep=False)
    assert params.keys() == cloned.keys()
    plain = [key for key, value in params.items() if isinstance(value, (str, int, float, type))]
    assert all(params[key] == cloned[key] for key in plain)
    assert cloned["device"] == "auto"


def test_every_default_a_reader_should_know_stands_in_the_signature():
    params = MuraClassifier().get_params(deep=False)
    assert params["lr"] == 1e-4
    assert params["batch_size"] == 8
    assert params["optimizer"] is torch.optim.Adam
    assert params["criterion"] is StudyTypeBCE
    assert params["module__weights"] == "IMAGENET1K_V1"
    assert params["dataset__image_size"] == 224
    assert repr(params["train_split"]) == "PatientSplit(0.1, random_state=0)"
    assert repr(params["module__augment"]) == "Augment(degrees=10, flip=0.5)"
    assert params["iterator_train__shuffle"] is True


def test_fitted_net_can_be_cloned_and_fitted_again(fitted, train):
    assert equal_weights(weights_of(fitted), weights_of(clone(fitted).fit(train)))


def test_pickle_gives_the_same_probabilities(fitted, valid):
    copy = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copy.predict_proba(valid), fitted.predict_proba(valid))
    assert copy.get_params()["device"] == "auto"


def test_grid_search_by_patient(train):
    net = tiny_classifier(max_epochs=1)
    grid = {"lr": [1e-3, 1e-4], "criterion__level": ["study", "view"]}
    search = GridSearchCV(net, grid, cv=GroupKFold(2), error_score="raise")
    search.fit(train, train["label"], groups=train["patient"])
    assert set(search.best_params_) == set(grid)
    assert search.best_estimator_.predict(train).shape == (len(train),)


@pytest.mark.parametrize("params", [{}, {"train_split": None}])
def test_cross_validation_by_patient(train, params):
    net = tiny_classifier(max_epochs=1, **params)
    scores = cross_val_score(
        net, train, groups=train["patient"], cv=GroupKFold(3), error_score="raise"
    )
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


def test_scikit_learn_takes_it_for_a_binary_classifier(fitted):
    assert is_classifier(fitted)
    assert fitted.classes_.tolist() == [0, 1]
    assert not fitted.__sklearn_tags__().classifier_tags.multi_class


def test_prediction_before_fit_is_refused(valid):
    with pytest.raises(NotFittedError):
        MuraClassifier().predict(valid)


# --- saving ----------------------------------------------------------------------------------


@pytest.mark.slow
def test_loaded_model_predicts_the_same_in_a_new_process(fitted, valid, tmp_path):
    fitted.save(tmp_path / "model")
    valid.to_pickle(tmp_path / "valid.pkl")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import numpy as np, pandas as pd\n"
        "from nets import TinyNet\n"
        "from mura_skorch import MuraClassifier\n"
        "net = MuraClassifier.load('model', module=TinyNet)\n"
        "np.save('proba.npy', net.predict_proba(pd.read_pickle('valid.pkl')))\n"
    )
    tests = str(Path(__file__).parent / "helpers")
    subprocess.run([sys.executable, "-c", code, tests], check=True, cwd=tmp_path)
    assert np.array_equal(np.load(tmp_path / "proba.npy"), fitted.predict_proba(valid))


def test_loaded_model_knows_types_history_and_parameters(fitted, tmp_path):
    fitted.save(tmp_path)
    net = MuraClassifier.load(tmp_path, module=TinyNet)
    assert net.study_types_ == ["XR_HAND", "XR_WRIST"]
    assert net.history[:, "valid_loss"] == fitted.history[:, "valid_loss"]
    assert net.get_params()["dataset__image_size"] == 32
    assert torch.equal(net.criterion_.class_weight, fitted.criterion_.class_weight)


def test_loaded_model_can_be_trained_on(fitted, train, tmp_path):
    fitted.save(tmp_path)
    net = MuraClassifier.load(tmp_path, module=TinyNet, callbacks__mlflow=None)
    assert len(net.partial_fit(train).history) == 4


def test_best_of_a_loaded_model_is_not_lost(fitted, train, valid, tmp_path):
    fitted.save(tmp_path)
    net = MuraClassifier.load(tmp_path, module=TinyNet, callbacks__mlflow=None, verbose=0)
    net.set_params(lr=100.0).partial_fit(train)
    assert np.array_equal(net.predict_proba(valid), fitted.predict_proba(valid))


def test_numpy_parameters_are_saved_as_numbers(train, tmp_path):
    net = tiny_classifier(dataset__image_size=np.int64(48), max_epochs=np.int64(1)).fit(train)
    net.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    assert loaded.dataset__image_size == 48
    assert np.array_equal(loaded.predict_proba(train), net.predict_proba(train))


def test_model_of_another_class_is_refused_by_name(fitted, tmp_path):
    fitted.save(tmp_path)
    with pytest.raises(ValueError, match="expected module TinyNet.*pass module="):
        MuraClassifier.load(tmp_path)


def test_saved_model_carries_the_note_of_its_data(fitted, tmp_path):
    fitted.save(tmp_path)
    assert "phantoms: no clinical meaning" in (tmp_path / "model.json").read_text()
    assert MuraClassifier.load(tmp_path, module=TinyNet).note_ == "phantoms: no clinical meaning"


def test_saved_model_holds_no_pickle(fitted, tmp_path):
    fitted.save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_damaged_or_missing_model_is_refused_with_its_path(fitted, tmp_path, name):
    fitted.save(tmp_path)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
    with pytest.raises(ValueError, match=str(tmp_path)):
        MuraClassifier.load(tmp_path, module=TinyNet)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        MuraClassifier.load(tmp_path, module=TinyNet)


def test_saving_before_fit_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        MuraClassifier().save(tmp_path)


# --- bad input -------------------------------------------------------------------------------


class NeverTrained(Callback):
    def on_batch_begin(self, net, **kwargs):
        raise AssertionError("training began")


def assert_refused(table, message, kind=ValueError, **params):
    with pytest.raises(kind, match=message):
        tiny_classifier(callbacks=[NeverTrained()], **params).fit(table)


def test_list_of_paths_is_refused(train):
    assert_refused(train["views"].tolist(), "DataFrame", kind=TypeError)


@pytest.mark.parametrize("column", ["study_type", "patient", "views", "label"])
def test_missing_column_is_named(train, column):
    assert_refused(train.drop(columns=column), column)


def test_one_class_and_unlabelled_and_odd_labels_are_refused(train):
    assert_refused(train[train.label == 1], "abnormal|one class|only")
    unlabelled = train.copy()
    unlabelled.loc[unlabelled.index[0], "label"] = pd.NA
    assert_refused(unlabelled, "label")
    assert_refused(
        train.assign(label=[2, 1] * (len(train) // 2)),
        "expected label 0 .normal. or 1 .abnormal., got 2",
    )


def test_study_without_views_and_study_twice_are_refused(train):
    empty = train.copy()
    empty.at[empty.index[2], "views"] = ()
    assert_refused(empty, "view")
    assert_refused(pd.concat([train, train.iloc[:1]]), "twice|duplicate|once")


@pytest.mark.parametrize("damage", ["missing", "zero bytes", "truncated", "text"])
def test_damaged_view_is_named_before_the_first_epoch(train, tmp_path, damage):
    source = Path(train["views"].iloc[0][0])
    path = tmp_path / "damaged.png"
    content = {"zero bytes": b"", "truncated": source.read_bytes()[:-900], "text": b"hello"}
    if damage in content:
        path.write_bytes(content[damage])
    table = train.copy()
    table.at[table.index[3], "views"] = (str(path),)
    assert_refused(table, "damaged.png", kind=(ValueError, FileNotFoundError))


def test_damaged_validation_view_is_named_before_the_first_epoch(train, valid, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"hello")
    table = valid.copy()
    table.at[table.index[3], "views"] = (str(tmp_path / "damaged.png"),)
    assert_refused(train, "damaged.png", train_split=ValidStudies(table))


def test_view_that_breaks_in_prediction_is_named(fitted, valid, tmp_path):
    (tmp_path / "damaged.png").write_bytes(b"hello")
    table = valid.copy()
    table.at[table.index[3], "views"] = (str(tmp_path / "damaged.png"),)
    with pytest.raises(ValueError, match="damaged.png"):
        fitted.predict(table)


@pytest.mark.parametrize(
    "params",
    [
        *[{"module__max_views": 1}, {"module__augment": None}, {"module__weights": "elsewhere"}],
        *[{"criterion__level": "view"}, {"batch_size": 3}, {"lr": 1.0}, {"max_epochs": 9}],
        *[{"train_split": None}, {"random_state": 5}, {"dataset": StudyDataset}],
    ],
    ids=str,
)
def test_fitted_model_keeps_its_weights_whatever_is_set(fitted, valid, tmp_path, params):
    fitted.save(tmp_path)
    net = MuraClassifier.load(tmp_path, module=TinyNet)
    before = {key: value.clone() for key, value in net.module_.state_dict().items()}
    weight = net.criterion_.class_weight.clone()
    net.set_params(**params)
    assert all(torch.equal(net.module_.state_dict()[key], before[key]) for key in before)
    assert torch.equal(net.criterion_.class_weight, weight)
    assert np.allclose(net.predict_proba(valid), fitted.predict_proba(valid), atol=1e-6)
    if "module__max_views" in params:
        assert net.module_.max_views == 1


def test_types_of_an_earlier_call_keep_their_class_weights(train):
    hands, wrists = (train[train["study_type"] == name] for name in ("XR_HAND", "XR_WRIST"))
    net = tiny_classifier(max_epochs=1, train_split=None).fit(wrists[:-3])
    weight = net.criterion_.class_weight[0].tolist()
    assert weight != [0.5, 0.5]
    net.partial_fit(hands[:-3])
    assert net.study_types_ == ["XR_HAND", "XR_WRIST"]
    own = tiny_classifier(max_epochs=1, train_split=None).fit(hands[:-3]).criterion_.class_weight
    assert net.criterion_.class_weight.tolist() == [own[0].tolist(), weight, [0.5, 0.5]]


def test_later_call_never_validates_on_patients_that_an_earlier_one_trained_on(train):
    net = tiny_classifier(max_epochs=1).fit(train[::2])
    net.partial_fit(train[::2])  # the same patients are held out again
    with pytest.raises(ValueError, match="never trained on, got"):
        net.set_params(train_split=PatientSplit(0.5, random_state=3)).partial_fit(train[::2])


def test_patients_of_an_earlier_call_are_known_under_any_spelling(train):
    numbers = pd.factorize(train["patient"])[0]
    net = tiny_classifier(max_epochs=1, train_split=None).fit(train.assign(patient=numbers))
    held_out = train.assign(patient=[f" {number}.0" for number in numbers])
    with pytest.raises(ValueError, match="never trained on, got"):
        net.set_params(train_split=PatientSplit(0.5)).partial_fit(held_out)


def test_predictions_cannot_be_shuffled(fitted, valid, tmp_path):
    fitted.save(tmp_path)
    net = MuraClassifier.load(tmp_path, module=TinyNet).set_params(iterator_valid__shuffle=True)
    with pytest.raises(ValueError, match="in the order of the studies"):
        net.predict_proba(valid)


def test_own_schedule_replaces_the_default_one_after_callbacks_are_set(train):
    own = ("own", LRScheduler(StepLR, step_size=1, gamma=0.5))
    net = tiny_classifier(callbacks=[own], lr=1e-3, max_epochs=1).fit(train)
    net.set_params(callbacks__plateau__patience=0).partial_fit(train)
    assert "plateau" not in dict(net.callbacks_)


def test_callbacks_that_record_an_epoch_come_last():
    own = [("stop", EarlyStopping()), ("own", NeverTrained())]
    net = tiny_classifier(callbacks=own, callbacks__mlflow__log_model=False).initialize()
    names = [name for name, _ in net.callbacks_]
    assert names[-3:] == ["training_checkpoint", "mlflow", "print_log"]
    assert set(names[:-3]) > {"best", "threshold", "stop", "own"}


def test_callback_of_a_fitted_model_can_be_taken_out(train):
    net = tiny_classifier(callbacks__mlflow__log_model=False, max_epochs=1).fit(train)
    net.set_params(callbacks__mlflow=None).partial_fit(train)
    assert "mlflow" not in dict(net.callbacks_)
    assert len(net.history) == 2


def test_datasets_and_loaders_of_a_fitted_model_can_be_set(train, valid, tmp_path):
    net = tiny_classifier().fit(train)
    before = net.predict_proba(valid)
    weight = net.module_.head.weight
    net.set_params(dataset__cache=tmp_path, iterator_valid__num_workers=1, callbacks__mlflow=None)
    assert np.array_equal(net.predict_proba(valid), before)
    assert list(tmp_path.glob("*.npy"))
    assert net.module_.head.weight is weight
    net.set_params(dataset__image_size=40)
    assert not np.array_equal(net.predict_proba(valid), before)


@pytest.mark.parametrize("params", [{"precision": "float16"}, {"criterion__level": "image"}])
def test_unknown_setting_is_refused(train, params):
    assert_refused(train, "expected", **params)


# --- arithmetic ------------------------------------------------------------------------------


def test_half_precision_agrees_with_single_on_trained_weights(train, valid, tmp_path):
    net = tiny_classifier(max_epochs=4).fit(train)
    net.save(tmp_path)
    half = MuraClassifier.load(tmp_path, module=TinyNet, precision="bfloat16")
    np.testing.assert_allclose(half.predict_proba(valid), net.predict_proba(valid), atol=0.02)


def test_augmentation_can_be_set_and_switched_off(train):
    none = tiny_classifier(module__augment=None, max_epochs=1).fit(train)
    some = tiny_classifier(module__augment=Augment(degrees=30), max_epochs=1).fit(train)
    assert not equal_weights(weights_of(none), weights_of(some))


@pytest.mark.slow
def test_densenet_169_trains_on_real_wrists(real_root):
    from mura_skorch import read_studies

    studies = read_studies(real_root)
    train, valid = (studies[studies.split == split] for split in ("train", "valid"))
    net = MuraClassifier(
        module__weights=None,
        dataset__image_size=48,
        max_epochs=1,
        callbacks__mlflow=None,
        random_state=0,
    ).fit(train)
    assert np.isfinite(net.history[:, ("train_loss", "valid_loss")]).all()
    proba = net.predict_proba(valid)
    assert proba.shape == (55, 2)
    assert np.isfinite(proba).all()
    assert os.environ["MURA_SKORCH_REAL_DATA"]


def test_caveat_stays_with_a_model_that_is_trained_on(train, tmp_path):
    clean = train.drop(columns="note")
    clf = tiny_classifier(max_epochs=1).fit(train)
    clf.partial_fit(clean)
    assert clf.note_ == "phantoms: no clinical meaning"
    clf.save(tmp_path / "model")
    tuned = tiny_classifier(max_epochs=1, module__weights=str(tmp_path / "model")).fit(clean)
    assert tuned.note_ == "phantoms: no clinical meaning"
    assert clf.fit(clean).note_ is None


def test_saved_model_keeps_its_seed_and_leaves_the_cache_behind(train, valid, tmp_path):
    clf = tiny_classifier(max_epochs=1, random_state=None, dataset__cache=tmp_path / "cache")
    expected = clf.fit(train).predict_proba(valid)
    clf.save(tmp_path / "model")
    shutil.rmtree(tmp_path / "cache")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    assert loaded.seed_ == clf.seed_
    assert np.array_equal(loaded.predict_proba(valid), expected)
    assert not (tmp_path / "cache").exists()
    assert "cache" not in (tmp_path / "model" / "model.json").read_text()


def test_repr_shows_what_differs_from_the_defaults(train):
    assert repr(MuraClassifier()) == "MuraClassifier()"
    clf = MuraClassifier(lr=1e-3, callbacks__mlflow=None, module=TinyNet)
    assert repr(clf) == "MuraClassifier(module=TinyNet, lr=0.001, callbacks__mlflow=None)"
    assert "Conv2d" not in repr(tiny_classifier(max_epochs=1).fit(train))
