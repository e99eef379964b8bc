import mlflow
import pytest
from nets import tiny_classifier
from skorch.callbacks import EarlyStopping

from mura_skorch import MuraClassifier
from mura_skorch.callbacks import Pruning, StatelessCallback
from mura_skorch.training.checkpoint_file import read_header


class Trial:
    """What a trial of Optuna is asked: it wants to be pruned after a step."""

    def __init__(self, last=99):
        self.last = last
        self.reported = {}

    def report(self, value, step):
        self.reported[step] = value

    def should_prune(self):
        return max(self.reported) >= self.last


class AwayTrial(Trial):
    """A trial whose storage does not answer for a while."""

    n_calls = 0

    def report(self, value, step):
        self.n_calls += 1
        if self.n_calls < 3:
            raise ConnectionError("the storage is away")
        super().report(value, step)


class Failing(StatelessCallback):
    """Raise in the given hook, after the given number of epochs."""

    def __init__(self, hook, n_epochs=0):
        self.hook = hook
        self.n_epochs = n_epochs

    def on_epoch_begin(self, net, **kwargs):
        if self.hook == "on_epoch_begin" and len(net.history) > self.n_epochs:
            raise RuntimeError("a crash")

    def on_train_end(self, net, **kwargs):
        if self.hook == "on_train_end":
            raise RuntimeError("a crash")


def classifier(trial, *more, **params):
    return tiny_classifier(max_epochs=4, callbacks=[("pruning", Pruning(trial)), *more], **params)


def test_every_epoch_is_reported(train):
    trial = Trial()
    clf = classifier(trial).fit(train)
    assert trial.reported == {row["epoch"]: row["valid_loss"] for row in clf.history}
    assert len(trial.reported) == 4
    assert not clf.pruned_


def test_pruned_fit_returns_and_loses_no_epoch(train, mlflow_store):
    clf = classifier(Trial(last=2), callbacks__mlflow__run_name="pruned", checkpoint_path="state")
    clf.fit(train)
    assert clf.pruned_
    assert not clf.interrupted_
    assert len(clf.history) == 2
    run = mlflow.get_run(clf.run_id_)
    assert run.info.status == "FINISHED"
    assert run.data.tags["pruned"] == "true"
    logged = mlflow.MlflowClient().get_metric_history(clf.run_id_, "valid_loss")
    assert [point.step for point in logged] == [1, 2]
    assert not run.outputs.model_outputs
    assert read_header("state")["n_epochs"] == 2


def test_pruned_fit_has_the_weights_of_its_best_epoch(train):
    clf = classifier(Trial(last=3)).fit(train)
    best = min(range(3), key=lambda epoch: clf.history[epoch, "valid_loss"]) + 1
    again = tiny_classifier(max_epochs=best).fit(train)
    assert (clf.predict_proba(train) == again.predict_proba(train)).all()


def test_later_fit_of_a_pruned_classifier_is_not_pruned(train):
    trial = Trial(last=1)
    clf = classifier(trial).fit(train)
    trial.last = 99
    assert not clf.fit(train).pruned_


def test_early_stopping_is_no_pruning(train):
    stop = ("stop", EarlyStopping(patience=1, threshold=10, threshold_mode="abs"))
    clf = classifier(Trial(), stop).fit(train)
    assert len(clf.history) < 4
    assert not clf.pruned_


def test_resumed_fit_reports_the_epochs_of_its_checkpoint_to_a_new_trial(train):
    with pytest.raises(RuntimeError, match="a crash"):
        classifier(Trial(), ("failing", Failing("on_epoch_begin", 2)), checkpoint_path="state").fit(
            train
        )
    trial = Trial()
    clf = classifier(trial, ("failing", Failing("none")), checkpoint_path="state").fit(train)
    assert trial.reported == {row["epoch"]: row["valid_loss"] for row in clf.history}
    assert list(trial.reported) == [1, 2, 3, 4]


def test_fit_that_was_killed_when_it_was_pruned_trains_no_further(train):
    with pytest.raises(RuntimeError, match="a crash"):
        classifier(
            Trial(last=2), ("failing", Failing("on_train_end")), checkpoint_path="state"
        ).fit(train)
    trial = Trial()
    clf = classifier(trial, ("failing", Failing("none")), checkpoint_path="state").fit(train)
    assert clf.pruned_
    assert list(trial.reported) == [1, 2]


def test_finished_pruned_fit_is_loaded_as_pruned(train):
    classifier(Trial(last=2), checkpoint_path="state").fit(train)
    clf = classifier(Trial(), checkpoint_path="state").fit(train)
    assert clf.pruned_
    assert len(clf.history) == 2


def test_storage_that_is_away_does_not_end_the_fit(train, caplog):
    trial = AwayTrial()
    clf = classifier(trial).fit(train)
    assert len(clf.history) == 4
    assert list(trial.reported) == [1, 2, 3, 4]
    assert "training continues: the storage is away" in caplog.text


def test_run_does_not_record_the_trial(train, mlflow_store):
    clf = classifier(Trial(), callbacks__mlflow__run_name="trial").fit(train)
    params = mlflow.get_run(clf.run_id_).data.params
    assert params["callbacks__pruning"] == "Pruning"
    assert "callbacks__pruning__trial" not in params


def test_monitor_that_is_not_in_the_history_is_named(train):
    clf = MuraClassifier(**tiny_classifier().get_params(deep=False))
    clf.set_params(callbacks=[("pruning", Pruning(Trial(), "valid_f1"))])
    with pytest.raises(ValueError, match="expected 'valid_f1' in the history"):
        clf.fit(train)
