import logging
import os
import shutil
import time

import numpy as np
import pandas as pd
import pytest
import torch
from nets import TinyNet, tiny_classifier
from sklearn.metrics import cohen_kappa_score
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch.optim.lr_scheduler import StepLR

from mura_skorch import MuraClassifier, ValidStudies
from mura_skorch.callbacks import CpuUtilisation, EpochLine, StatelessCallback, training_callbacks
from mura_skorch.data import studies_of
from mura_skorch.studies import explode_views


class Script(Callback):
    """Put scripted validation losses in the place of the measured ones."""

    def __init__(self, losses, name="valid_loss"):
        self.losses = losses
        self.name = name

    def initialize(self):
        self.best_ = np.inf
        return self

    def on_train_begin(self, net, is_comparable=True, **kwargs):
        if not is_comparable:
            self.best_ = np.inf

    def on_epoch_end(self, net, **kwargs):
        loss = self.losses[len(net.history) - 1]
        net.history.record(self.name, loss)
        net.history.record(self.name + "_best", bool(loss < self.best_))
        self.best_ = min(self.best_, loss) if loss == loss else self.best_


class Spy(Callback):
    """Keep a copy of the weights of every epoch."""

    def initialize(self):
        self.weights_ = []
        return self

    def on_epoch_end(self, net, **kwargs):
        state = net.module_.state_dict()
        self.weights_.append({key: value.clone() for key, value in state.items()})


def scripted(losses, **params):
    return tiny_classifier(callbacks__valid_loss=Script(losses), max_epochs=len(losses), **params)


def same_weights(net, weights):
    return all(torch.equal(value, weights[key]) for key, value in net.module_.state_dict().items())


@pytest.mark.parametrize(
    ("losses", "rates"),
    [
        ([5, 4, 3, 2, 1], [1, 1, 1, 1, 1]),
        ([5, 6, 6, 4, 3], [1, 1, 1, 0.1, 0.1]),
        ([5, 6, 4, 6, 3], [1, 1, 1, 1, 1]),
        ([5, 6, 6, 6, 6, 6], [1, 1, 1, 0.1, 0.1, 0.01]),
    ],
)
def test_rate_drops_tenfold_after_two_epochs_without_improvement(train, losses, rates):
    net = scripted(losses, lr=1e-3).fit(train)
    assert net.history[:, "event_lr"] == pytest.approx([1e-3 * rate for rate in rates])


def test_patience_can_be_set(train):
    net = scripted([5, 6, 6, 6], lr=1e-3, callbacks__plateau__patience=0).fit(train)
    assert net.history[:, "event_lr"] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-5])


def own_schedule():
    return LRScheduler(StepLR, step_size=1, gamma=0.5)


@pytest.mark.parametrize("name", [None, "own", "plateau"])
def test_schedule_of_ones_own_replaces_the_plateau(train, name, caplog):
    caplog.set_level(logging.INFO)
    given = own_schedule() if name is None else (name, own_schedule())
    net = scripted([5, 6, 6, 6], lr=1e-3, callbacks=[given]).fit(train)
    assert net.history[:, "event_lr"] == pytest.approx([1e-3, 5e-4, 2.5e-4, 1.25e-4])
    said = [r.message for r in caplog.records if "replaces the default schedule" in r.message]
    assert len(said) == (name != "plateau")


def test_two_schedules_run_at_once_where_both_are_asked_for(train):
    net = scripted(
        [5, 6], lr=1e-3, callbacks=[own_schedule()], callbacks__plateau=own_schedule()
    ).fit(train)
    assert net.history[:, "event_lr"] == pytest.approx([1e-3, 2.5e-4])


def test_plateau_can_be_switched_off_beside_a_schedule_of_ones_own(train):
    net = tiny_classifier(callbacks=[own_schedule()]).set_params(callbacks__plateau=None)
    assert net.fit(train).history[:, "event_lr"] == pytest.approx([1e-3, 5e-4])


