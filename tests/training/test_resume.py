"""Fits that are killed for good, and end as if they had not been."""

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from nets import tiny_classifier
from safetensors.torch import save_file
from skorch.callbacks import LRScheduler
from torch import ones
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from mura_skorch import MuraClassifier
from tests.callbacks.test_callbacks import CtrlC

HERE = Path(__file__).parents[1]
N_KILLS = int(os.environ.get("MURA_SKORCH_KILLS", "4"))
EPOCHS = 4


class Fits:
    """One fit after the other in processes of their own."""

    def __init__(self, folder, table):
        self.folder = folder
        table.to_pickle(folder / "table.pkl")
        self.log = (folder / "log").open("w")
        self.process = subprocess.Popen(
            [sys.executable, HERE / "helpers" / "fit_in_forks.py"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)},
        )  # fmt: skip

    def start(self, **settings):
        """Begin a fit; return its process id."""
        (self.folder / "result.json").unlink(missing_ok=True)
        line = {"folder": str(self.folder), "max_epochs": EPOCHS, **settings}
        self.process.stdin.write(json.dumps(line, default=str) + "\n")
        self.process.stdin.flush()
        return int(self._read("pid "))

    def wait_for_epoch(self):
        self._read("epoch")

    def end(self):
        """Return the exit code and the result of the fit, None if it was killed."""
        code = int(self._read("exit "))
        file = self.folder / "result.json"
        assert code != 1, (self.folder / "log").read_text()[-3000:]
        return code, json.loads(file.read_text()) if file.exists() else None

    def _read(self, word):
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
            if line.startswith("exit "):
                break
        raise EOFError((self.folder / "log").read_text()[-3000:])

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def fits(train, mlflow_store, tmp_path_factory):
    found = Fits(tmp_path_factory.mktemp("fits"), train)
    yield found
    found.close()


@pytest.fixture(scope="module")
def uninterrupted(fits, tmp_path_factory):
    """What a fit that nobody kills gives, and how long it takes from its first epoch on."""
    fits.start(checkpoint_path=tmp_path_factory.mktemp("whole") / "fit.state")
    fits.wait_for_epoch()
    begin = time.monotonic()
    code, result = fits.end()
    assert code == 0
    return {**result, "seconds": time.monotonic() - begin}


def steps_of(run_id, name):
    history = mlflow.MlflowClient().get_metric_history(run_id, name)
    return [point.step for point in history]


def assert_same_record(run_id, uninterrupted):
    """Check that a run has each epoch once: all figures of a fit that nobody killed."""
    run, whole = mlflow.get_run(run_id), mlflow.get_run(uninterrupted["run_id"])
    assert run.info.status == "FINISHED"
    more = set(run.data.metrics) - set(whole.data.metrics)
    assert all(name.startswith("valid/") for name in more)  # best of an epoch that Ctrl-C ended at
    assert steps_of(run_id, "train_loss") == list(range(1, EPOCHS + 1))
    for name in whole.data.metrics:  # a kappa that is undefined in an epoch is left out
        assert steps_of(run_id, name) == steps_of(uninterrupted["run_id"], name), name


# --- SIGKILL ---------------------------------------------------------------------------------


@pytest.mark.faults
def test_checkpoint_path_changes_no_bit(fits, uninterrupted):
    fits.start(checkpoint_path=None)
    code, result = fits.end()
    assert code == 0
    assert result["digest"] == uninterrupted["digest"]


@pytest.mark.faults
@pytest.mark.parametrize("number", range(N_KILLS))
def test_killed_at_any_moment_it_ends_bit_equal_in_the_same_run(
    fits, uninterrupted, tmp_path, number
):
    state = tmp_path / "fit.state"
    moment = random.Random(number).uniform(0, uninterrupted["seconds"])
    pid = fits.start(checkpoint_path=state)
    fits.wait_for_epoch()
    time.sleep(moment)
    with contextlib.suppress(ProcessLookupError):  # it was quicker
        os.kill(pid, signal.SIGKILL)
    code, result = fits.end()
    assert code in (-signal.SIGKILL, 0)
    killed_run = json.loads(header(state))["record"]["run_id"]
    fits.start(checkpoint_path=state)
    code, result = fits.end()
    assert code == 0
    assert result["digest"] == uninterrupted["digest"]
    assert result["run_id"] == killed_run
    assert_same_record(killed_run, uninterrupted)
    assert [file.name for file in tmp_path.iterdir() if "lock" not in file.name] == [state.name]


