r"""Which setting is best? Try many with Optuna, in one process or several that share a database.

python experiments/sweep.py                                   # phantoms, minutes on two cores
python experiments/sweep.py --data MURA-v1.1 --study-types XR_WRIST --study wrists \
    --storage sqlite:///sweep.db --trials 40 --prune median \
    --space lr=1e-5:1e-2:log batch_size=4,8,16 backbone=densenet169,resnet50

The same command in a second terminal, or on another machine, works on the same study. After a kill,
a crash or Ctrl-C, the same command continues, up to --trials in total; a trial goes on from its
checkpoint. All trials are scored on the same studies: a part of the train split's patients, or with
--folds 5 all of them. The valid split is not looked at, except with --re-estimate valid.
"""

import math
import shlex
import sys
import time
import uuid
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from sklearn.model_selection import StratifiedGroupKFold

from mura_skorch import MuraClassifier, PatientSplit, ValidStudies
from mura_skorch.callbacks import EpochLine, Pruning, format_seconds
from mura_skorch.cli.options import add_option, make_parser
from mura_skorch.cli.scripts import start_script
from mura_skorch.commands.data import choose_studies, find_data, read_train_valid, weights_or_none
from mura_skorch.commands.jobs import runs_sentence
from mura_skorch.commands.script_state import check_settings, checkpoint_path, copied_results
from mura_skorch.commands.settings import DEFAULTS as NO_SETTINGS
from mura_skorch.commands.settings import absolute_network, load_network, read_settings
from mura_skorch.data.dataset import StudyDataset, studies_of
from mura_skorch.evaluation import choice_optimism, join_notes, prediction_table
from mura_skorch.metrics import OVERALL
from mura_skorch.studies.validation import check_studies
from mura_skorch.sweeps import SweepResult, TrialQueue, parameters_of, read_space, write_sweep
from mura_skorch.tracking import (
    TrackedRun,
    end_children,
    log_test_scores,
    use_experiment,
)
from mura_skorch.training.device import count_cores
from mura_skorch.training.parameters import check_parameters
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.provenance import data_digest
from mura_skorch.utils.signals import signals_as_exceptions
from mura_skorch.utils.text import interval_text, short_reason

PHANTOMS = Path("phantoms_sweep")
N_DRAWN = {"n_train": 100, "n_valid": 50, "n_test": 0}  # studies
# Default of an argument: as in the paper, and for phantoms, small enough for minutes on two cores.
DEFAULTS = {
    "weights": ("IMAGENET1K_V1", "none"),
    "image_size": (224, 64),  # pixels
    "max_epochs": (10, 3),
    "batch_size": (8, 8),  # studies
    "lr": (1e-4, 5e-4),
    "valid_share": (0.1, 0.2),
    "threads": (count_cores(), 1),
}
METRICS = {"valid_loss": "minimize", "valid_kappa": "maximize"}
# What all trials of a study share.
SHARED = (
    *("study_types", "space", "set", "folds", "metric", "weights", "module", "image_size"),
    *("max_epochs", "batch_size", "lr", "valid_share", "random_state"),
)
# What the script itself sets.
OWN = ("random_state", "checkpoint_path", "device", "train_split", "callbacks")
OWN_CALLBACKS = ("callbacks__mlflow", "callbacks__print_log", "callbacks__pruning")
LOSS_CHANGERS = ("criterion", "criterion__level", "criterion__count")
N_FRESH = 5  # folds of a re-estimate
MOST_ERRORS = 3  # in a row, before a worker gives up
ORDER = ("complete", "pruned", "running", "waiting")  # which of a trial's attempts counts
STOPPED = {KeyboardInterrupt: 130, SystemExit: 143}
TRIAL, RE_ESTIMATE = "trial ", "re-estimate "  # how the names of child runs begin


def main(argv=None):
    """Run trials and report; return 0, 1 if none is complete, 130 or 143 if interrupted."""
    args = parse(argv)
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
            sys.exit(f"sweep: {error}")
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


# --- trials ----------------------------------------------------------------------------------


def work(queue, parts, parent, args):
    """Run trials until none is left, neither here nor in a worker that was killed."""
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
    """Train on one part, validated on the other; return the classifier and its best value."""
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


# --- the choice ------------------------------------------------------------------------------