def test_without_validation_the_training_loss_drives_the_rate(train):
    net = tiny_classifier(
        train_split=None, callbacks__train_loss=Script([5, 6, 6, 6], "train_loss"), max_epochs=4
    ).fit(train)
    assert net.history[:, "event_lr"] == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4])
    assert "event_cp" not in net.history[-1]


def test_best_weights_come_back_and_the_whole_history_stays(train):
    net = scripted([3, 1, 2, 4], callbacks=[("spy", Spy())]).fit(train)
    weights = dict(net.callbacks_)["spy"].weights_
    assert same_weights(net, weights[1])
    assert not same_weights(net, weights[3])
    assert len(net.history) == 4
    assert net.history[:, "event_cp"] == [True, True, False, False]


def test_best_model_is_kept_in_a_fresh_folder_per_fit_that_load_takes(train, valid, tmp_path):
    net = scripted([3, 1, 2], callbacks__best__dirname=tmp_path / "best")
    first = net.fit(train).predict_proba(valid)
    folder = dict(net.callbacks_)["best"].folder_
    assert folder.parent == tmp_path / "best"
    loaded = MuraClassifier.load(folder, module=TinyNet)
    assert np.array_equal(loaded.predict_proba(valid), first)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    net.fit(train)
    assert len(list((tmp_path / "best").iterdir())) == 2


def test_temporary_folder_is_removed(train):
    net = scripted([3, 1]).fit(train)
    assert not dict(net.callbacks_)["best"].folder_.exists()


def test_fit_without_a_finite_loss_raises_and_restores_no_other_fits_weights(train, tmp_path):
    kept = tmp_path / "best"
    scripted([3, 1], callbacks__best__dirname=kept).fit(train)
    nan = float("nan")
    with pytest.raises(RuntimeError, match=r"finite validation loss.*nan, nan.*lower lr"):
        scripted([nan, nan], callbacks__best__dirname=kept).fit(train)


def test_fit_that_raises_leaves_no_temporary_folder(train):
    class Fails(Callback):
        def on_epoch_begin(self, net, **kwargs):
            if len(net.history) == 2:
                raise ZeroDivisionError

    net = scripted([3, 1], callbacks=[Fails()])
    with pytest.raises(ZeroDivisionError):
        net.fit(train)
    assert not dict(net.callbacks_)["best"].folder_.exists()


class Vandal(Callback):
    """Put a file in the place of the folder of the best weights."""

    def on_epoch_begin(self, net, **kwargs):
        folder = dict(net.callbacks_)["best"].folder_
        shutil.rmtree(folder)
        folder.write_text("in the way")


def test_failing_to_save_raises(train, tmp_path):
    net = scripted([3, 1], callbacks=[Vandal()], callbacks__best__dirname=tmp_path)
    with pytest.raises(OSError, match="fit-"):
        net.fit(train)


def test_partial_fit_that_validates_on_other_studies_keeps_its_own_best(train, valid):
    net = scripted([3, 1, 5, 4], callbacks=[("spy", Spy())], train_split=ValidStudies(valid))
    net.set_params(max_epochs=2).fit(train)
    others = ValidStudies(valid.iloc[: len(valid) // 2])
    net.set_params(train_split=others).partial_fit(train)
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[3])
    assert net.history[:, "valid_loss_best"] == [True, True, True, True]


def test_partial_fit_under_other_class_weights_keeps_its_own_best(train, valid):
    net = scripted([3, 1, 5, 4], callbacks=[("spy", Spy())], train_split=ValidStudies(valid))
    net.set_params(max_epochs=2).fit(train)
    weight = net.criterion_.class_weight.clone()
    net.partial_fit(train.drop(train.index[train["label"] == 0][:3]))
    assert not torch.equal(net.criterion_.class_weight, weight)
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[3])
    assert net.history[:, "valid_loss_best"] == [True, True, True, True]


