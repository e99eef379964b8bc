import signal

import mlflow
import pytest

from mura_skorch.tracking import TrackedRun
from mura_skorch.utils.signals import deferred_signals, signals_as_exceptions


def fail_with_signals(every, seen):
    with signals_as_exceptions():
        try:
            with deferred_signals(every=every):
                signal.raise_signal(signal.SIGTERM)
                raise RuntimeError("a process is gone")
        except RuntimeError as error:
            seen.append(str(error))
            signal.raise_signal(signal.SIGTERM)  # on the way out
            with deferred_signals():
                seen.append("recorded")
            raise


@pytest.mark.parametrize("every", [False, True])
def test_error_leaves_its_block_before_the_signal_that_came_with_it(every):
    seen = []
    with pytest.raises(SystemExit) as stop:
        fail_with_signals(every, seen)
    assert stop.value.code == 143
    assert seen == ["a process is gone", "recorded"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("status", ["FAILED", "KILLED", "FINISHED"])
def test_signals_while_a_run_is_closed_leave_its_status(number, status, monkeypatch):
    run = TrackedRun().open()
    end_run = mlflow.end_run

    def end_late(*args):
        signal.raise_signal(number)
        signal.raise_signal(number)
        end_run(*args)

    def close():
        with signals_as_exceptions():
            run.close(status)

    monkeypatch.setattr(mlflow, "end_run", end_late)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        close()
    assert mlflow.active_run() is None
    assert mlflow.get_run(run.run_id).info.status == status
