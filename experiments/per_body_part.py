"""Which body parts can the network read? One model per study type, side by side in MLflow.

python experiments/per_body_part.py                             # phantoms, minutes on two cores
python experiments/per_body_part.py --data MURA-v1.1 --pooled   # hours on a GPU
python experiments/per_body_part.py --resume results/20261123-101500   # go on after a crash
"""

import argparse
import logging
import shutil
import sys
import tempfile
import time
from argparse import Namespace
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from shutil import ignore_patterns

import pandas as pd
import torch
from joblib import Parallel, delayed
from joblib.externals.loky.process_executor import TerminatedWorkerError

from mura_skorch import MuraClassifier, PatientSplit, read_studies, write_phantoms
from mura_skorch.callbacks import EpochLine, format_seconds
from mura_skorch.cli.script_state import (
    OF_CALLS,
    alone_in,
    check_is_new,
    forget_call,
    keep_call,
    kept_call,
    state_file_of,
)
from mura_skorch.data import check_apart
from mura_skorch.evaluation import beside_pooled, join_notes
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.evaluation.published import is_mura
from mura_skorch.metrics import OVERALL
from mura_skorch.models import StudyDenseNet
from mura_skorch.report import judge, write_report
from mura_skorch.tracking import (
    TrackedRun,
    end_children,
    log_scores,
    log_test_scores,
    runs_link,
    use_experiment,
)
from mura_skorch.training.checkpoint import run_id_of
from mura_skorch.training.device import count_cores
from mura_skorch.training.signals import Interruptions
from mura_skorch.utils.text import printable

POOLED = "all"
OF_THIS_CALL = ("resume", "parent_run_id")
PHANTOMS = Path("phantoms")
# Default of an argument: as in the paper, and for phantoms, small enough for minutes on two cores.
DEFAULTS = {
    "weights": ("IMAGENET1K_V1", "none"),
    "image_size": (224, 64),  # pixels
    "max_epochs": (10, 7),
    "batch_size": (8, 8),  # studies
    "lr": (1e-4, 5e-4),
    "valid_share": (0.1, 0.2),
    "jobs": (1, min(4, count_cores())),
    "threads": (count_cores(), 1),
}


def main(argv=None):
    """Train, judge and tabulate; return 0, 1 when a type failed, 130 or 143 when interrupted."""
    args = parse(argv)
    is_resumed = args.resume is not None
    with ExitStack() as stack:
        try:
            args = kept_call(args.resume) if is_resumed else args
            studies = read(args)
            StudyDenseNet(None if args.weights == "none" else args.weights)  # fails here or never
            stack.enter_context(alone_in(args.out))
            if not is_resumed:
                check_is_new(args.out)
            experiment_id = use_experiment(args.experiment, note=join_notes(studies))
        except (OSError, ValueError) as error:
            sys.exit(f"per_body_part: {error}")
        stack.enter_context(Interruptions().raised())
        return run(args, studies, experiment_id, is_resumed)


