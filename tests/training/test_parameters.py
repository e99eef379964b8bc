"""Wrong names and values of parameters are reported before anything is read, fetched or logged."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from nets import TinyNet, tiny_classifier
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, GroupKFold
from skorch.callbacks import Checkpoint, EarlyStopping, EpochScoring, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR
from torch.utils.data import BatchSampler, RandomSampler, WeightedRandomSampler

from mura_skorch import MuraClassifier, StudyNetwork, StudyTypeBCE
from mura_skorch.data import StudyDataset
from mura_skorch.training.net import StudyNet
from mura_skorch.training.parameters import check_parameters

DEFAULT = MuraClassifier().module__weights
NAMES = {
    "max_epoch": "max_epochs",
    "epochs": "max_epochs",
    "learning_rate": "lr",
    "weights": "module__weights",
    "module_weights": "module__weights",
    "module__weight": "module__weights",
    "modul__weights": "module__weights",
    "image_size": "dataset__image_size",
    "dataset__imagesize": "dataset__image_size",
    "dataset__on_bad_view": "on_bad_view",
    "criterion__levl": "criterion__level",
    "iterator_train__num_worker": "iterator_train__num_workers",
    "optimizer__weight_deca": "optimizer__weight_decay",
    "weight_decay": "optimizer__weight_decay",
    # Switches of the record: no run may begin that was meant to be off.
    **dict.fromkeys(["callbacks__mlfow", "callbacks__MLflow", "mlflow"], "callbacks__mlflow"),
    "callbacks__plateu": "callbacks__plateau",
    "callbacks__plateau__patienc": "callbacks__plateau__patience",
}


def refused(kind=(TypeError, ValueError), match="", **params):
    """Assert that fit refuses parameters before it looks at the table, which is none."""
    with pytest.raises(kind, match=match):
        MuraClassifier(**params).fit("no table")


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_unknown_name_is_refused_with_the_one_that_was_meant(name):
    for use in (
        lambda: MuraClassifier(**{name: None}).fit("no table"),
        lambda: MuraClassifier(**{name: None}).partial_fit("no table"),
        lambda: MuraClassifier(**{name: None}).initialize(),
        lambda: MuraClassifier().set_params(**{name: None}),
    ):
        with pytest.raises(ValueError, match=rf"got {name}: did you mean {NAMES[name]}\?"):
            use()


def test_all_unknown_names_are_told_at_once():
    refused(ValueError, "max_epoch: did you mean max_epochs.*; .*sample: did you mean", max_epoch=1,
            iterator_train__sample=None)  # fmt: skip


def test_name_that_resembles_none_is_answered_with_those_there_are():
    refused(ValueError, "StudyNetwork takes weights, backbone", module__zzz=1)
    refused(ValueError, "there are epoch_timer, train_loss", callbacks__zzz=None)
    refused(ValueError, "got zzz, which is none", zzz=1)


def test_names_are_those_of_the_classes_in_use():
    class Other(TinyNet):
        def __init__(self, dropout=0.1, **kwargs):
            super().__init__(**kwargs)

    class Closed(TinyNet):
        def __init__(self, weights=None, dropout=0.1):
            super().__init__(weights)

    class WithParameter(MuraClassifier):
        def __init__(self, *args, site="here", **kwargs):
            super().__init__(*args, **kwargs)
            self.site = site

    settings = {"dataset__image_size": 32}
    check_parameters(MuraClassifier(Other, module__dropout=0.2, module__anything=1, **settings))
    check_parameters(MuraClassifier(Closed, module__dropout=0.2, **settings))
    check_parameters(WithParameter(site="there"))
    check_parameters(clone(WithParameter(site="there", module__augment=None)))
    refused(ValueError, "Closed takes weights, dropout", module=Closed, module__memory=1)
    check_parameters(MuraClassifier(callbacks=[("auc", EpochScoring("roc_auc"))],
                                    callbacks__auc__on_train=True))  # fmt: skip
    check_parameters(MuraClassifier(optimizer="SGD", optimizer__momentum=0.9))
    refused(ValueError, "optimizer__momentum", optimizer__momentum=0.9)  # Adam has none


def test_defaults_reach_no_class_that_does_not_know_them(train, valid):
    class Plain(nn.Module):
        """Neither weights nor augment are among its arguments."""

        def __init__(self):
            super().__init__()
            self.network = TinyNet()

        def forward(self, **batch):
            return self.network(**batch)

    clf = tiny_classifier(module=Plain, module__weights=DEFAULT, max_epochs=1)
    assert clf.fit(train).predict_proba(valid).shape == (len(valid), 2)


def test_module_that_is_given_ready_made_is_trained_from_where_it_was(train):
    module = TinyNet()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    clf = tiny_classifier(module=module, module__weights=DEFAULT, max_epochs=1)
    first = clf.fit(train).module_.state_dict()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    again = clf.fit(train).module_.state_dict()
    assert all(torch.equal(value, first[key]) for key, value in again.items())


def test_schedule_is_asked_for_what_its_policy_takes():
    refused(ValueError, "CosineAnnealingLR takes in the schedule plateau.*factor, patience.*whole",
            callbacks__plateau__policy=CosineAnnealingLR)  # fmt: skip
    refused(ValueError, "another schedule whole", callbacks__plateau__T_max=3)
    cosine = LRScheduler(CosineAnnealingLR, T_maxx=3)
    refused(ValueError, "T_maxx", callbacks=[("cosine", cosine)])
    refused(ValueError, "T_max", callbacks__plateau=LRScheduler("CosineAnnealingLR"))
    check_parameters(MuraClassifier(callbacks__plateau=LRScheduler(CosineAnnealingLR, T_max=3)))


# --- values ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "dataset__image_size": [32.0, "32", (32, 32), 0, True, None],
        "lr": ["1e-3", -1e-3, float("nan"), float("inf"), None, True],
        "batch_size": [0, -2, 2.0, "8", True],
        "iterator_train__batch_size": [0, 2.5],
        "iterator_train__num_workers": [-1, 1.0],
        "iterator_valid__num_workers": ["2"],
        "iterator_valid__drop_last": [True],
        "iterator_valid__shuffle": [True],
        "max_epochs": [0, -1, 1.0, "10", True],
        "accumulate": [0, 1.5, "2"],
        "max_bad_share": [-0.1, 1.1, "0.1", None],
        "precision": ["float16", None, 32],
        "on_bad_view": ["ignore", None],
        "criterion__level": ["image", None],
        "criterion__count": ["patients"],
        "train_split": [1.5, 0.0, 5, True, "0.2", "valid.csv", StudyDataset],
        "dataset__cache": [True, 3, ""],
        "checkpoint_path": [True, ""],
        "random_state": ["0", 0.0, -1, 2**64, True],
        "module__max_views": [0, 2.5, "8"],
        "module__augment": ["flip"],
        "module__weights": [True, 3],
        "module": ["resnet50"],
        "criterion": ["BCE", nn.MSELoss, nn.CrossEntropyLoss],
        "dataset": [None],
        "optimizer": ["AdamX", None, torch.optim.LBFGS, "lbfgs"],
        "optimizer__weight_decay": ["0.01", -1.0],
        "threshold": ["best", 1.5],
        "predict_nonlinearity": [None, "sigmoid"],
        "device": ["gpu", 0],
        "callbacks": [EarlyStopping()],
        "callbacks__mlflow": [False],
    }.items(),
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_value_is_refused_with_the_name_of_its_parameter(name, values):
    for value in values:
        refused(match=name.rpartition("__")[2], **{name: value})


def test_error_says_what_to_write_instead():
    refused(ValueError, "of 5 pixels or more.*tiny_densenet takes, got 4", module=TinyNet,
            dataset__image_size=4)  # fmt: skip
    refused(ValueError, "'AdmW'; did you mean AdamW", optimizer="AdmW")
    refused(ValueError, "LBFGS, which evaluates each batch several times", optimizer="LBFGS")
    refused(TypeError, "subclass of torch.nn.BCEWithLogitsLoss, such as StudyTypeBCE",
            criterion=nn.MSELoss)  # fmt: skip
    refused(TypeError, "pass a share such as 0.2, a study table", train_split="valid.csv")


@pytest.mark.slow
def test_smallest_view_of_densenet_169_is_known():
    StudyNetwork.check_image_size(29)
    with pytest.raises(ValueError, match="of 29 pixels or more.*densenet169 takes, got 8"):
        StudyNetwork.check_image_size(8)


def test_message_never_shows_the_rows_of_a_table(train):
    with pytest.raises(TypeError, match="got DataFrame") as caught:
        MuraClassifier(checkpoint_path=train).fit(train)
    assert train["patient"].iloc[0] not in str(caught.value)


def test_gpu_that_is_not_there_is_refused():
    refused(ValueError, "expected device to be a GPU that answers, got 'cuda:63'", device="cuda:63")


def test_views_too_small_for_another_network_are_told_by_their_parameter(train, valid):
    class Halving(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self, views, view_mask, study_type=None):
            return nn.functional.avg_pool2d(views.float(), 64), None

    clf = tiny_classifier(module=Halving, module__weights=DEFAULT).initialize()
    clf.study_types_ = sorted(set(train["study_type"]))
    with pytest.raises(ValueError, match="too small ones; raise dataset__image_size"):
        clf.predict_proba(valid)


def test_checks_change_nothing_and_draw_nothing():
    clf = MuraClassifier(callbacks=[EarlyStopping()], callbacks__plateau__patience=3)
    before, state = clf.get_params(deep=False), torch.get_rng_state()
    check_parameters(clf)
    assert clf.get_params(deep=False) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert not clf.initialized_


def test_numbers_of_numpy_are_numbers(train, valid, tmp_path):
    whole = {"batch_size": 4, "max_epochs": 1, "accumulate": 2, "random_state": 0,
             "dataset__image_size": 32, "module__max_views": 8, "iterator_train__num_workers": 0,
             "callbacks__plateau__patience": 2}  # fmt: skip
    real = {"lr": 0.125, "threshold": 0.25, "max_bad_share": 0.5, "optimizer__weight_decay": 0.5,
            "callbacks__plateau__factor": 0.5}  # fmt: skip
    plain = tiny_classifier(**whole, **real)
    clf = tiny_classifier(
        **{name: np.int64(value) for name, value in whole.items()},
        **{name: np.float32(value) for name, value in real.items()},
        precision=np.str_("float32"),
        train_split=np.float32(0.25),
        checkpoint_path=tmp_path / "state",
    )
    expected = plain.set_params(train_split=0.25).fit(train).predict_proba(valid)
    assert np.array_equal(clf.fit(train).predict_proba(valid), expected)
    # In Python's numbers it is the same fit, which is finished.
    same = plain.set_params(checkpoint_path=tmp_path / "state").fit(train)
    assert np.array_equal(same.predict_proba(valid), expected)
    clf.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), expected)
    clf.set_params(module__max_views=np.int64(2), batch_size=np.int16(3))
    np.testing.assert_allclose(clf.predict_proba(valid), expected, atol=1e-6)


def test_grid_of_numpys_numbers(train):
    grid = {"batch_size": np.array([8, 16]), "lr": np.array([1e-3], dtype=np.float32)}
    net = tiny_classifier(max_epochs=1)
    search = GridSearchCV(net, grid, cv=GroupKFold(2), error_score="raise")
    search.fit(train, train["label"], groups=train["patient"])
    assert search.best_params_["batch_size"] in (8, 16)


# --- habits of skorch, torch and scikit-learn ------------------------------------------------


@pytest.mark.parametrize("name", ["AdamW", "adamw"])
def test_optimizer_by_name_is_the_class_of_torch(train, name, tmp_path):
    by_class = tiny_classifier(optimizer=torch.optim.AdamW, max_epochs=1).fit(train)
    by_name = clone(tiny_classifier(optimizer=name, max_epochs=1)).fit(train)
    assert type(by_name.optimizer_) is torch.optim.AdamW
    assert by_name.history[:, "valid_loss"] == by_class.history[:, "valid_loss"]
    assert by_name.get_params()["optimizer"] == name
    by_name.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet, callbacks__mlflow=None)
    assert loaded.optimizer == name
    assert type(loaded.optimizer_) is torch.optim.AdamW
    assert f"optimizer='{name}'" in repr(loaded)


@pytest.mark.parametrize(
    "criterion", [nn.BCEWithLogitsLoss, nn.BCEWithLogitsLoss(), partial(nn.BCEWithLogitsLoss)]
)
def test_criterion_of_torch_is_the_loss_of_the_studies(train, valid, criterion):
    clf = tiny_classifier(criterion=criterion, max_epochs=1, train_split=valid).fit(train)
    p = clf.predict_proba(valid)[:, 1].astype(float)
    y = valid["label"].to_numpy(dtype=int)
    expected = -np.log(np.where(y == 1, p, 1 - p)).mean()
    assert clf.history[-1, "valid_loss"] == pytest.approx(expected, abs=1e-5)


def test_arguments_of_a_criterion_of_torch_are_its_own(train):
    doubled = {"criterion": nn.BCEWithLogitsLoss, "criterion__pos_weight": torch.tensor(2.0)}
    clf = tiny_classifier(**doubled, max_epochs=1).fit(train)
    assert clf.criterion_.pos_weight == 2
    refused(ValueError, "BCEWithLogitsLoss takes weight", criterion=nn.BCEWithLogitsLoss,
            criterion__level="view")  # fmt: skip


def test_criterion_of_ones_own_without_weights_of_classes(train):
    class Smooth(StudyTypeBCE):
        def fit_weights(self, study_type, label, n_views, study_types):
            self.class_weight = torch.full((len(study_types) + 1, 2), 0.5)

    assert np.isfinite(tiny_classifier(criterion=Smooth).fit(train).history[:, "valid_loss"]).all()


def test_device_none_leaves_everything_where_it_is(train, valid, fitted):
    clf = tiny_classifier(device=None).fit(train)
    assert np.array_equal(clf.predict_proba(valid), fitted.predict_proba(valid))
    assert clone(clf).get_params()["device"] is None
    assert next(clf.module_.parameters()).device.type == "cpu"
    assert clf.precision_ == "float32"


def test_sampler_takes_the_place_of_shuffling(train):
    weights = np.where(train["label"] == 1, 1.0, 0.0)
    seen = []

    class Watching(StudyTypeBCE):
        def forward(self, logits, label, study_type, view_mask):
            seen.extend(label.tolist())
            return super().forward(logits, label, study_type, view_mask)

    def fit(**params):
        seen.clear()
        tiny_classifier(criterion=Watching, train_split=None, max_epochs=1, **params).fit(train)
        return list(seen)

    sampler = WeightedRandomSampler(weights, len(train))
    assert set(fit(iterator_train__sampler=sampler)) == {1.0}
    batches = BatchSampler(RandomSampler(train["views"], num_samples=12), 4, drop_last=False)
    assert len(fit(iterator_train__batch_sampler=batches)) == 12


def test_sampler_of_another_number_of_studies_is_refused(train):
    sampler = WeightedRandomSampler(np.ones(len(train)), 8)
    with pytest.raises(ValueError, match=r"studies of the training part, got one of \d+; with"):
        tiny_classifier(iterator_train__sampler=sampler).fit(train)


@pytest.mark.parametrize("name", ["sampler", "batch_sampler"])
def test_sampler_of_predictions_is_refused(fitted, name):
    refused(ValueError, f"in the order of the studies.*iterator_valid__{name}",
            **{f"iterator_valid__{name}": RandomSampler([1, 2])})  # fmt: skip


def test_batches_that_are_all_left_over_are_told(train):
    params = {"batch_size": 1000, "iterator_train__drop_last": True}
    with pytest.raises(ValueError, match="at least one batch.*batch_size is 1000"):
        tiny_classifier(**params).fit(train)


def test_optimizer_of_a_fitted_model_counts_from_the_next_fit(train):
    clf = tiny_classifier(max_epochs=1).fit(train)
    clf.set_params(optimizer="SGD")
    assert type(clf.optimizer_) is torch.optim.Adam
    assert type(clf.fit(train).optimizer_) is torch.optim.SGD


def test_scores_without_a_cache_are_those_with_one(train):
    scores = [
        ("kept", EpochScoring("roc_auc", lower_is_better=False, name="kept")),
        ("anew", EpochScoring("roc_auc", lower_is_better=False, name="anew", use_caching=False)),
    ]
    clf = tiny_classifier(callbacks=scores).fit(train)
    np.testing.assert_allclose(clf.history[:, "anew"], clf.history[:, "kept"])
    without = tiny_classifier(use_caching=False).fit(train)
    for name in ("valid_kappa", "valid_acc"):
        assert without.history[:, name] == clf.history[:, name]


@pytest.mark.parametrize("monitor", ["valid_acc_best", "valid_kappa_best", "valid_loss_best"])
def test_checkpoint_finds_the_flag_of_each_score(train, monitor, tmp_path):
    checkpoint = Checkpoint(monitor=monitor, dirname=tmp_path, load_best=False)
    clf = tiny_classifier(callbacks=[("checkpoint", checkpoint)]).fit(train)
    flags = clf.history[:, monitor]
    assert flags[0] is True
    best = np.maximum if "loss" not in monitor else np.minimum
    values = np.array(clf.history[:, monitor.removesuffix("_best")])
    new = [True, *(best.accumulate(values)[1:] != best.accumulate(values)[:-1])]
    assert flags == new
    assert (tmp_path / "params.pt").exists()


def test_step_knows_where_it_computes_before_the_network_is_made():
    assert MuraClassifier(device=None).where_ == "cpu"
    assert isinstance(MuraClassifier(), StudyNet)
    assert pd.isna(MuraClassifier(device=None).device)


def test_model_of_one_of_torchs_losses_is_loaded_without_naming_it(train, tmp_path):
    net = tiny_classifier(criterion=nn.BCEWithLogitsLoss, max_epochs=1).fit(train)
    net.save(tmp_path / "model")
    loaded = MuraClassifier.load(tmp_path / "model", module=TinyNet)
    assert loaded.criterion is nn.BCEWithLogitsLoss
    np.testing.assert_array_equal(loaded.predict_proba(train), net.predict_proba(train))
