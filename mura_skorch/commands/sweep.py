"""What ``mura-skorch sweep`` does: try many settings, and report on them."""

from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import torch
from filelock import FileLock

from mura_skorch.commands import CommandError
from mura_skorch.commands.data import choose_studies, find_data, read_train_valid
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.commands.settings import absolute_network
from mura_skorch.commands.sweep_choice import re_estimate, report
from mura_skorch.commands.sweep_settings import (
    DEFAULTS,
    METRICS,
    check_shared,
    check_space,
    shared_settings,
)
from mura_skorch.commands.sweep_trial import slug, split, work
from mura_skorch.evaluation import join_notes
from mura_skorch.studies.validation import check_studies
from mura_skorch.sweeps import TrialQueue, read_space
from mura_skorch.tracking import TrackedRun, use_experiment
from mura_skorch.utils.signals import signals_as_exceptions

__all__ = ["DEFAULTS", "main"]

PHANTOMS = Path("phantoms_sweep")
N_DRAWN = {"n_train": 100, "n_valid": 50, "n_test": 0}  # studies
STOPPED = {KeyboardInterrupt: 130, SystemExit: 143}


def main(args: Namespace) -> int:
    """Run trials and report; return 0, 1 if none is complete, 130 or 143 if interrupted."""
    with ExitStack() as stack:
        try:
            studies = read(args)
            space = read_space(args.space)
            check_space(space, args)
            queue = open_queue(space, args)
            with queue.alone():  # two processes that make one database at once fail
                experiment_id = use_experiment(args.experiment, note=join_notes(studies))
                check_shared(queue.study, studies, args)
        except (ImportError, OSError, TypeError, ValueError) as error:
            raise CommandError(error) from error
        stack.enter_context(signals_as_exceptions())
        torch.set_num_threads(args.threads)
        return run(queue, studies, experiment_id, args)


def run(queue, studies, experiment_id, args):
    """Run trials until there are enough, then write the report."""
    note = join_notes(studies)
    options = shared_settings(args)
    print(note or "", *(f"{name}={value}" for name, value in options.items()), flush=True)
    parts = split(studies[studies.split == "train"], args)
    with ExitStack() as runs:
        with queue.alone():
            known = queue.study.user_attrs.get("mlflow_run")
            parent = runs.enter_context(TrackedRun(known, name=args.study, note=note))
            if known is None:
                queue.study.set_user_attr("mlflow_run", parent.run_id)
                parent.log_params(options)
        try:
            work(queue, parts, parent, args)
            is_over = not queue.n_open()
            if args.re_estimate and is_over:
                re_estimate(queue, studies, parts, parent, args)
        except ConnectionError as error:
            parent.status = "FAILED"
            print(f"sweep: {error}", flush=True)
            return 1
        except tuple(STOPPED) as error:
            parent.status = "KILLED"
            print("Stopped. The same command continues.", flush=True)
            return STOPPED[type(error)]
        with queue.alone():
            result = report(queue, studies, parent, args)
        if result.best is None:
            parent.status = "FAILED"
    shown = result.trials.drop(columns="run")
    shown = shown if shown["error"].any() else shown.drop(columns="error")
    print(f"\n{shown.to_string(index=False, float_format='{:.4g}'.format)}")
    if result.best is not None:
        print(f"Best: trial {result.best['trial']}, {args.metric} {result.best['value']:.4g}")
    print(f"{note or ''}\n\nReport: {args.out}/sweep.html")
    print(runs_sentence(experiment_id))
    if not is_over:
        print("Other workers still run trials; the last one to end completes the report.")
    return 1 if result.best is None else 0


def open_queue(space, args):
    """Return the trials of the study."""
    args.out.mkdir(parents=True, exist_ok=True)
    return TrialQueue(
        args.storage,
        args.study,
        space,
        args.out,
        direction=METRICS[args.metric],
        prune=args.prune,
        n_random=args.n_random,
        n_retries=args.retries,
        heartbeat=args.heartbeat,
        random_state=args.random_state,
    )


def read(args):
    """Return the studies, and fill in the arguments that depend on them."""
    for name in ("trials", "heartbeat"):
        if getattr(args, name) < 1:
            raise ValueError(f"expected --{name} of 1 or more, got {getattr(args, name)}")
    if args.folds < 0 or args.folds == 1:
        raise ValueError(f"expected --folds 0, or 2 or more, got {args.folds}")
    if args.module is not None:
        args.module = absolute_network(args.module)
    args.out = args.out or Path("results") / f"sweep_{slug(args.study)}"
    if args.data is None:  # of several workers, one draws
        with FileLock(f".{PHANTOMS}.lock"):
            args.data = find_data(None, PHANTOMS, study_types=["XR_WRIST"], **N_DRAWN)
    studies = choose_studies(args, read_train_valid(args.data), DEFAULTS)
    check_studies(studies[studies.split == "train"], for_fit=True)
    return studies
