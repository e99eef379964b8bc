"""What ``mura-skorch ablate`` does: train two settings with several seeds, and compare them."""

from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mura_skorch import MuraClassifier, PatientSplit
from mura_skorch.callbacks import EpochLine
from mura_skorch.commands import CommandError
from mura_skorch.commands.data import choose_studies, find_data, read_train_valid
from mura_skorch.commands.defaults import ABLATE
from mura_skorch.commands.jobs import run_tasks
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.commands.script_state import (
    check_new,
    checkpoint_path,
    clear,
    copied_results,
    load_args,
    lock_folder,
    resume_after_restart,
    resume_command,
    save_args,
)
from mura_skorch.commands.settings import absolute_network, read_settings, shared_parameters
from mura_skorch.evaluation import compare_seeds, join_notes, prediction_table
from mura_skorch.tracking import TrackedRun, end_children, log_test_scores, use_experiment
from mura_skorch.training.checkpoint_file import run_id_of
from mura_skorch.training.device import count_cores
from mura_skorch.training.parameters import check_parameters
from mura_skorch.utils.signals import signals_as_exceptions
from mura_skorch.utils.text import printable

__all__ = ["DEFAULTS", "main"]

PHANTOMS = Path("phantoms_ablate")
# Many test studies: they cost little time, and decide how narrow the intervals are.
N_DRAWN = {"n_train": 100, "n_valid": 200, "n_test": 0}  # studies
DEFAULTS = ABLATE | {"jobs": (1, min(4, count_cores())), "threads": (count_cores(), 1)}
# What the script itself sets.
OWN = ("random_state", "checkpoint_path", "device", "callbacks__mlflow", "callbacks__print_log")
OF_THIS_CALL = ("resume", "parent_run_id")


def main(args: Namespace) -> int:
    """Train, compare and report; return 0, 1 if a fit failed, 130 or 143 if interrupted."""
    resume_after_restart(args)
    is_resumed = args.resume is not None
    with ExitStack() as stack:
        try:
            args = load_args(args.resume) if is_resumed else args
            studies = read(args)
            for text in (args.a, args.b):
                check_parameters(MuraClassifier(**parameters(text, args)))
            stack.enter_context(lock_folder(args.out))
            if not is_resumed:
                check_new(args.out)
            experiment_id = use_experiment(args.experiment, note=join_notes(studies))
        except (OSError, TypeError, ValueError) as error:
            raise CommandError(error) from error
        stack.enter_context(signals_as_exceptions())
        return run(args, studies, experiment_id, is_resumed)


def run(args, studies, experiment_id, is_resumed):
    """Train each setting with each seed, and compare the seeds that both have finished."""
    note = join_notes(studies)
    options = {name: value for name, value in vars(args).items() if name not in OF_THIS_CALL}
    print(note or "", *(f"{name}={value}" for name, value in options.items()), flush=True)
    seeds = range(args.random_state, args.random_state + args.seeds)
    tasks = [(name, seed) for seed in seeds for name in "AB"]
    with TrackedRun(args.parent_run_id, name="ablate", note=note) as parent:
        if is_resumed:
            end_children(parent, "KILLED")  # resumed runs are opened again
        else:
            args.parent_run_id = parent.run_id
            save_args(args.out, args)
        parent.log_params(options)
        done, failed, code = run_tasks(
            train, tasks, studies, args, parent=parent, jobs=args.jobs, label=lambda t: label(*t)
        )
        both = [seed for seed in seeds if {("A", seed), ("B", seed)} <= set(done)]
        text = report(both, done, args, note, parent) if both else "no seed finished in A and B"
        if not failed:
            clear(args.out)
        with copied_results(args.out) as folder:
            parent.log_folder(folder)
    print(f"\n{text}\n{note or ''}\n\nTables: {args.out}/")
    print(runs_sentence(experiment_id))
    if failed:
        print(f"Resume with: {resume_command(args.out)}")
    return code


def train(task, studies, args, parent):
    """Train on the train split and predict the valid split; return the error, if any, too."""
    name, seed = task
    train, test = studies[studies.split == "train"], studies[studies.split == "valid"]
    state = checkpoint_path(args.out, label(*task))
    try:
        torch.set_num_threads(args.threads)
        with TrackedRun(
            run_id_of(state), name=label(*task), parent=parent, note=parent.note
        ) as own_run:
            own_run.set_tags({"setting": name})
            settings = parameters(args.a if name == "A" else args.b, args)
            clf = MuraClassifier(
                **settings,
                device=args.device,
                random_state=seed,
                callbacks__mlflow__run_id=own_run,
                callbacks__mlflow__log_model=False,
                callbacks__print_log=EpochLine(label(*task)),
                checkpoint_path=state,
            ).fit(train)
            if clf.interrupted_:
                raise KeyboardInterrupt
            y_score = clf.predict_proba(test)[:, 1]
            found = prediction_table(test, y_score, threshold=clf.threshold_)
            if ("test/kappa", 0) not in (own_run.logged_metrics() or ()):
                log_test_scores(own_run, found)
    except Exception as error:
        return task, None, f"FAILED: {error}"
    return task, found, None