def test_partial_fit_keeps_the_best_where_only_types_that_are_not_validated_weigh_otherwise(train):
    hands, wrists = (train[train["study_type"] == name] for name in ("XR_HAND", "XR_WRIST"))
    is_held_out = hands["patient"].isin(hands["patient"].iloc[:4])
    held_out, rest = hands[is_held_out], hands[~is_held_out]
    wrists = wrists[~wrists["patient"].isin(held_out["patient"])]
    net = scripted([3, 1, 5, 4], callbacks=[("spy", Spy())], train_split=ValidStudies(held_out))
    net.set_params(max_epochs=2).fit(rest)
    net.partial_fit(pd.concat([rest, wrists]))
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[1])


def test_partial_fit_that_finds_nothing_better_keeps_the_best(train):
    net = scripted([3, 1, 5, 5], callbacks=[("spy", Spy())])
    net.set_params(max_epochs=2).fit(train)
    net.partial_fit(train)
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[1])
    assert len(net.history) == 4


def test_early_stopping_restores_the_best_and_is_no_interruption(train):
    stop = EarlyStopping(patience=2)
    net = scripted([3, 1, 2, 2, 2, 2], callbacks=[("spy", Spy()), ("stop", stop)]).fit(train)
    assert len(net.history) == 4
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[1])
    assert not net.interrupted_


