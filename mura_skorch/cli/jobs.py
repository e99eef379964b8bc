"""Train several models of a script in parallel, show their progress, and end as the user asks."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from joblib import Parallel, delayed
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from mura_skorch.callbacks import format_seconds
from mura_skorch.tracking import TrackedRun, end_children, runs_link

__all__ = ["run_tasks", "runs_sentence"]

STOPPED = {  # exit code and status of the parent run, and what is said of the models left
    KeyboardInterrupt: (130, "KILLED", "stopped by Ctrl-C"),
    SystemExit: (143, "KILLED", "stopped by SIGTERM"),
    TerminatedWorkerError: (1, "FAILED", "FAILED: a worker was killed; lower --jobs"),
}


def run_tasks(
    train: Callable[..., Any],
    tasks: Sequence[Any],
    *args: Any,
    parent: TrackedRun,
    jobs: int,
    label: Callable[[Any], str],
) -> tuple[dict[Any, Any], dict[Any, str], int]:
    """Call a function for each task, and print a line when one is done.

    Parameters
    ----------
    train : callable
        ``train(task, *args, parent)`` returns the task, its result, and why it failed or None.
    tasks : sequence
        Hashable.
    *args
        More arguments of `train`.
    parent : TrackedRun
        Its ``status`` is set if something failed or was stopped; its children are then ended.
    jobs : int
        Tasks at a time.
    label : callable
        Returns the name of a task.

    Returns
    -------
    done : dict
        Results by task.
    failed : dict
        Reasons by task, also of those that were not begun.
    code : int
        Exit code of the script: 0, 1 if a task failed, 130 after Ctrl-C, 143 after SIGTERM.
    """
    done: dict[Any, Any] = {}
    failed: dict[Any, str] = {}
    code, begin = 0, time.time()
    try:
        pool = Parallel(n_jobs=jobs, return_as="generator_unordered")
        for task, found, why in pool(delayed(train)(task, *args, parent) for task in tasks):
            if why:
                failed[task] = why
            else:
                done[task] = found
            n_done = len(done) + len(failed)
            rounds, past = (-(-n // jobs) for n in (len(tasks) - n_done, n_done))
            left = format_seconds((time.time() - begin) / past * rounds)
            state = f"{n_done} of {len(tasks)} models, about {left} left"
            print(f"{label(task)} {why or 'done'}; {state}", flush=True)
    except tuple(STOPPED) as error:
        code, parent.status, why = STOPPED.get(type(error), STOPPED[TerminatedWorkerError])
        end_children(parent, parent.status)
        failed |= {task: why for task in tasks if task not in {**done, **failed}}
    if jobs > 1:
        # Its processes end during the report. Otherwise the script would wait for them at its end.
        get_reusable_executor(reuse=True).shutdown(wait=False)
    if failed and not code:
        code, parent.status = 1, "FAILED"
    return done, failed, code


def runs_sentence(experiment_id: str | None) -> str:
    """Return where the runs of an experiment are to be seen, or how they are sent there."""
    if experiment_id is None:
        return "Runs: MLflow did not answer; send what it did not get with mura-skorch sync"
    return f"Runs: start mlflow ui here and open {runs_link(experiment_id)}"
