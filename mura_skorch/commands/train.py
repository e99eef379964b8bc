"""What ``mura-skorch train`` does: train one model per study type and report on all."""

import shlex
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import pandas as pd
import torch

from mura_skorch.callbacks import EpochLine
from mura_skorch.classifier import MuraClassifier
from mura_skorch.commands import CommandError
from mura_skorch.commands.cluster import LOCAL, dask_client, make_absolute
from mura_skorch.commands.data import choose_studies, find_data, read_train_valid, weights_or_none
from mura_skorch.commands.defaults import TRAIN
from mura_skorch.commands.jobs import run_tasks
from mura_skorch.commands.runs import own_program, runs_sentence
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
from mura_skorch.commands.settings import check_fit, shared_parameters
from mura_skorch.data import PatientSplit
from mura_skorch.distributed import count_processes
from mura_skorch.evaluation import add_pooled_scores, join_notes
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.evaluation.published import is_mura
from mura_skorch.metrics import OVERALL
from mura_skorch.models import StudyNetwork
from mura_skorch.report import (
    ReportInputs,
    collect_predictions,
    join_data,
    read_study_facts,
    write_report,
)
from mura_skorch.report.model_card import join_descriptions
from mura_skorch.tracking import (
    TrackedRun,
    end_children,
    log_scores,
    log_test_scores,
    run_link,
    use_experiment,
)
from mura_skorch.training.checkpoint_file import run_id_of
from mura_skorch.training.device import count_cores
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.signals import signals_as_exceptions
from mura_skorch.utils.text import printable

__all__ = ["DEFAULTS", "main", "make_classifier", "read"]

QUESTION = "Which body parts can the network read? One model per study type, compared in MLflow."
POOLED = "all"
MOST_MODELS = 7  # of which the ids are printed
OF_THIS_CALL = ("resume", "dask", "parent_run_id")  # not as in a call that is resumed
DEFAULTS = TRAIN | {"jobs": (1, min(4, count_cores())), "threads": (count_cores(), 1)}


def main(args: Namespace) -> int:
    """Train, evaluate and report; return 0, 1 if a type failed, 130 or 143 if interrupted."""
    resume_after_restart(args)
    is_resumed = args.resume is not None
    with ExitStack() as stack:
        try:
            if is_resumed:
                dask, args = args.dask, load_args(args.resume)
                args.dask = dask
            if args.dask is not None:
                make_absolute(args)
            check_writable(args.out)
            read_study_facts(args.study_facts or {})  # fails here or never
            studies = read(args)
            check_fit(make_classifier, args)
            StudyNetwork(weights_or_none(args.weights))  # fails here or never
            stack.enter_context(lock_folder(args.out))
            if not is_resumed:
                check_new(args.out)
            experiment_id = use_experiment(args.experiment, note=join_notes(studies))
            client = stack.enter_context(dask_client(args.dask, args.jobs))
        except (ImportError, OSError, TypeError, ValueError) as error:
            raise CommandError(error) from error
        stack.enter_context(signals_as_exceptions())
        return run(args, studies, experiment_id, is_resumed, client)


def run(args, studies, experiment_id, is_resumed, client=None):
    """Train on each type, and report the types that finished."""
    note = join_notes(studies)
    settings = {name: value for name, value in vars(args).items() if name not in OF_THIS_CALL}
    print(note or "", *(f"{name}={value}" for name, value in settings.items()), flush=True)
    names = args.study_types + ([POOLED] if args.pooled else [])
    with TrackedRun(args.parent_run_id, name="per_body_part", note=note) as parent:
        if is_resumed:
            end_children(parent, "KILLED")  # resumed runs are opened again
        else:
            args.parent_run_id = parent.run_id
            save_args(args.out, args)
        parent.log_params(settings | {"study_types": ",".join(args.study_types)})
        done, failed, code = run_tasks(
            train,
            names,
            studies,
            args,
            parent=parent,
            jobs=args.jobs,
            label=lambda name: f"{printable(name):<12}",
            client=client,
        )
        scores = report(done, failed, studies, args, parent)
        if not failed:
            clear(args.out)
        with copied_results(args.out) as folder:
            log_scores(parent, scores, report=folder)
    print(f"\n{format_scores(scores)}\n{note or ''}\n\nReport: {args.out}/report.html")
    print(runs_sentence(experiment_id))
    print(*model_lines(done, args.data), sep="\n")
    if failed:
        there = f" --dask {args.dask}" if args.dask else ""
        print(f"Resume with: {resume_command(args.out, there)}")
    return code