def label(name, seed):
    """Return the name of a model."""
    return f"{name}_seed_{seed}"


def parameters(text, args):
    """Return the parameters of a setting, on top of those that both share."""
    common = {name: getattr(args, name) for name in ("image_size", "max_epochs", "lr")}
    settings = read_settings(text, **common)
    if own := [name for name in settings if name.startswith(OWN)]:
        raise ValueError(
            f"expected settings without {', '.join(own)}, which the script sets, got {text}; use "
            "its options, see --help"
        )
    return shared_parameters(args) | {"train_split": PatientSplit(args.valid_share)} | settings


def report(seeds, done, args, note, parent):
    """Compare the settings, write and log the tables; return them as a text."""
    tables = {name: [done[name, seed] for seed in seeds] for name in "AB"}
    test = tables["A"][0]
    scores = [np.stack([table["score"] for table in tables[name]]) for name in "AB"]
    limits = [[table["threshold"].iloc[0] for table in tables[name]] for name in "AB"]
    found = compare_seeds(
        test["label"],
        *scores,
        study_type=test["study_type"] if len(args.study_types) > 1 else None,
        groups=test["patient"],
        threshold=limits,
        n_resamples=args.n_resamples,
    )
    single = [
        compare_seeds(
            test["label"],
            *(own[[k]] for own in scores),
            groups=test["patient"],
            threshold=[own[k] for own in limits],
            n_resamples=1,
        ).assign(seed=seed)
        for k, seed in enumerate(seeds)
    ]
    of_seeds = pd.concat(single, ignore_index=True)
    of_seeds = of_seeds[["seed", "kappa_a", "kappa_b", "auroc_a", "auroc_b"]]
    predictions = pd.concat(
        [done[name, seed].assign(setting=name, seed=seed) for name in "AB" for seed in seeds]
    )
    noted = {"note": note} if note else {}
    for table, name in ((found, "results"), (of_seeds, "seeds"), (predictions, "predictions")):
        table.assign(**noted).to_csv(args.out / f"{name}.csv", index=False)
    overall = found.iloc[-1]
    figures = overall.drop(["study_type", "caution", "undefined"])
    parent.log_metrics({f"test/{name}": value for name, value in figures.items()})
    lines = [
        f"A: {printable(args.a)}",
        f"B: {printable(args.b)}",
        f"{len(seeds)} seeds each, tested on {len(test)} studies of "
        f"{test['patient'].nunique()} patients",
        "",
        as_text(found),
        "",
        "By seed, over all studies:",
        of_seeds.round(3).to_string(index=False),
        "",
        "B - A: positive if B is better; in brackets the 95 % interval over patients. SD: standard",
        "deviation of B - A over seeds, which the interval does not hold.",
    ]
    if (few := found.loc[found["caution"] != "", "caution"]).any():
        lines.append(f"{few.iloc[0].capitalize()}: intervals are likely too narrow.")
    for name, why in zip(found["study_type"], found["undefined"], strict=True):
        if why:
            lines.append(f"{printable(name)}: {why}")
    return "\n".join(lines)


def as_text(found):
    """Format the comparison as aligned text."""
    table = found[["study_type", "n"]].rename(columns={"study_type": "study type", "n": "studies"})
    table["study type"] = table["study type"].map(printable)
    for name, title in (("kappa", "kappa"), ("auroc", "AUROC")):
        table[f"{title} A"] = found[f"{name}_a"].map("{:.3f}".format)
        table[f"{title} B"] = found[f"{name}_b"].map("{:.3f}".format)
        ends = [f"{name}_difference{end}" for end in ("", "_low", "_high")]
        table[f"{title} B - A"] = [
            "{:+.3f} ({:+.3f}, {:+.3f})".format(*row) for row in found[ends].to_numpy(float)
        ]
        table[f"SD {title}"] = found[f"{name}_difference_sd"].map("{:.3f}".format)
    return table.to_string(index=False).replace("+nan", "n/a").replace("nan", "n/a")


def read(args):
    """Return the studies, and fill in the arguments that depend on them."""
    if args.seeds < 1:
        raise ValueError(f"expected --seeds of 1 or more, got {args.seeds}")
    for name in ("a", "b"):
        if Path(getattr(args, name)).is_file():  # found from elsewhere, when the call is resumed
            setattr(args, name, str(Path(getattr(args, name)).absolute()))
    if args.module is not None:
        args.module = absolute_network(args.module)
    args.data = find_data(args.data, PHANTOMS, study_types=["XR_WRIST"], **N_DRAWN)
    return choose_studies(args, read_train_valid(args.data), DEFAULTS)
