import multiprocessing
import os
import resource
import signal

import mlflow
import numpy as np
import pytest
import torch
from nets import TinyNet, tiny_classifier
from skorch.callbacks import Callback

from mura_skorch import MuraClassifier
from mura_skorch.callbacks import StatelessCallback
from mura_skorch.training.errors import explained_faults
from tests.callbacks.test_callbacks import Spy, same_weights

pytestmark = pytest.mark.faults


class NanAfter(TinyNet):
    """A network that loses its mind at the given training batch, or at one in validation."""

    def __init__(self, batch=10**9, valid_batch=10**9, **kwargs):
        super().__init__(**kwargs)
        self.left = {True: batch, False: valid_batch}

    def forward(self, views, view_mask, study_type=None):
        self.left[self.training] -= 1
        if self.left[self.training] < 0:
            views = views.float() * torch.nan
        return super().forward(views, view_mask, study_type)


class Witness(Callback):
    """Remember the rows of the last batch."""

    def on_batch_begin(self, net, batch=None, **kwargs):
        self.rows_ = batch[0]["row"].tolist()


class EveryStep(Callback):
    """Keep the weights of every step."""

    def on_train_begin(self, net, **kwargs):
        self.weights_ = None

    def on_grad_computed(self, net, **kwargs):
        self.weights_ = {k: v.clone() for k, v in net.module_.state_dict().items()}


# --- a loss that is not finite -------------------------------------------------------------------


def test_loss_that_is_not_finite_names_the_batchs_studies_and_what_to_change(train):
    net = tiny_classifier(
        module=NanAfter, module__batch=9, batch_size=4, callbacks=[("seen", Witness())]
    )
    with pytest.raises(FloatingPointError, match=r"finite loss, got nan in epoch 2.*lower lr") as e:
        net.fit(train)
    rows = dict(net.callbacks_)["seen"].rows_
    assert len(rows) == 4
    named = str(e.value).split("the studies ")[1].split(". Look")[0].split(", ")
    assert named == train["study"].iloc[rows].tolist()
    assert "precision='float32'" in str(e.value)


def test_table_without_keys_is_named_by_its_index(train):
    bare = train.drop(columns="study").set_axis([f"row{i}" for i in range(len(train))])
    with pytest.raises(FloatingPointError, match=r"the studies row\d+, row\d+"):
        tiny_classifier(module=NanAfter, module__batch=0).fit(bare)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_best_epoch_before_is_restored_after_a_loss_that_is_not_finite(
    train, valid, tmp_path, num_workers, accumulate
):
    net = tiny_classifier(
        module=NanAfter,
        module__batch=15,  # of 6 or 7 an epoch: in the third
        batch_size=4,
        iterator_train__drop_last=True,  # a last batch of one view is refused
        max_epochs=5,
        accumulate=accumulate,
        iterator_train__num_workers=num_workers,
        callbacks=[("spy", Spy())],
        callbacks__best__dirname=tmp_path / "best",
    )
    with pytest.raises(FloatingPointError, match="got nan in epoch 3") as error:
        net.fit(train)
    assert error.value.__notes__ == ["The weights of the best epoch before are back."]
    best = int(np.argmin([row["valid_loss"] for row in net.history[:2]]))
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[best])
    kept = MuraClassifier.load(dict(net.callbacks_)["best"].folder_, module=NanAfter)
    assert np.array_equal(kept.predict_proba(valid), net.predict_proba(valid))


def test_loss_that_is_not_finite_in_validation_is_an_error_too(train):
    net = tiny_classifier(module=NanAfter, module__valid_batch=1, callbacks=[("spy", Spy())])
    with pytest.raises(FloatingPointError, match="got nan in epoch 2"):
        net.fit(train)
    assert same_weights(net, dict(net.callbacks_)["spy"].weights_[0])


def test_no_step_is_made_of_a_loss_that_is_not_finite(train):
    net = tiny_classifier(
        module=NanAfter, module__batch=3, train_split=None, callbacks=[("steps", EveryStep())]
    )
    with pytest.raises(FloatingPointError):
        net.fit(train)
    assert all(torch.isfinite(value).all() for value in net.module_.parameters())


def test_rate_that_is_far_too_high_ends_in_a_clear_error_and_can_be_mended(train):
    clf = tiny_classifier(lr=1e-3, max_epochs=1).fit(train)
    clf.set_params(lr=1e38, max_epochs=3)
    with pytest.raises(FloatingPointError, match="lower lr"):
        clf.partial_fit(train)
    clf.set_params(lr=1e-3).partial_fit(train)
    assert np.isfinite(clf.history[-1, "valid_loss"])
    assert all(torch.isfinite(value).all() for value in clf.module_.parameters())


def test_run_of_a_loss_that_is_not_finite_is_on_record_as_failed(train):
    net = tiny_classifier(
        module=NanAfter, module__batch=5, callbacks__mlflow__log_model=False, max_epochs=3
    )
    with pytest.raises(FloatingPointError):
        net.fit(train)
    run = mlflow.get_run(net.run_id_)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("FloatingPointError: expected a finite loss, got nan")
    assert "train_loss" in run.data.metrics