def train(name, studies, args, parent):
    """Train on a type's train split and predict its valid split; return the error, if any, too."""
    own = studies if name == POOLED else studies[studies.study_type == name]
    train, valid = own[own.split == "train"], own[own.split == "valid"]
    try:
        torch.set_num_threads(args.threads)
        if train.empty or valid.empty:
            raise ValueError(f"got {len(train)} train and {len(valid)} valid studies")
        state = checkpoint_path(args.out, name)
        with TrackedRun(
            run_id_of(state),
            name=name,
            parent=parent,
            note=parent.note,
        ) as run:
            clf = make_classifier(
                args,
                callbacks__mlflow__run_id=run,
                callbacks__print_log=EpochLine(name),
                checkpoint_path=state,
            ).fit(train)
            if clf.interrupted_:
                raise KeyboardInterrupt
            found = collect_predictions(clf, valid, n_cases=args.cases)
            if ("test/kappa", 0) not in (run.logged_metrics() or ()):
                log_test_scores(run, found.predictions)
    except Exception as error:
        return name, None, f"FAILED: {error}"
    history = [{**row, "batches": []} for row in clf.history]
    return name, (found, history, patients_of(clf, found.predictions), run.run_id), None


def patients_of(clf, predictions):
    """Return the patients of the fit's parts and of the scored studies, as keys."""
    return {
        "training": clf.trained_patients_,
        "validation": clf.validated_patients_,
        "scored": set(patient_keys(scored_rows(predictions)["patient"])),
    }


def make_classifier(args, **params):
    """Return the classifier that is fitted on each type."""
    return MuraClassifier(
        **shared_parameters(args),
        criterion__level=args.level,
        train_split=PatientSplit(args.valid_share),
        device=args.device,
        random_state=args.random_state,
        **params,
    )


def report(done, failed, studies, args, parent):
    """Write the report of all types; return its scores."""
    done = dict(sorted(done.items()))  # by name, whichever finished first
    own = [found for name, (found, *_) in done.items() if name != POOLED]
    patients = [seen for name, (*_, seen, _) in done.items() if name != POOLED]
    pooled = done[POOLED][0].predictions if POOLED in done else None
    views = [found.view_predictions for found in own]
    about = {
        "Question": QUESTION,
        "Data": f"{Path(args.data).name}: trained on the train split, evaluated on the valid split",
        "Selection": f"epochs by the loss on {args.valid_share:.0%} of the train split's patients",
        "Settings": ", ".join(f"{name} {getattr(args, name)}" for name in (*DEFAULTS, "level")),
        "Random state": str(args.random_state),
        "MLflow run of this page": run_text(parent.run_id),
        **{f"MLflow run of {name}": run_text(run_id) for name, (*_, run_id) in done.items()},
    }
    models = {name: found.model for name, (found, *_) in done.items() if name != POOLED}
    inputs = ReportInputs(
        predictions=add_pooled_scores([found.predictions for found in own], pooled),
        view_predictions=pd.concat(views, ignore_index=True) if views else None,
        cases=[case for found in own for case in found.cases],
        model=["One model per study type.", *join_descriptions(models)],
        alerts=[alert for found in own for alert in found.alerts],
        data=join_data([found.data for found in own], patients),
    )
    return write_report(
        args.out,
        inputs,
        histories={name: history for name, (_, history, *_) in done.items()},
        about=about,
        published=is_mura(studies),
        failed=failed,
        study_facts=args.study_facts,
        prevalence=args.prevalence,
        title="One model per body part",
    )


def model_lines(done, data):
    """Return the ids of the models, and a command that predicts with the first, in few lines."""
    ids = {name: run_id for name, (*_, run_id) in sorted(done.items()) if run_id is not None}
    if not ids:
        return []
    lines = [f"  {printable(name):<12} {run_id}" for name, run_id in ids.items()]
    if len(lines) > MOST_MODELS:
        lines[MOST_MODELS:] = [f"  and {len(lines) - MOST_MODELS} more, which the report names"]
    call = f"{own_program('mura-skorch')} predict --model {next(iter(ids.values()))}"
    call += f" --data {shlex.quote(str(data))}"
    return ["Models, by the ids of their runs:", *lines, f"Predict with one: {call}"]


def run_text(run_id):
    """Return the id of a run, and its address if there is a server."""
    return " ".join(filter(None, [str(run_id), run_link(run_id)]))


def read(args):
    """Return the studies, and fill in the arguments that depend on them."""
    args.data = find_data(args.data)
    studies = read_train_valid(args.data)
    if reserved := {POOLED, OVERALL} & set(studies.study_type):
        raise ValueError(f"expected study types other than {POOLED} and {OVERALL}, got {reserved}")
    if count_processes() > 1:
        args.jobs = args.jobs or 1
        if args.jobs > 1:
            raise ValueError(
                f"expected --jobs 1 where {count_processes()} processes train each model, got "
                f"{args.jobs}; leave --jobs out"
            )
    studies = choose_studies(args, studies, DEFAULTS)
    if args.dask in (None, LOCAL) and args.jobs * args.threads > count_cores():
        print(
            f"{args.jobs} jobs of {args.threads} threads on {count_cores()} cores slow each other "
            "down: pass a smaller --threads (which changes the rounding of results)"
        )
    return studies
