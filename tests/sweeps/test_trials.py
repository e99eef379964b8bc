import sqlite3
import threading
import time
from contextlib import contextmanager

import pytest

from mura_skorch.sweeps import TrialQueue, read_space

SPACE = ["lr=1e-5:1e-2:log", "batch_size=4,8,16"]


def make_queue(**settings):
    return TrialQueue(
        "sqlite:///sweep.db", "study", read_space(SPACE), ".", heartbeat=1, **settings
    )


@pytest.fixture
def impatient(monkeypatch):
    """Count a trial as killed after a second without a sign of life."""
    monkeypatch.setattr("mura_skorch.sweeps.trials.SILENCE", 1)


def states(queue):
    return [trial.state.name for trial in queue.study.get_trials()]


def wait_until_stale():
    time.sleep(2.5)  # databases store whole seconds


def test_workers_share_the_number_of_trials():
    one, other = make_queue(), make_queue()
    for k in range(5):
        queue = (one, other)[k % 2]
        assert queue.tell(queue.next(5), 0.5)
    assert one.next(5) is None
    assert other.next(5) is None
    assert states(one) == ["COMPLETE"] * 5
    assert one.next(6) is not None


def test_running_trials_count_too():
    one, other = make_queue(), make_queue()
    trial = one.next(1)
    assert other.next(1) is None
    assert other.n_open() == 1
    one.tell(trial, 0.5)
    assert other.n_open() == 0


def test_workers_with_one_seed_draw_different_values():
    one, other = make_queue(), make_queue()
    drawn = [queue.next(9).params["lr"] for queue in (one, other, one, other)]
    assert len(set(drawn)) == 4


def test_interrupted_study_draws_what_an_uninterrupted_one_draws(tmp_path, monkeypatch):
    drawn = []
    for folder, is_interrupted in (("a", False), ("b", True)):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        queue = make_queue(n_random=2)
        for _ in range(5):
            if is_interrupted:
                queue.tell(queue.next(5), reason="interrupted")
                queue = make_queue(n_random=2)
            trial = queue.next(5)
            queue.tell(trial, trial.params["lr"])
        drawn.append([trial.params for trial in queue.study.get_trials() if trial.value])
    assert len(drawn[0]) == 5
    assert drawn[0] == drawn[1]


@pytest.mark.slow
def test_killed_trial_is_retried_with_its_values(impatient):
    killed = make_queue().next(1)
    wait_until_stale()
    queue = make_queue()
    trial = queue.next(1)
    assert trial.params == killed.params
    assert trial.user_attrs["origin"] == killed.user_attrs["origin"] == 0
    queue.tell(trial, 0.5)
    assert queue.next(1) is None
    assert [len(own) for own in queue.attempts().values()] == [2]


@pytest.mark.slow
def test_living_trial_is_left_alone(impatient):
    one, other = make_queue(), make_queue()
    trial = one.next(1)
    with one.alive(trial):
        wait_until_stale()
        assert other.next(1) is None
    assert states(other) == ["RUNNING"]
    assert one.tell(trial, 0.5)


@pytest.mark.slow
def test_trial_that_is_killed_again_and_again_is_given_up(impatient):
    for _ in range(2):
        assert make_queue(n_retries=1).next(1) is not None
        wait_until_stale()
    queue = make_queue(n_retries=1)
    assert queue.next(1) is None
    assert states(queue) == ["FAIL", "FAIL"]


def test_interruptions_are_retried_without_a_limit():
    queue = make_queue(n_retries=0)
    for _ in range(3):
        queue.tell(queue.next(1), reason="interrupted")
    assert queue.next(1).user_attrs["origin"] == 0


def test_trial_with_an_error_is_not_retried():
    queue = make_queue()
    queue.tell(queue.next(1), reason="error")
    assert queue.next(1) is None


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_process_that_dies_while_it_asks_leaves_no_trial_behind():
    queue = make_queue()
    queue.study.ask(queue.space)  # what `next` does first
    trial = make_queue().next(1)
    assert states(queue) == ["FAIL", "RUNNING"]
    assert trial.user_attrs["origin"] == 0


@pytest.mark.slow
def test_result_of_a_process_that_was_frozen_is_collected_by_a_retry(impatient):
    frozen, other = make_queue(), make_queue()
    trial = frozen.next(1)
    wait_until_stale()
    retried = other.next(1)
    other.tell(retried, reason="held")  # the frozen process holds the checkpoint
    assert other.next(1) is None
    frozen.note(trial, epochs=3)  # it has been given up, and takes no facts
    assert not frozen.tell(trial, 0.5)
    again = other.next(1)
    assert again.params == trial.params
    assert other.tell(again, 0.5)
    assert frozen.next(1) is None


def test_pruned_trial_is_over():
    queue = make_queue()
    trial = queue.next(1)
    trial.report(0.7, 1)
    assert queue.tell(trial, pruned=True)
    assert queue.next(1) is None
    assert states(queue) == ["PRUNED"]


def test_median_pruner_waits_for_the_random_trials():
    queue = make_queue(prune="median", n_random=2)
    for value, expected in ((0.1, False), (0.2, False), (0.9, True)):
        trial = queue.next(3)
        for step in (1, 2, 3):
            trial.report(value, step)
        assert bool(trial.should_prune()) is expected
        queue.tell(trial, value)


@contextmanager
def locked_database(seconds):
    """Let no other process or thread read or write the database for a while."""
    connection = sqlite3.connect("sweep.db", check_same_thread=False, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    timer = threading.Timer(seconds, connection.rollback)
    timer.start()
    yield
    timer.join()
    connection.close()


def test_result_is_recorded_when_the_database_answers_again(monkeypatch):
    monkeypatch.setattr("mura_skorch.sweeps.trials.DATABASE_WAIT", 0.1)
    queue = make_queue()
    trial = queue.next(1)
    with locked_database(seconds=1):
        queue.note(trial, epochs=3)
        assert queue.tell(trial, 0.5)
    assert states(queue) == ["COMPLETE"]
    assert queue.attempts()[0][0].user_attrs["epochs"] == 3


def test_database_that_is_away_for_good_is_an_error(monkeypatch):
    monkeypatch.setattr("mura_skorch.sweeps.trials.DATABASE_WAIT", 0.1)
    monkeypatch.setattr("mura_skorch.sweeps.trials.PATIENCE", 0)
    queue = make_queue()
    trial = queue.next(1)
    with (
        locked_database(seconds=1),
        pytest.raises(ConnectionError, match="start the same command again"),
    ):
        queue.tell(trial, 0.5)


@pytest.mark.parametrize(
    "url", ["sqlite:///nowhere/sweep.db", "nothing", "postgresql://me:secret@127.0.0.1:1/db"]
)
def test_database_that_does_not_answer_is_named_without_its_password(url):
    with pytest.raises(ValueError, match="expected a database that answers") as error:
        TrialQueue(url, "study", read_space(SPACE), ".")
    assert "secret" not in str(error.value)
