"""The choice of a sweep: its report, and how good the best setting is elsewhere."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from mura_skorch.commands.script_state import copied_results
from mura_skorch.commands.sweep_settings import comparison, recipe, shared_settings
from mura_skorch.commands.sweep_trial import (
    TRIAL,
    folds,
    hold_out,
    remove_checkpoints,
    slug,
    train_part,
)
from mura_skorch.evaluation import choice_optimism, join_notes, prediction_table
from mura_skorch.metrics import OVERALL
from mura_skorch.sweeps import SweepResult, write_sweep
from mura_skorch.tracking import TrackedRun, end_children, log_test_scores
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.text import interval_text

__all__ = ["re_estimate", "report"]

N_FRESH = 5  # folds of a re-estimate
ORDER = ("complete", "pruned", "running", "waiting")  # which of a trial's attempts counts
RE_ESTIMATE = "re-estimate "  # how the names of its runs begin


def report(queue, studies, parent, args):
    """Write and log the page.

    Parameters
    ----------
    queue : TrialQueue
    studies : DataFrame
        All studies of the sweep.
    parent : TrackedRun
        The run of the sweep.
    args : Namespace
        The arguments of the command.

    Returns
    -------
    SweepResult
        What the page shows.
    """
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
    """Train the best setting again where other studies score it; keep a sentence in the study.

    Parameters
    ----------
    queue : TrialQueue
    studies : DataFrame
        All studies of the sweep.
    parts : list of tuple of DataFrame
        Training and validation parts of the trials.
    parent : TrackedRun
        The run of the sweep.
    args : Namespace
        The arguments of the command.
    """
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


def number_of(name):
    """Return the number of the trial at the end of a name."""
    return name.rpartition(" ")[2]
