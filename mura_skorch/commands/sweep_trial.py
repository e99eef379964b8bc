"""The trials of a sweep: each trains one setting, in an MLflow run of its own."""

import math
import time
from contextlib import ExitStack
from typing import Any

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mura_skorch import MuraClassifier, PatientSplit, ValidStudies
from mura_skorch.callbacks import EpochLine, Pruning, format_seconds
from mura_skorch.commands.script_state import checkpoint_path
from mura_skorch.commands.sweep_settings import parameters
from mura_skorch.data.dataset import StudyDataset, studies_of
from mura_skorch.evaluation import prediction_table
from mura_skorch.tracking import TrackedRun, end_children
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.text import short_reason

__all__ = [
    "TRIAL",
    "folds",
    "hold_out",
    "remove_checkpoints",
    "slug",
    "split",
    "train_part",
    "work",
]

MOST_ERRORS = 3  # in a row, before a worker gives up
TRIAL = "trial "  # how the names of their runs begin


def work(queue, parts, parent, args):
    """Run trials until none is left, neither here nor in a worker that was killed.

    Parameters
    ----------
    queue : TrialQueue
    parts : list of tuple of DataFrame
        Training and validation part of each fit of a trial.
    parent : TrackedRun
        The run of the sweep.
    args : Namespace
        The arguments of the command.
    """
    n_errors, idle_since = 0, None
    while n_errors < MOST_ERRORS:
        state = run_trial(queue, parts, parent, args)
        if state is not None:
            n_errors = n_errors + 1 if state == "failed" else 0
            idle_since = None
            continue
        idle_since = idle_since or time.monotonic()
        # After so long, whatever still runs has given signs of life.
        has_waited = time.monotonic() - idle_since > queue.grace_period + 2 * queue.heartbeat
        if has_waited or not queue.n_open():
            return
        time.sleep(queue.heartbeat / 2)
    print(f"{n_errors} trials failed in a row: this worker ends", flush=True)


def run_trial(queue, parts, parent, args):
    """Run the next trial in a child run; return a word for its state, or None without a trial."""
    # Within the lock, a running run belongs to a running trial or to a process that was killed.
    with queue.alone():
        trial = queue.next(args.trials)
        end_lost_runs(queue, parent, trial)
        if trial is None:
            return None
        number, known = trial.user_attrs["origin"], trial.user_attrs.get("mlflow_run")
        name = f"{TRIAL}{number}"
        own_run = TrackedRun(known, name=name, parent=parent, note=parent.note).open()
        queue.note(trial, mlflow_run=own_run.run_id)
    print(f"{name}{' again' if known else ''}: {settings_text(trial.params)}", flush=True)
    with queue.alive(trial):
        try:
            with ExitStack() as stack:
                stack.push(own_run)  # it is open
                state, value = train_trial(queue, trial, name, own_run, parts, args)
        except FloatingPointError as error:  # a result: others should differ from it
            state, value = "diverged", None
            queue.note(trial, error=short_reason(error))
        except Exception as error:
            state, value = "failed", None
            queue.note(trial, error=short_reason(error))
        except BaseException:
            queue.tell(trial, reason="interrupted")
            raise
        is_pruned = state in ("pruned", "diverged")
        reason = {"failed": "error", "held": "held"}.get(state, "")
        if queue.tell(trial, value, pruned=is_pruned, reason=reason) and state != "held":
            remove_checkpoints(name, args)
    figure = "" if value is None else f", {args.metric} {value:.4g}"
    print(f"{name} {state}{figure}; {progress(queue, args)}", flush=True)
    return state


def train_trial(queue, trial, name, own_run, parts, args):
    """Train the setting of a trial on each part; return a word for its state, and its value."""
    if args.folds:
        end_children(own_run, "KILLED")  # of an attempt that was killed
    values = []
    for k, part in enumerate(parts):
        if args.folds:  # each in a run below the trial's
            own: dict[str, Any] = {"callbacks__mlflow__run_name": f"{name} fold {k + 1}"}
        else:
            pruning = ("pruning", Pruning(trial, args.metric))
            own = {"callbacks__mlflow__run_id": own_run, "callbacks": [pruning]}
        try:
            clf, value = train_part(part, f"{name}-{k}", trial.params, args, **own)
        except BlockingIOError:  # a worker that was frozen has it
            own_run.status = "KILLED"
            return "held", None
        values.append(value)
        if clf.pruned_ or (args.folds and fold_is_pruned(trial, values)):
            queue.note(trial, epochs=len(clf.history))
            own_run.set_tags({"pruned": "true"})
            return "pruned", None
        save_predictions(clf, part[1], f"{name}-{k}", args)
    value = float(np.mean(values))
    queue.note(trial, epochs=len(clf.history))
    if args.folds:
        own_run.log_params(parameters(trial.params, args, is_text=True))
        own_run.log_metrics({f"valid/{args.metric.removeprefix('valid_')}": value})
    return "complete", value