def report(queue, studies, parent, args):
    """Write and log the page; return what it shows."""
    result = SweepResult(
        study=queue.study,
        trials=trials_table(queue, args),
        metric=args.metric,
        n_trials=args.trials,
        note=join_notes(studies),
        about={
            "Data": f"{Path(args.data).name}, {', '.join(args.study_types)}: the train split; "
            + (
                f"scored on {args.folds} folds by patient"
                if args.folds
                else f"scored on {args.valid_share:.0%} of its patients, the same for all trials"
            ),
            "Space": " ".join(args.space),
            "Settings of all trials": ", ".join(
                f"{name} {value}"
                for name, value in shared_settings(args).items()
                if name not in ("space", "study_types") and value is not None
            ),
            "Study and MLflow run": f"{args.study}, {parent.run_id}",
        },
    )
    best = result.best
    if best is not None:
        params = params_of(queue, best)
        known = queue.study.user_attrs.get("re_estimates", {})
        sentences = [
            found["text"] for found in known.values() if found["trial"] == int(best["trial"])
        ]
        result = replace(
            result,
            recipe=recipe(params, args),
            comparison=comparison(params, args),
            optimism=optimism(result.trials, args),
            re_estimate=" ".join(sentences) or None,
        )
        parent.log_metrics({f"best/{args.metric}": best["value"], "best/trial": best["trial"]})
    write_sweep(args.out, result, title=f"Sweep: {args.study}")
    with copied_results(args.out, ".*", "*.db*") as folder:
        parent.log_folder(folder)
    return result


def trials_table(queue, args):
    """Return one row per setting, in the order in which they were begun."""
    rows = []
    for origin, attempts in sorted(queue.attempts().items()):
        states = {trial.state.name.lower(): trial for trial in attempts}
        state = next((name for name in ORDER if name in states), "fail")
        trial = states.get(state, attempts[-1])
        attrs = trial.user_attrs
        if state == "fail":
            words = {"error": "failed", "interrupted": "interrupted", "held": "held elsewhere"}
            state = words.get(attrs.get("reason"), "killed")
        elif state == "pruned" and "error" in attrs:
            state = "diverged"
        spans = [t.duration.total_seconds() for t in attempts if t.duration is not None]
        rows.append(
            {
                "trial": origin,
                "state": state,
                **attempts[0].params,
                "value": trial.value if state == "complete" else math.nan,
                "epochs": attrs.get("epochs"),
                "attempts": len(attempts),
                "minutes": round(sum(spans) / 60, 2),
                "run": attrs.get("mlflow_run"),
                "error": attrs.get("error", ""),
            }
        )
    last = ("value", "epochs", "attempts", "minutes", "run", "error")
    names = ["trial", "state", *queue.space, *last]
    return pd.DataFrame(rows, columns=names).astype({"epochs": "Int64"})


def params_of(queue, best):
    """Return the values of the best trial, of their own types."""
    attempts = queue.attempts()[int(best["trial"])]
    return next(trial.params for trial in attempts if trial.state.name == "COMPLETE")


def optimism(trials, args):
    """Return how far the best of the complete trials is optimistic, or None for a single one."""
    numbers = trials.loc[trials["state"] == "complete", "trial"]
    tables = []
    for number in numbers:
        files = sorted((args.out / "predictions").glob(f"{slug(f'{TRIAL}{number}')}-*.csv"))
        if files:  # not where another machine has another folder
            tables.append(pd.concat([pd.read_csv(f, dtype={"patient": str}) for f in files]))
    if len(tables) < 2 or len({len(table) for table in tables}) > 1:
        return None
    first = tables[0]
    return choice_optimism(
        first["label"],
        np.stack([table["score"] for table in tables]),
        groups=patient_keys(first["patient"]),
        by="kappa" if args.metric == "valid_kappa" else "log_loss",
        threshold=[table["threshold"].iloc[0] for table in tables],
    )


