"""Train several models of a script in parallel, show their progress, and end as the user asks."""

import time
import uuid
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
    client: Any = None,
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
    client : distributed.Client, optional
        Of a Dask cluster, on the workers of which the tasks run. A task whose worker was killed is
        called again; see ``allowed-failures`` in Dask's configuration.

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
    if client is not None:
        jobs = max(1, sum(client.nthreads().values()))
    try:
        for task, found, why in _results(train, tasks, args, parent, jobs, label, client):
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
    if client is not None:
        end_children(parent, "KILLED")  # runs of workers that were killed
    elif jobs > 1:
        # Its processes end during the report. Otherwise the script would wait for them at its end.
        get_reusable_executor(reuse=True).shutdown(wait=False)
    if failed and not code:
        code, parent.status = 1, "FAILED"
    return done, failed, code


def _results(train, tasks, args, parent, jobs, label, client):
    """Return an iterator over what the function returns, the first to end first."""
    if client is not None:
        return _results_of_cluster(train, tasks, (*args, parent.for_worker()), label, client)
    pool = Parallel(n_jobs=jobs, return_as="generator_unordered")
    return pool(delayed(train)(task, *args, parent) for task in tasks)


def _results_of_cluster(train, tasks, args, label, client):
    """Yield what workers of a Dask cluster return.

    Not by joblib's backend: it waits for ever for a task whose workers were killed.
    """
    from distributed import as_completed

    futures = {}
    for task in tasks:
        key = f"fit-{label(task).strip()}-{uuid.uuid4().hex}"
        futures[client.submit(train, task, *args, key=key)] = task
    try:
        for future in as_completed(futures):
            try:
                yield future.result()
            except Exception as error:
                yield futures[future], None, f"FAILED: {error}"
    finally:
        client.cancel(list(futures))  # those that wait for a worker


def runs_sentence(experiment_id: str | None) -> str:
    """Return where the runs of an experiment are to be seen, or how they are sent there."""
    if experiment_id is None:
        return "Runs: MLflow did not answer; send what it did not get with mura-skorch sync"
    return f"Runs: start mlflow ui here and open {runs_link(experiment_id)}"