def train_part(part, name, params, args, *, seed=None, **settings):
    """Train on one part, validated on the other.

    Parameters
    ----------
    part : tuple of DataFrame
        Training and validation part.
    name : str
        How lines of the log and the checkpoint are named.
    params : dict of str to object
        Values of the setting, by their names in the space.
    args : Namespace
        The arguments of the command.
    seed : int, optional
        None means ``args.random_state``.
    **settings
        Other parameters of `MuraClassifier`.

    Returns
    -------
    clf : MuraClassifier
        Fitted.
    value : float
        The metric of its best epoch; NaN only where it was pruned before.

    Raises
    ------
    ValueError
        The value is not finite.
    """
    train, valid = part
    clf = MuraClassifier(
        **parameters(params, args),
        **settings,
        train_split=ValidStudies(valid),
        device=args.device,
        random_state=args.random_state if seed is None else seed,
        callbacks__mlflow__log_model=False,
        callbacks__print_log=EpochLine(name),
        checkpoint_path=checkpoint_path(args.out, slug(name)),
    ).fit(train)
    if clf.interrupted_:
        raise KeyboardInterrupt
    rows = [row for row in clf.history if row.get("event_cp")]  # the best epoch is the last
    value = rows[-1][args.metric] if rows else math.nan
    if not math.isfinite(value) and not clf.pruned_:
        raise ValueError(f"expected a finite {args.metric}, got {value}")
    return clf, value


def remove_checkpoints(name, args):
    """Remove the checkpoints of a trial whose result is on record."""
    for file in (args.out / "state").glob(f"*{slug(name)}-*"):
        file.unlink(missing_ok=True)


def fold_is_pruned(trial, values):
    """Report the mean over the folds so far; return whether the trial should end."""
    try:
        trial.report(float(np.mean(values)), len(values))
        return trial.should_prune()
    except Exception as error:  # a storage that is away is no reason to end a trial
        print(f"the trial could not be reported, training continues: {error}", flush=True)
        return False


def save_predictions(clf, valid, name, args):
    """Write the predictions on a validation part, by which the choice is judged."""
    table = prediction_table(valid, clf.predict_proba(valid)[:, 1], threshold=clf.threshold_)
    folder = args.out / "predictions"
    folder.mkdir(exist_ok=True)
    write_text(folder / f"{slug(name)}.csv", table.to_csv(index=False))


def end_lost_runs(queue, parent, trial=None):
    """End the runs of trials whose process was killed, and no others."""
    attempts = [other for own in queue.attempts().values() for other in own]
    running = [other for other in attempts if other.state.name == "RUNNING"]
    known = {
        other.user_attrs.get("mlflow_run")
        for other in running
        if trial is None or other.number != trial.number or "mlflow_run" in other.user_attrs
    }

    def is_lost(run):
        return run.info.run_name.startswith(TRIAL) and run.info.run_id not in known

    if None not in known:  # a server that is away has not given an id yet
        end_children(parent, "KILLED", is_lost=is_lost)


def split(train, args):
    """Return pairs of a training and a validation part, the same for all trials."""
    return folds(train, args.folds, args.random_state) if args.folds else [hold_out(train, args)]


def hold_out(train, args):
    """Return the training and the validation part of the train split, as a fit would."""
    parts = PatientSplit(args.valid_share)(StudyDataset(train, cache=args.cache))
    return tuple(map(studies_of, parts))


def folds(studies, n, seed):
    """Return pairs of parts, in which each patient is validated once.

    Parameters
    ----------
    studies : DataFrame
        Labelled studies.
    n : int
        Number of pairs.
    seed : int
        By which the patients are dealt.

    Returns
    -------
    list of tuple of DataFrame
        Training and validation parts.
    """
    stratum = studies.groupby(["study_type", "label"], observed=True).ngroup()
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    rows = splitter.split(studies, stratum, groups=patient_keys(studies["patient"]))
    return [(studies.iloc[train], studies.iloc[valid]) for train, valid in rows]


def settings_text(params):
    """Return the values of a trial in one line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in params.items()
    )


def progress(queue, args):
    """Return how many trials are done, and about how long the rest takes with as many workers."""
    attempts = queue.attempts().values()
    done = [own for own in attempts if any(t.state.name in ("COMPLETE", "PRUNED") for t in own)]
    spans = [t.duration.total_seconds() for own in done for t in own if t.duration is not None]
    left = max(args.trials - len(done), 0) * sum(spans) / max(len(done), 1)
    left /= max(queue.n_open(), 1)
    return f"{len(done)} of {args.trials} trials, about {format_seconds(left)} left"


def slug(name):
    """Return a name as part of a file's name."""
    return name.replace(" ", "-")