def re_estimate(queue, studies, parts, parent, args):
    """Train the best setting again where other studies score it; keep a sentence in the study."""
    trials = trials_table(queue, args)
    best = SweepResult(queue.study, trials, args.metric, args.trials).best
    known = queue.study.user_attrs.get("re_estimates", {})
    kind = args.re_estimate
    if best is None or known.get(kind, {}).get("trial") == int(best["trial"]):
        return
    number = int(best["trial"])
    params = params_of(queue, best)
    name = f"{RE_ESTIMATE}{kind} {number}"
    (args.out / "state").mkdir(exist_ok=True)
    lock = FileLock(args.out / "state" / f".{slug(name)}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print("Another worker trains the best setting again.", flush=True)
        return
    try:
        # Whoever began one was killed.
        end_children(
            parent, "KILLED", is_lost=lambda run: run.info.run_name.startswith(RE_ESTIMATE)
        )
        with TrackedRun(name=name, parent=parent, note=parent.note) as own_run:
            retrain = re_estimate_valid if kind == "valid" else re_estimate_folds
            text = retrain(studies, parts, params, name, own_run, args)
        text += f" Among the trials it had {args.metric} {best['value']:.4g}."
        found = {"trial": number, "text": text}
        queue.study.set_user_attr("re_estimates", known | {kind: found})
        remove_checkpoints(name, args)
        print(text, flush=True)
    finally:
        lock.release()


def re_estimate_folds(studies, parts, params, name, own_run, args):
    """Cross-validate with another seed; without --folds on patients that chose no setting."""
    rest = None
    pool = studies[studies.split == "train"]
    if not args.folds:
        pool, rest = parts[0]
    values = []
    for k, (train, valid) in enumerate(folds(pool, N_FRESH, args.random_state + 1)):
        part = (train if rest is None else pd.concat([train, rest]), valid)
        _, value = train_part(
            part,
            f"{name}-{k}",
            params,
            args,
            seed=args.random_state + 1,
            callbacks__mlflow__run_name=f"{name} fold {k + 1}",
        )
        values.append(value)
    own_run.log_metrics({f"valid/{args.metric.removeprefix('valid_')}": float(np.mean(values))})
    who = "all patients of the sweep" if rest is None else "patients that had chosen no setting"
    return (
        f"Trained again with another seed on {N_FRESH} fresh folds of {who}, trial "
        f"{number_of(name)} has a mean {args.metric} of {np.mean(values):.4g} "
        f"({min(values):.4g} to {max(values):.4g})."
    )


def re_estimate_valid(studies, parts, params, name, own_run, args):
    """Train on the train split and test on the valid split, once."""
    part = parts[0]
    if args.folds:
        part = hold_out(studies[studies.split == "train"], args)
    clf, _ = train_part(
        part,
        f"{name}-0",
        params,
        args,
        seed=args.random_state + 1,
        callbacks__mlflow__run_id=own_run,
    )
    test = studies[studies.split == "valid"]
    table = prediction_table(test, clf.predict_proba(test)[:, 1], threshold=clf.threshold_)
    row = log_test_scores(own_run, table).set_index("study_type").loc[OVERALL]
    kappa, auroc = (
        interval_text(row[n], row[f"{n}_low"], row[f"{n}_high"]) for n in ("kappa", "auroc")
    )
    return (
        "Trained again with another seed and tested on the valid split, trial "
        f"{number_of(name)} has kappa {kappa} and AUROC {auroc} on {len(table)} studies."
    )


def recipe(params, args):
    """Return lines of Python that train a setting."""
    settings = parameters(params, args, is_text=True)
    lines = [
        "from mura_skorch import MuraClassifier, PatientSplit, read_studies",
        "",
        f"studies = read_studies({str(args.data)!r})",
        f"own = studies[studies.study_type.isin({args.study_types})]",
        'train = own[own.split == "train"]',
        "clf = MuraClassifier(",
        *(f"    {name}={value!r}," for name, value in settings.items()),
        f"    train_split=PatientSplit({args.valid_share}),",
        f"    random_state={args.random_state},",
    ]
    if args.module is not None:
        file, _, name = args.module.rpartition(":")
        lines[0] = f"import runpy\n\n{lines[0]}"
        lines.insert(-2, f"    module=runpy.run_path({file!r})[{name!r}],")
    if args.set != NO_SETTINGS:
        lines.insert(1, "from mura_skorch.commands.settings import read_settings")
        lines.append(f"    **read_settings({args.set!r}),")
    return "\n".join([*lines, ").fit(train)", ""])


def comparison(params, args):
    """Return the command that compares a setting with the defaults over several seeds."""
    if args.set != NO_SETTINGS and "=" not in args.set:
        return ""  # the parameters of a preset or a file cannot be joined with others
    given = [] if args.set == NO_SETTINGS else [args.set]
    for name, value in parameters_of(params).items():
        is_word = isinstance(value, str) and value.isidentifier()
        given.append(f"{name}={value if is_word else repr(value)}")  # few quotes for the shell
    words = ["python", "experiments/ablate.py", args.set, ",".join(given)]
    words += ["--data", str(args.data), "--study-types", *args.study_types]
    for name in ("module", *DEFAULTS):
        value = getattr(args, name)
        if value is not None and not (name == "weights" and args.module is not None):
            words += [f"--{name.replace('_', '-')}", str(value)]
    return shlex.join(words)


# --- settings and data -----------------------------------------------------------------------


def parameters(params, args, *, is_text=False):
    """Return the parameters of a setting on top of those that all trials share."""
    shared = {
        "dataset__image_size": args.image_size,
        "max_epochs": args.max_epochs,
        "batch_size": args.batch_size,
        "lr": args.lr,
    }
    if args.module is None:
        shared["module__weights"] = weights_or_none(args.weights)
    if is_text:
        return shared | parameters_of(params)
    if args.module is not None:
        shared["module"] = load_network(args.module)
    shared["dataset__cache"] = args.cache
    common = {name: getattr(args, name) for name in ("image_size", "max_epochs", "lr")}
    return shared | read_settings(args.set, **common) | parameters_of(params)


def check_space(space, args):
    """Raise ValueError where a value of the space is wrong, before anything is trained."""
    fixed = parameters({}, args)
    names = [*parameters_of(space), *fixed]
    wrong = [name for name in names if name in OWN or name.startswith(OWN_CALLBACKS)]
    if wrong:
        raise ValueError(
            f"expected --space and --set without {', '.join(wrong)}, which the script sets; use "
            "its options, see --help"
        )
    changing = [name for name in parameters_of(space) if name in LOSS_CHANGERS]
    if changing and args.metric == "valid_loss":
        raise ValueError(
            f"expected values of valid_loss that compare, got {', '.join(changing)} in "
            "--space, which change what it is; pass --metric valid_kappa"
        )
    for name, distribution in space.items():
        choices = getattr(distribution, "choices", None)
        for value in choices or (distribution.low, distribution.high):
            check_parameters(MuraClassifier(**fixed | parameters_of({name: value})))


def check_shared(study, studies, args):
    """Raise ValueError where a study was begun with other data or settings."""
    now = {name: getattr(args, name) for name in SHARED} | {"space": sorted(args.space)}
    now["data"] = data_digest(prediction_table(studies[studies.split == "train"]))
    saved = study.user_attrs.get("shared")
    if saved is None:
        saved = now | {"id": uuid.uuid4().hex}
        study.set_user_attr("shared", saved)
    if differing := [name for name in now if now[name] != saved.get(name)]:
        values = {name: f" ({now[name]}, not {saved.get(name)})" for name in SHARED}
        texts = [f"{name}{values.get(name, '')}" for name in differing]
        raise ValueError(
            f"expected the settings with which the study {args.study} was begun, got different "
            f"{', '.join(texts)}; pass another --study and another --out"
        )
    check_settings(args.out, {"study": saved["id"]})


def shared_settings(args):
    """Return the options that all trials share, as a run and the page name them."""
    options = {name: getattr(args, name) for name in SHARED}
    options |= {name: " ".join(options[name]) for name in ("space", "study_types")}
    return options | {"module": args.module and Path(args.module).name}


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


def split(train, args):
    """Return pairs of a training and a validation part, the same for all trials."""
    return folds(train, args.folds, args.random_state) if args.folds else [hold_out(train, args)]


def hold_out(train, args):
    """Return the training and the validation part of the train split, as a fit would."""
    parts = PatientSplit(args.valid_share)(StudyDataset(train, cache=args.cache))
    return tuple(map(studies_of, parts))


def folds(studies, n, seed):
    """Return pairs of parts, in which each patient is validated once."""
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


def number_of(name):
    """Return the number of the trial at the end of a name."""
    return name.rpartition(" ")[2]


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


def parse(argv):
    """Return the arguments; None for defaults that depend on the data."""
    parser = make_parser(__doc__)
    add, add_shared = parser.add_argument, partial(add_option, parser, defaults=DEFAULTS)
    add_shared("--data", help="MURA's folder or one like it (default: phantom wrists are drawn)")
    add_shared("--study-types")
    add("--storage", default="sqlite:///sweep.db", metavar="URL", help="database of the trials")
    add("--study", default="study", help="name of the study in that database")
    add("--trials", type=int, default=40, help="in total, of all workers; retries do not count")
    add(
        "--space",
        nargs="+",
        default=["lr=1e-5:1e-2:log"],
        metavar="NAME=VALUES",
        help="low:high, low:high:log, low:high:step, or a,b,c",
    )
    add("--folds", type=int, default=0, help="0: one validation part; or folds by patient, as 5")
    add("--metric", choices=list(METRICS), default="valid_loss", help="of the best epoch")
    add("--prune", choices=["none", "median"], default="none", help="end bad trials early")
    add("--n-random", type=int, default=10, help="first trials: drawn at random, never pruned")
    add("--set", default=NO_SETTINGS, help="other parameters: a preset, a file, or key=value,...")
    add(
        "--re-estimate", choices=["folds", "valid"], help="train the best setting again, at the end"
    )
    add_shared("--weights")
    add_shared("--module")
    add_shared("--image-size")
    add_shared("--max-epochs")
    add_shared("--batch-size")
    add_shared("--lr")
    add_shared("--device")
    add_shared("--valid-share")
    add_shared("--threads", help="CPU threads of this worker; changes the rounding")
    add_shared("--cache")
    add_shared("--random-state")
    add("--retries", type=int, default=2, help="of a trial whose process was killed")
    add(
        "--heartbeat",
        type=int,
        default=10,
        metavar="SECONDS",
        help="a worker that is silent for six times as long counts as killed",
    )
    add_shared("--experiment", default="sweep")
    add_shared(
        "--out", default=None, help="folder that all workers share (default: results/sweep_STUDY)"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    start_script()
    sys.exit(main())