@pytest.mark.faults
def test_killed_again_and_again_it_still_ends_bit_equal(fits, uninterrupted, tmp_path):
    state = tmp_path / "fit.state"
    for strike_at in (1, 2, 2, 1):  # the first epochs, and twice before the same state is renamed
        fits.start(checkpoint_path=state, strike_at=strike_at)
        code, _ = fits.end()
        assert code == -signal.SIGKILL
    fits.start(checkpoint_path=state)
    code, result = fits.end()
    assert code == 0
    assert result["digest"] == uninterrupted["digest"]
    assert_same_record(result["run_id"], uninterrupted)
    assert {file.name for file in tmp_path.iterdir()} == {".fit.state.lock", state.name}


@pytest.mark.faults
def test_stopped_early_and_killed_afterwards_it_trains_no_epoch_more(fits, tmp_path):
    fits.start(checkpoint_path=None, early=True)
    _, expected = fits.end()
    assert expected["n_epochs"] < EPOCHS
    state = tmp_path / "fit.state"
    # Before the first epoch, after each, and at the end: this is the write at the end.
    fits.start(checkpoint_path=state, early=True, strike_at=expected["n_epochs"] + 2)
    assert fits.end()[0] == -signal.SIGKILL
    fits.start(checkpoint_path=state, early=True)
    code, result = fits.end()
    assert code == 0
    assert result["digest"] == expected["digest"]


def header(state):
    """Return the JSON in a state file's header, which is plain to read."""
    with state.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return json.loads(file.read(length))["__metadata__"]["mura_skorch_training_state"]


# --- signals ---------------------------------------------------------------------------------


@pytest.mark.faults
def test_ctrl_c_returns_from_fit_with_the_best_weights_and_the_fit_can_be_resumed(
    fits, uninterrupted, tmp_path
):
    state = tmp_path / "fit.state"
    pid = fits.start(checkpoint_path=state, slow=True)
    fits.wait_for_epoch()
    fits.wait_for_epoch()
    os.kill(pid, signal.SIGINT)
    code, result = fits.end()
    assert code == 130  # of the script; fit itself returned
    run_id = json.loads(header(state))["record"]["run_id"]
    assert mlflow.get_run(run_id).info.status == "KILLED"
    said = (fits.folder / "log").read_text()
    assert f"stopped after 1 of {EPOCHS} epochs; the same fit with checkpoint_path=" in said
    fits.start(checkpoint_path=state)
    code, result = fits.end()
    assert (code, result["digest"]) == (0, uninterrupted["digest"])
    assert_same_record(run_id, uninterrupted)


@pytest.mark.faults
def test_sigterm_ends_with_143_and_the_fit_can_be_resumed(fits, uninterrupted, tmp_path):
    state = tmp_path / "fit.state"
    pid = fits.start(checkpoint_path=state, slow=True)
    fits.wait_for_epoch()
    fits.wait_for_epoch()
    os.kill(pid, signal.SIGTERM)
    assert fits.end() == (143, None)
    run_id = json.loads(header(state))["record"]["run_id"]
    assert mlflow.get_run(run_id).info.status == "KILLED"
    fits.start(checkpoint_path=state)
    code, result = fits.end()
    assert (code, result["digest"]) == (0, uninterrupted["digest"])
    assert_same_record(run_id, uninterrupted)


# --- what is refused -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def half(train, tmp_path_factory):
    """The state of a fit that was stopped after its first epoch, as a file to copy."""
    state = tmp_path_factory.mktemp("half") / "fit.state"
    clf = tiny_classifier(checkpoint_path=state, max_epochs=3, callbacks=[("stop", CtrlC(2))])
    assert clf.fit(train).interrupted_
    return state