class CtrlC(StatelessCallback):
    """Send a real SIGINT in the given epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == self.epoch:
            os.kill(os.getpid(), 2)


def test_ctrl_c_ends_the_fit_with_the_best_weights_so_far(train):
    net = scripted([3, 1, 0, 0], callbacks=[("spy", Spy()), CtrlC(3)]).fit(train)
    assert net.interrupted_
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[1])


def test_ctrl_c_in_the_first_epoch_ends_the_fit(train, valid):
    net = tiny_classifier(callbacks=[CtrlC(1)]).fit(train)
    assert net.interrupted_
    assert net.predict_proba(valid).shape == (len(valid), 2)


def test_scores_are_those_of_the_restored_model_on_its_validation_part(train):
    net = tiny_classifier(max_epochs=3, lr=1e-2).fit(train)
    best = [row for row in net.history if row["event_cp"]][-1]
    held_out = studies_of(net.get_split_datasets(train)[1])
    y_true, y_pred = held_out["label"].astype(int), net.predict(held_out)
    assert best["valid_acc"] == pytest.approx((y_true == y_pred).mean())
    kappa = cohen_kappa_score(y_true, y_pred, labels=[0, 1])
    assert best["valid_kappa"] == pytest.approx(kappa, nan_ok=True)
    counts = [best[f"valid_confusion/{name}"] for name in ("tn", "fp", "fn", "tp")]
    assert sum(counts) == len(held_out)
    assert best["valid_confusion/tp"] == ((y_true == 1) & (y_pred == 1)).sum()


def test_pooled_fit_scores_each_study_type_and_a_single_one_does_not(fitted, train):
    assert {"valid_kappa/XR_HAND", "valid_kappa/XR_WRIST"} <= set(fitted.history[-1])
    wrists = train[train.study_type == "XR_WRIST"]
    net = tiny_classifier(max_epochs=1).fit(wrists)
    assert not any("/XR_" in key for key in net.history[-1])


def test_scores_of_single_views_never_go_by_the_names_of_those_of_studies(train, valid, capsys):
    split = ValidStudies(explode_views(valid))
    lines = [("lines", EpochLine("exploded"))]
    net = tiny_classifier(max_epochs=1, train_split=split, verbose=1, callbacks=lines)
    net.fit(explode_views(train))
    row = net.history[-1]
    assert {"train_view_acc", "valid_view_acc", "valid_view_kappa", "valid_view_kappa/XR_HAND",
            "valid_view_confusion/tp", "valid_view_kappa_best"} <= set(row)  # fmt: skip
    assert not any(key.startswith(("valid_kappa", "valid_acc", "train_acc")) for key in row)
    printed = capsys.readouterr().out
    assert f"valid_view_kappa {row['valid_view_kappa']:.3f}" in printed  # the line
    assert printed.count("valid_view_kappa") == 2  # and the table's header
    net.fit(train)
    assert {"train_acc", "valid_view_acc"} <= set(net.history[-1])
    net.set_params(train_split=ValidStudies(valid)).fit(train)
    assert not any("_view_" in key for key in net.history[-1])


def test_epoch_table_leaves_out_single_types_and_counts(train, capsys):
    tiny_classifier(max_epochs=1, verbose=1).fit(train)
    printed = capsys.readouterr().out
    assert "valid_kappa" in printed
    legend, header, *_ = printed.splitlines()
    assert legend.startswith("acc: share called right; kappa: agreement")
    assert header.split()[0] == "epoch"
    assert "/" not in header


def test_columns_of_the_epochs_are_explained_once_and_not_by_a_silent_fit(train, capsys):
    net = tiny_classifier(max_epochs=2, verbose=1).fit(train)
    net.partial_fit(train)
    assert capsys.readouterr().out.count("agreement with labels beyond chance") == 1
    net.set_params(verbose=0).fit(train)
    assert capsys.readouterr().out == ""


def test_every_fit_has_callbacks_of_its_own():
    first, second = training_callbacks(), training_callbacks()
    assert [name for name, _ in first] == [name for name, _ in second]
    assert not {id(callback) for _, callback in first} & {id(callback) for _, callback in second}


def test_parameters_of_callbacks_are_those_of_their_signatures(train):
    net = tiny_classifier(max_epochs=1, callbacks__mlflow__log_model=False).fit(train)
    for _, callback in net.callbacks_:
        for name in callback.get_params():
            assert not name.endswith("_"), f"{callback} leaks {name}"


class OnTwoThreads:
    """What the callback reads of a net."""

    device, verbose, history = "cpu", 1, [{}]


def epoch_of(work, capsys, **params):
    """Return what is printed after an epoch of one minibatch that does some work."""
    callback, net = CpuUtilisation(min_seconds=0, **params), OnTwoThreads()
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        callback.on_train_begin(net)
        for _ in range(2):
            callback.on_epoch_begin(net)
            callback.on_batch_begin(net)
            work()
            callback.on_batch_end(net)
            callback.on_epoch_end(net)
    finally:
        torch.set_num_threads(threads)
    return capsys.readouterr().out


def test_threads_that_wait_for_cores_are_reported_once_with_a_remedy(capsys):
    printed = epoch_of(lambda: time.sleep(0.05), capsys)
    assert printed.count("2 threads computed on 0.0 cores") == 1
    assert "OMP_NUM_THREADS=1" in printed


def test_threads_that_compute_are_not_reported(capsys):
    def compute():
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass

    assert epoch_of(compute, capsys, lowest=0.02) == ""


def test_short_epochs_and_silent_fits_report_no_waiting_threads(capsys, train):
    tiny_classifier(callbacks__cpu_utilisation__lowest=99).fit(train)
    tiny_classifier(callbacks__cpu_utilisation__min_seconds=0, verbose=0).fit(train)
    assert "threads computed" not in capsys.readouterr().out


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_threads_that_the_quota_takes_away_are_not_reported_as_waiting(capsys, train):
    cores, threads = os.sched_getaffinity(0), torch.get_num_threads()
    torch.set_num_threads(3)
    os.sched_setaffinity(0, {min(cores)})
    try:
        tiny_classifier(
            callbacks__cpu_utilisation__min_seconds=0,
            callbacks__cpu_utilisation__lowest=99,
            verbose=1,
        ).fit(train)
    finally:
        os.sched_setaffinity(0, cores)
        torch.set_num_threads(threads)
    assert "threads computed" not in capsys.readouterr().out