def run(args, studies, experiment_id, is_resumed):
    """Train on each type, and write the report of those that came to their end."""
    note = join_notes(studies)
    settings = {name: value for name, value in vars(args).items() if name not in OF_THIS_CALL}
    print(note or "", *(f"{name}={value}" for name, value in settings.items()), flush=True)
    names = args.study_types + [POOLED] * args.pooled
    done, failed, code, begin = {}, {}, 0, time.time()
    with TrackedRun(args.parent_run_id, name="per_body_part", note=note) as parent:
        if is_resumed:
            end_children(parent, "KILLED")  # those that are gone on with are opened again
        else:
            args.parent_run_id = parent.run_id
            keep_call(args.out, args)
        parent.log_params(settings | {"study_types": ",".join(args.study_types)})
        try:
            pool = Parallel(n_jobs=args.jobs, return_as="generator_unordered")
            for name, found, why in pool(delayed(train)(n, studies, args, parent) for n in names):
                if why:
                    failed[name] = why
                else:
                    done[name] = found
                n_done = len(done) + len(failed)
                rounds, past = (-(-n // args.jobs) for n in (len(names) - n_done, n_done))
                left = format_seconds((time.time() - begin) / past * rounds)
                state = f"{n_done} of {len(names)} models, about {left} left"
                print(f"{printable(name):<12} {why or 'done'}; {state}", flush=True)
        except (KeyboardInterrupt, SystemExit, TerminatedWorkerError) as error:
            code, parent.status, why = {
                KeyboardInterrupt: (130, "KILLED", "stopped by Ctrl-C"),
                SystemExit: (143, "KILLED", "stopped by SIGTERM"),
            }.get(type(error), (1, "FAILED", "FAILED: a worker was killed; lower --jobs"))
            end_children(parent, parent.status)
            failed |= {name: why for name in names if name not in {**done, **failed}}
        if failed and not code:
            code, parent.status = 1, "FAILED"
        scores = report(done, failed, studies, args, parent)
        if not failed:
            forget_call(args.out)
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(args.out, folder, dirs_exist_ok=True, ignore=ignore_patterns(*OF_CALLS))
            log_scores(parent, scores, report=folder)
    print(f"\n{format_scores(scores)}\n{note or ''}\n\nReport: {args.out}/report.html")
    if experiment_id is None:
        print("Runs: MLflow did not answer; send what it did not get with mura-skorch sync")
    else:
        print(f"Runs: start mlflow ui here and open {runs_link(experiment_id)}")
    if failed:
        print(f"To go on where each type was: {sys.argv[0]} --resume {args.out}")
    return code


def train(name, studies, args, parent):
    """Train on one type's train split and judge on its valid split; return what went wrong, too."""
    own = studies if name == POOLED else studies[studies.study_type == name]
    train, valid = own[own.split == "train"], own[own.split == "valid"]
    try:
        torch.set_num_threads(args.threads)
        if train.empty or valid.empty:
            raise ValueError(f"got {len(train)} train and {len(valid)} valid studies")
        state = state_file_of(args.out, name)
        with TrackedRun(
            run_id_of(state),
            name=name,
            parent=parent,
            note=parent.note,
        ) as run:
            clf = MuraClassifier(
                module__weights=None if args.weights == "none" else args.weights,
                dataset__image_size=args.image_size,
                dataset__cache=args.cache,
                criterion__level=args.level,
                max_epochs=args.max_epochs,
                batch_size=args.batch_size,
                lr=args.lr,
                train_split=PatientSplit(args.valid_share),
                device=args.device,
                random_state=args.random_state,
                callbacks__mlflow__run_id=run,
                callbacks__print_log=EpochLine(name),
                state_file=state,
            ).fit(train)
            if clf.interrupted_:
                raise KeyboardInterrupt
            found = judge(clf, valid, n_cases=args.cases)
            if ("test/kappa", 0) not in (run.logged_metrics() or ()):
                log_test_scores(run, found.predictions)
    except Exception as error:
        return name, None, f"FAILED: {error}"
    return name, (found, [{**row, "batches": []} for row in clf.history]), None


def report(done, failed, studies, args, parent):
    """Write the report of all types; return its scores."""
    done = dict(sorted(done.items()))  # by name, not by who was ready first
    own = [found for name, (found, _) in done.items() if name != POOLED]
    pooled = done[POOLED][0].predictions if POOLED in done else None
    views = [found.view_predictions for found in own]
    about = {
        "Question": __doc__.splitlines()[0],
        "Data": f"{args.data.name}: trained on the train split, judged on the valid split",
        "Selection": f"epochs by the loss on {args.valid_share:.0%} of the train split's patients",
        "Settings": ", ".join(f"{name} {getattr(args, name)}" for name in (*DEFAULTS, "level")),
        "Random state": str(args.random_state),
        "MLflow run": str(parent.run_id),
    }
    return write_report(
        args.out,
        beside_pooled([found.predictions for found in own], pooled),
        view_predictions=pd.concat(views, ignore_index=True) if views else None,
        histories={name: history for name, (_, history) in done.items()},
        about=about,
        cases=[case for found in own for case in found.cases],
        model=[
            "One model per study type.",
            *dict.fromkeys(t for found in own for t in found.model),
        ],
        published=is_mura(studies),
        failed=failed,
        title="One model per body part",
    )


def read(args):
    """Return the studies, and fill in the arguments that depend on them."""
    if args.data is None:
        args.data = PHANTOMS
        if not PHANTOMS.exists():
            print(f"No --data: drawing phantoms into {PHANTOMS}/ ...", flush=True)
            write_phantoms(PHANTOMS)
    studies = read_studies(args.data)
    if not {"train", "valid"} <= set(studies.split):
        found = sorted(set(studies.split))
        raise ValueError(f"expected a train and a valid split in {args.data}, got {found}")
    check_apart(studies[studies["split"] == "train"], studies[studies["split"] == "valid"])
    are_phantoms = (join_notes(studies) or "").startswith("phantoms")
    for name, choices in DEFAULTS.items():
        if getattr(args, name) is None:
            setattr(args, name, choices[are_phantoms])
    present = sorted(studies.study_type.unique())
    if reserved := {POOLED, OVERALL} & set(present):
        raise ValueError(f"expected study types other than {POOLED} and {OVERALL}, got {reserved}")
    args.study_types = sorted(set(args.study_types or present))
    if unknown := sorted(set(args.study_types) - set(present)):
        raise ValueError(f"expected --study-types among {present}, got {unknown}")
    if args.jobs * args.threads > count_cores():
        print(
            f"{args.jobs} jobs of {args.threads} threads on {count_cores()} cores wait for each "
            "other: pass a smaller --threads (other numbers of threads give other roundings)"
        )
    return studies[studies.study_type.isin(args.study_types)]


def parse(argv):
    """Return the arguments; None where the data decide."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--data", type=Path, help="MURA's folder or one like it (default: drawn phantoms)")
    add("--study-types", nargs="+", metavar="TYPE", help="default: all in the data")
    add("--weights", help="torchvision name, path, or none (default: ImageNet's; phantoms: none)")
    add("--image-size", type=int, metavar="PIXELS")
    add("--max-epochs", type=int)
    add("--batch-size", type=int, metavar="STUDIES")
    add("--lr", type=float)
    add("--level", choices=["study", "view"], default="study", help="level of the loss")
    add("--device", default="auto")
    add("--valid-share", type=float, help="share of the train split's patients that choose epochs")
    add("--jobs", type=int, help="types trained at a time; the numbers do not depend on it")
    add("--threads", type=int, help="CPU threads of one training; the numbers depend on it")
    add("--cache", type=Path, help="folder that keeps prepared views, so that none is read twice")
    add("--random-state", type=int, default=0)
    add("--experiment", default="per_body_part", help="name of the MLflow experiment")
    add("--resume", type=Path, metavar="OUT", help="alone: go on with the call of that --out")
    add("--cases", type=int, default=1, help="misses and false alarms of each type to show")
    add("--pooled", action="store_true", help="train one model on all types, too")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    add("--out", type=Path, default=Path("results") / stamp, help="folder of the report")
    args = parser.parse_args(argv, Namespace(parent_run_id=None))
    if args.resume is not None and len(sys.argv[1:] if argv is None else argv) > 2:
        parser.error("expected --resume OUT alone: it takes the arguments of the call it goes on")
    return args


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s")
    logging.getLogger("mura_skorch").setLevel(logging.INFO)  # in a log, how far long work is
    sys.exit(main())