def go_on(state, table, **params):
    settings = {
        "checkpoint_path": state,
        "max_epochs": 3,
        "callbacks": [("stop", CtrlC(99))],
        **params,
    }
    return MuraClassifier.fit(tiny_classifier(**settings), table)


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"lr": 0.5}, "lr was 0.001 and is 0.5"),
        ({"batch_size": 4}, "batch_size was 8 and is 4"),
        ({"max_epochs": 4}, "max_epochs was 3 and is 4"),
        ({"module__augment": None}, "module__augment was Augment"),
        ({"callbacks__plateau__patience": 3}, "callbacks__plateau__patience was None and is 3"),
    ],
)
def test_other_parameters_are_refused_by_name(half, train, tmp_path, params, said):
    state = shutil.copy(half, tmp_path)
    with pytest.raises(ValueError, match=said):
        go_on(state, train, **params)
    assert Path(state).read_bytes() == half.read_bytes()


def test_other_data_are_refused(half, train, tmp_path):
    state = shutil.copy(half, tmp_path)
    with pytest.raises(ValueError, match="training studies was .* and is .* with digest"):
        go_on(state, train.iloc[::-1])


def test_damaged_and_foreign_files_are_refused(half, train, tmp_path):
    whole = half.read_bytes()
    for content in (b"", b"no state", whole[:1000], whole[: len(whole) // 2], b"\x80\x04N."):
        state = tmp_path / "fit.state"
        state.write_bytes(content)
        with pytest.raises(ValueError, match="got a damaged or foreign file in .*fit.state"):
            go_on(state, train)
        assert state.read_bytes() == content
    save_file({"x": ones(1)}, state)
    with pytest.raises(ValueError, match="got a damaged or foreign file"):
        go_on(state, train)


def test_states_of_another_format_are_refused_by_version(train, tmp_path):
    about = json.dumps({"format": 99, "mura_skorch": "9.9.9"})
    save_file({"x": ones(1)}, tmp_path / "a", {"mura_skorch_training_state": about})
    with pytest.raises(ValueError, match="got format 99 .* written by mura_skorch 9.9.9"):
        go_on(tmp_path / "a", train)


@pytest.mark.faults
def test_second_process_with_the_same_file_is_told(fits, train, tmp_path):
    state = tmp_path / "fit.state"
    pid = fits.start(checkpoint_path=state, slow=True)
    fits.wait_for_epoch()
    with pytest.raises(BlockingIOError, match="got another process that trains with it"):
        tiny_classifier(checkpoint_path=state).fit(train)
    os.kill(pid, signal.SIGKILL)
    fits.end()


# --- finished fits, and what is not kept -----------------------------------------------------


def test_finished_fit_comes_back_without_training(train, valid, tmp_path):
    first = tiny_classifier(checkpoint_path=tmp_path / "fit.state").fit(train)
    begin = (tmp_path / "fit.state").stat().st_mtime_ns
    again = tiny_classifier(checkpoint_path=tmp_path / "fit.state").fit(train)
    assert (again.predict_proba(valid) == first.predict_proba(valid)).all()
    assert [row["train_loss"] for row in again.history] == first.history[:, "train_loss"]
    assert (tmp_path / "fit.state").stat().st_mtime_ns == begin


def test_seed_that_was_drawn_is_kept(train, valid, tmp_path):
    state = tmp_path / "fit.state"
    stopped = tiny_classifier(
        checkpoint_path=state, random_state=None, callbacks=[("stop", CtrlC(2))]
    ).fit(train)
    gone_on = tiny_classifier(
        checkpoint_path=state, random_state=None, callbacks=[("stop", CtrlC(99))]
    ).fit(train)
    whole = tiny_classifier(random_state=stopped.seed_).fit(train)
    assert (gone_on.predict_proba(valid) == whole.predict_proba(valid)).all()


def test_partial_fit_after_a_fit_leaves_its_state_alone(train, tmp_path):
    clf = tiny_classifier(checkpoint_path=tmp_path / "fit.state").fit(train)
    before = (tmp_path / "fit.state").read_bytes()
    clf.set_params(train_split=None).partial_fit(train)
    assert len(clf.history) == 4
    assert (tmp_path / "fit.state").read_bytes() == before


@pytest.mark.slow
def test_schedule_of_ones_own_goes_on_where_it_was(train, tmp_path):
    def fit(stop_at, **params):
        own = [("stop", CtrlC(stop_at)), ("own", LRScheduler(StepLR, step_size=1, gamma=0.5))]
        return tiny_classifier(max_epochs=3, callbacks=own, **params).fit(train)

    fit(2, checkpoint_path=tmp_path / "fit.state")
    gone_on = fit(99, checkpoint_path=tmp_path / "fit.state")
    assert gone_on.history[:, "event_lr"] == pytest.approx([1e-3, 5e-4, 2.5e-4])
    assert gone_on.history[:, "train_loss"] == fit(99).history[:, "train_loss"]


def warmup_then_cosine(optimizer, n_warmup, n_steps, last_epoch=-1):
    warmup = LinearLR(optimizer, start_factor=0.25, total_iters=n_warmup)
    cosine = CosineAnnealingLR(optimizer, T_max=n_steps - n_warmup)
    return SequentialLR(optimizer, [warmup, cosine], milestones=[n_warmup], last_epoch=last_epoch)


def rises_and_falls(step):
    return min(step + 1, 12 - step) / 6


@pytest.mark.parametrize("name", ["OneCycleLR", "SequentialLR", "LambdaLR"])
@pytest.mark.parametrize("step_every", ["epoch", "batch"])
def test_warmup_and_cosine_resume_with_the_same_bits(train, tmp_path, name, step_every):
    n_steps = 3 if step_every == "epoch" else 12  # 4 minibatches in an epoch

    def schedule():
        if name == "OneCycleLR":
            settings = {"max_lr": 1e-2, "total_steps": n_steps, "pct_start": 0.3}
            return LRScheduler(OneCycleLR, step_every=step_every, **settings)
        if name == "SequentialLR":
            settings = {"n_warmup": n_steps // 3, "n_steps": n_steps}
            return LRScheduler(warmup_then_cosine, step_every=step_every, **settings)
        return LRScheduler(LambdaLR, step_every=step_every, lr_lambda=rises_and_falls)

    def fit(stop_at, **params):
        own = [("stop", CtrlC(stop_at))]
        settings = {"max_epochs": 3, "optimizer": "AdamW", "optimizer__weight_decay": 0.05}
        return tiny_classifier(
            **settings, callbacks=own, callbacks__plateau=schedule(), **params
        ).fit(train)

    path = tmp_path / "fit.checkpoint"
    assert fit(2, checkpoint_path=path).interrupted_
    resumed, whole = fit(99, checkpoint_path=path), fit(99)
    assert len(resumed.history) == 3
    assert resumed.history[:, "train_loss"] == whole.history[:, "train_loss"]
    if step_every == "batch":
        rates = [net.history[-1, "batches", :, "event_lr"] for net in (resumed, whole)]
    else:
        rates = [net.history[:, "event_lr"] for net in (resumed, whole)]
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 2


@pytest.mark.faults
def test_killed_fit_with_an_average_of_weights_ends_bit_equal(fits, tmp_path):
    settings = {"callbacks__ema__decay": 0.9, "flip_average": True}
    fits.start(checkpoint_path=None, **settings)
    code, expected = fits.end()
    assert code == 0
    path = tmp_path / "fit.checkpoint"
    for strike_at in (1, 2, 3):  # before the first epoch's checkpoint is there, and after
        fits.start(checkpoint_path=path, strike_at=strike_at, **settings)
        assert fits.end()[0] == -signal.SIGKILL
    fits.start(checkpoint_path=path, **settings)
    code, result = fits.end()
    assert code == 0
    assert result["digest"] == expected["digest"]