# --- a worker that dies ---------------------------------------------------------------------------


class Kill(StatelessCallback):
    """Kill a loader's worker, in the first batch of an epoch."""

    is_over_ = False

    def __init__(self, epoch):
        self.epoch = epoch

    def on_batch_begin(self, net, training=None, **kwargs):
        if training and len(net.history) == self.epoch and not self.is_over_:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)


def test_killed_worker_is_an_error_that_says_so_and_the_last_epoch_stands(train, tmp_path):
    net = tiny_classifier(
        batch_size=2,
        max_epochs=4,
        iterator_train__drop_last=True,  # a last batch of one view is refused
        iterator_train__num_workers=1,
        callbacks=[("spy", Spy()), ("kill", Kill(3))],
        callbacks__best__dirname=tmp_path / "best",
        callbacks__mlflow__log_model=False,
    )
    with pytest.raises(
        RuntimeError, match=r"worker.*killed.*memory ran out.*lower iterator_train__num_workers"
    ) as error:
        net.fit(train)
    assert "batch_size (2)" in str(error.value)
    best = int(np.argmin([row["valid_loss"] for row in net.history[:2]]))
    weights = dict(net.callbacks_)["spy"].weights_[best]
    assert same_weights(net, weights)
    kept = MuraClassifier.load(dict(net.callbacks_)["best"].folder_, module=TinyNet)
    assert same_weights(kept, weights)
    run = mlflow.get_run(net.run_id_)
    assert run.info.status == "FAILED"
    assert run.data.tags["error"].startswith("RuntimeError: expected the loader's workers to live")
    assert run.data.metrics["train_loss"] == net.history[1, "train_loss"]
    assert not multiprocessing.active_children()


def test_fit_whose_worker_was_killed_goes_on_from_its_state_to_the_same_bits(train):
    params = {"batch_size": 3, "max_epochs": 4, "iterator_train__num_workers": 1}
    whole = tiny_classifier(callbacks=[("kill", Kill(99))], **params).fit(train)
    net = tiny_classifier(checkpoint_path="fit.state", callbacks=[("kill", Kill(3))], **params)
    with pytest.raises(RuntimeError, match="worker"):
        net.fit(train)
    dict(net.callbacks_)["kill"].is_over_ = True
    net.fit(train)
    assert len(net.history) == 4
    assert same_weights(net, whole.module_.state_dict())
    assert net.history[:, "valid_loss"] == whole.history[:, "valid_loss"]


class KillInPrediction(TinyNet):
    """Kill the loader's worker at the first batch."""

    def forward(self, *args, **kwargs):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)
        return super().forward(*args, **kwargs)


def test_worker_killed_in_prediction_is_an_error_that_says_so(fitted, studies, tmp_path):
    fitted.save(tmp_path / "model")
    net = MuraClassifier.load(
        tmp_path / "model", module=TinyNet, iterator_valid__num_workers=1, batch_size=1
    )
    net.module_.__class__ = KillInPrediction
    with pytest.raises(RuntimeError, match=r"worker.*killed.*iterator_valid__num_workers"):
        net.predict_proba(studies)


def little_memory(worker):
    """Let a worker have a gigabyte, less than its next picture but enough to start a thread."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))


def test_worker_without_memory_is_an_error_that_says_so(train):
    net = tiny_classifier(
        dataset__image_size=40_000,
        iterator_train__num_workers=1,
        iterator_train__worker_init_fn=little_memory,
    )
    with pytest.raises(MemoryError, match=r"lower .*num_workers|lower batch_size"):
        net.fit(train)


# --- memory of the device -------------------------------------------------------------------------


class Greedy(TinyNet):
    """Ask for more memory than there is on any machine."""

    def forward(self, views, view_mask, study_type=None):
        torch.empty(2**50, dtype=torch.uint8)
        return super().forward(views, view_mask, study_type)


SETTINGS = ("batch_size (8)", "accumulate", "module__max_views", "module__memory_efficient=True",
            "precision", "dataset__image_size")  # fmt: skip


def test_full_memory_of_a_cpu_names_the_settings_to_lower(train):
    with pytest.raises(MemoryError, match="fits into the machine's memory") as error:
        tiny_classifier(module=Greedy).fit(train)
    assert all(name in str(error.value) for name in SETTINGS)


class OutOfMemory(TinyNet):
    """Raise what torch raises on a GPU whose memory is full; there is none here."""

    def forward(self, views, view_mask, study_type=None):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0")


def test_full_memory_of_a_gpu_names_the_settings_to_lower(train):
    with pytest.raises(torch.cuda.OutOfMemoryError, match=r"Tried to allocate 20\.00 MiB") as error:
        tiny_classifier(module=OutOfMemory).fit(train)
    assert all(name in str(error.value) for name in SETTINGS)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_of_a_real_gpu_that_is_full_names_the_settings_to_lower(train):
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError, match="lower batch_size"):
            tiny_classifier(device="cuda", dataset__image_size=1024).fit(train)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


def test_other_errors_stay_what_they_are():
    with pytest.raises(RuntimeError, match=r"^something else$"), explained_faults(None):
        raise RuntimeError("something else")
