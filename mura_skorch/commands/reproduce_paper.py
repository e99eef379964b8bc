"""What ``mura-skorch reproduce-paper`` does: run the paper's protocol, and add to its Table 2."""

import shutil
from argparse import Namespace
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from mura_skorch import Augment, MuraClassifier, PatientSplit, StudyNetwork, ValidStudies
from mura_skorch.callbacks import EpochLine
from mura_skorch.commands import CommandError
from mura_skorch.commands.cluster import dask_client, make_absolute
from mura_skorch.commands.data import (
    are_phantoms,
    fill_in,
    find_data,
    read_train_valid,
    weights_or_none,
)
from mura_skorch.commands.defaults import REPRODUCE_PAPER
from mura_skorch.commands.jobs import run_tasks
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.commands.script_state import check_settings, checkpoint_path, clear, lock_folder
from mura_skorch.commands.settings import check_fit
from mura_skorch.commands.threads import use_threads
from mura_skorch.ensemble import MuraEnsemble, best_valid_loss
from mura_skorch.evaluation import join_notes, prediction_table, write_competition
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.evaluation.published import format_paper_table, is_mura, paper_table
from mura_skorch.report import collect_predictions, read_study_facts, write_report
from mura_skorch.studies import explode_views
from mura_skorch.tracking import TrackedRun, log_scores, use_experiment
from mura_skorch.tracking.mlflow_model import save_mlmodel
from mura_skorch.training.checkpoint_file import run_id_of
from mura_skorch.utils.provenance import data_digest

__all__ = ["DEFAULTS", "PROTOCOLS", "main"]

QUESTION = "Does the paper reproduce? Run its protocol, and add our kappas to its Table 2."
# As in the paper; v3 does not give its angle, 10 degrees are a known reimplementation's.
PROTOCOLS = {
    "v3": {"image_size": 224, "degrees": 10, "n_seeds": 1, "n_members": 1},
    "v4": {"image_size": 320, "degrees": 30, "n_seeds": 10, "n_members": 5},
}
DEFAULTS = REPRODUCE_PAPER
COMMON = {name: radiographs for name, (radiographs, _) in DEFAULTS.items()}
# Departures from the protocol for phantoms.
SMALL = {
    "v3": {"image_size": 64},
    "v4": {"image_size": 64, "n_seeds": 3, "n_members": 2},
}
# Settings that all members of an ensemble share.
SHARED = ("protocol", "select_on_valid", "image_size", "degrees", *COMMON)


def main(args: Namespace) -> int:
    """Train, select members, evaluate and report; return 0, 1 after a failure, 130 after Ctrl-C."""
    use_threads(args)
    with ExitStack() as stack:
        try:
            if args.dask is not None:
                make_absolute(args)
            read_study_facts(args.study_facts or {})  # fails here or never
            studies = read(args)
            check_fit(make_classifier, args)
            StudyNetwork(weights_or_none(args.weights))  # fails here or never
            stack.enter_context(lock_folder(args.out))
            check_settings(args.out, shared_settings(args, studies))
            experiment_id = use_experiment(args.experiment, note=join_notes(studies))
            client = stack.enter_context(dask_client(args.dask, args.jobs))
        except (ImportError, OSError, TypeError, ValueError) as error:
            raise CommandError(error) from error
        return run(args, studies, experiment_id, client)


def run(args, studies, experiment_id, client):
    """Train the models, choose among them, and write the report."""
    note = join_notes(studies)
    print(note or "", *(f"{name}={value}" for name, value in vars(args).items()), flush=True)
    train, valid = (studies[studies["split"] == split] for split in ("train", "valid"))
    with TrackedRun(name=f"paper_{args.protocol}", note=note) as parent:
        parent.log_params(vars(args))
        _, failed, code = run_tasks(
            train_seed,
            range(args.n_seeds),
            train,
            valid,
            args,
            parent=parent,
            jobs=args.jobs,
            label=lambda seed: f"seed_{seed:<7}",
            client=client,
        )
        if failed:
            print(f"The same command with --out {args.out} resumes: finished models are reused")
            return code
        clear(args.out)
        folders = [model_folder(seed, args) for seed in range(args.n_seeds)]
        load = partial(MuraClassifier.load, device=args.device, dataset__cache=args.cache)
        nets = [load(folder) for folder in folders]
        model, about = choose(nets, args, parent)
        shutil.rmtree(args.out / "model", ignore_errors=True)  # of an earlier call
        save_mlmodel(model, args.out / "model")
        parent.log_model(args.out / "model")
        found = collect_predictions(model, valid, n_cases=args.cases)
        scores = write_report(
            args.out / "report",
            found,
            histories={f"seed_{net.seed_}": net.history for net in nets},
            about=about,
            published=is_mura(studies),
            study_facts=args.study_facts,
            prevalence=args.prevalence,
            title=title(args),
        )
        table = paper_table(scores, published=is_mura(studies))
        text = "\n".join([format_paper_table(table), note or ""])
        (args.out / "report" / "table_2.txt").write_text(text, encoding="utf-8")
        if note:
            table = table.assign(note=note)
        table.to_csv(args.out / "report" / "table_2.csv", index=False)
        root = "MURA-v1.1" if is_mura(studies) else Path(args.data).resolve().name
        write_competition(found.predictions, args.out / "predictions.csv", root=root)
        parent.log_text((args.out / "predictions.csv").read_text(), "predictions.csv")
        log_scores(parent, scores, report=args.out / "report")
    print(f"\n{format_scores(scores)}\n\n{text}\n")
    print(*(f"{name}: {text}" for name, text in about.items()), sep="\n")
    print(
        f"\nReport: {args.out}/report/report.html\nCompetition's file: {args.out}/predictions.csv"
    )
    print(runs_sentence(experiment_id))
    return 0


def title(args):
    """Return the title of the report, which names departures from the protocol."""
    text = f"The MURA paper's protocol {args.protocol}"
    if departures(args):
        text += " (shortened)"
    if args.select_on_valid:
        text += " - selected on the split reported"
    return text


def train_seed(seed, train, valid, args, parent):
    """Train on single views and save the model of a seed, unless an earlier call has saved it.

    Return the seed, and the error, if any.
    """
    folder = model_folder(seed, args)
    if (folder / "model.json").is_file():
        return seed, True, None
    held_out = PatientSplit(args.valid_share)  # the same patients for every seed
    state = checkpoint_path(args.out, f"seed_{seed}")
    try:
        torch.set_num_threads(args.threads)
        with TrackedRun(
            run_id_of(state), name=f"seed_{seed}", parent=parent, note=parent.note
        ) as run:
            clf = make_classifier(
                args,
                train_split=ValidStudies(explode_views(valid))
                if args.select_on_valid
                else held_out,
                random_state=seed,
                callbacks__mlflow__run_id=run,
                callbacks__print_log=EpochLine(f"seed_{seed}"),
                checkpoint_path=state,
            ).fit(explode_views(train))
            if clf.interrupted_:
                raise KeyboardInterrupt
        clf.save(folder)
    except Exception as error:
        return seed, None, f"FAILED: {error}"
    return seed, True, None


def make_classifier(args, **params):
    """Return the classifier of the protocol."""
    return MuraClassifier(
        module__weights=weights_or_none(args.weights),
        module__augment=Augment(degrees=args.degrees),
        criterion__level="view",
        criterion__count="views",
        dataset__image_size=args.image_size,
        dataset__cache=args.cache,
        max_epochs=args.max_epochs,
        lr=args.lr,
        batch_size=8,  # images, as each study is one view
        device=args.device,
        iterator_train__num_workers=args.workers,
        iterator_valid__num_workers=args.workers,
        **params,
    )


def model_folder(seed, args):
    """Return the folder of the model of a seed."""
    return args.out / "models" / f"seed_{seed}"


def choose(nets, args, parent):
    """Average the models with the lowest validation losses; also return facts for the report."""
    ranked = sorted(nets, key=best_valid_loss)  # type: ignore[arg-type]  # all have one
    members = ranked[: args.n_members]
    listed = ", ".join(f"{net.seed_} ({best_valid_loss(net):.4f})" for net in ranked)
    parent.log_params({"members": ",".join(str(net.seed_) for net in members)})
    parent.set_tags({"member_run_ids": ",".join(str(net.run_id_) for net in members)})
    chosen_on = f"on {args.valid_share:.0%} of the train split's patients, held out"
    if args.select_on_valid:
        chosen_on = "ON THE VALID SPLIT THAT IS REPORTED (--select-on-valid): figures are too good"
    about = {
        "Question": QUESTION,
        "Data": f"{Path(args.data).name}: trained on single views of the train split, evaluated on "
        "studies of the valid split",
        "Protocol": f"{args.protocol}: {args.image_size} pixels, rotation up to {args.degrees} "
        "degrees, loss of each view weighted by views, batches of 8 views, abnormal above 0.5",
        "Departures": ", ".join(departures(args)) or "none",
        "Selection": f"epochs and members by the lowest validation loss, {chosen_on}",
        "Members": ", ".join(f"seed {net.seed_} (run {net.run_id_})" for net in members),
        "Seeds, by loss": listed,
        "Settings": ", ".join(f"{name} {Path(str(getattr(args, name))).name}" for name in COMMON),
        "MLflow run": str(parent.run_id),
    }
    return members[0] if len(members) == 1 else MuraEnsemble.of(members), about


def departures(args):
    """Describe the differences between the settings and the protocol."""
    settings = COMMON | PROTOCOLS[args.protocol]
    return [
        f"{name} {Path(str(getattr(args, name))).name} instead of {value}"
        for name, value in settings.items()
        if getattr(args, name) != value
    ]


def read(args):
    """Return the studies, and fill in the arguments that depend on them."""
    args.data = find_data(args.data)
    studies = read_train_valid(args.data)
    protocol = PROTOCOLS[args.protocol]
    small = protocol | SMALL[args.protocol]
    fill_in(
        args,
        DEFAULTS | {name: (protocol[name], small[name]) for name in protocol},
        are_phantoms=are_phantoms(studies),
    )
    if not 1 <= args.n_members <= args.n_seeds:
        raise ValueError(
            f"expected --n-members from 1 to --n-seeds, {args.n_seeds}, got {args.n_members}"
        )
    return studies


def shared_settings(args, studies):
    """Return the settings and the digest of the data that all models of a folder share."""
    data = data_digest(prediction_table(studies[studies["split"] != "test"]))
    return {name: getattr(args, name) for name in SHARED} | {"data": data}
