"""What ``mura-skorch predict`` does: predict studies, and score those with labels."""

import os
import warnings
from argparse import Namespace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from mura_skorch.calibration import is_rule
from mura_skorch.commands import CommandError
from mura_skorch.commands.data import choose_split
from mura_skorch.commands.json_output import with_json
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.dicom import holds_dicom, read_dicom_studies
from mura_skorch.ensemble import load_model
from mura_skorch.evaluation import join_notes, prediction_table, reader_kappas, subgroup_scores
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.evaluation.published import is_mura
from mura_skorch.features import StudyEmbedder
from mura_skorch.inspection import UNLIKE_PERCENTILE
from mura_skorch.report import collect_predictions, read_study_facts, write_report
from mura_skorch.studies import join_labels, read_studies
from mura_skorch.studies.columns import TRIAGE, add_note
from mura_skorch.tracking import TrackedRun, log_scores, use_experiment
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.identity import file_codes, patient_keys, warn_of_lookalikes
from mura_skorch.utils.members import members_of, trained_types
from mura_skorch.utils.remote import is_remote

__all__ = ["check", "load", "main", "predict", "read", "wanted_columns", "write_scores"]

QUESTION = "How good is a saved model on other studies? Predict them, and score those with labels."


@with_json
def main(args: Namespace, result: dict[str, Any]) -> int:
    """Predict, and evaluate if there are labels; return 0."""
    return predict(args, result, name="predict")


def predict(args, result, *, name, needs_labels=False):
    """Predict studies, and score them if there are labels.

    Parameters
    ----------
    args : Namespace
        The arguments of the command.
    result : dict
        Filled in with what was found and written.
    name : str
        Name of the MLflow run.
    needs_labels : bool, default=False
        Refuse data without any label.

    Returns
    -------
    int
        The exit status.
    """
    keep = wanted_columns(args)
    try:
        check_writable(args.out)
        facts = read_study_facts(args.study_facts or {})
        studies = read(args, keep)
        if needs_labels and studies["label"].isna().all():
            raise ValueError(
                f"expected labelled studies to evaluate on in {args.data}, got {len(studies):,} "
                "without a label; pass --labels, or call mura-skorch predict"
            )
        check(prediction_table(studies, np.full(len(studies), 0.5), keep=keep), args)
        model, cautions = open_model(args, studies)
        train, features = embed_training(args, model)
        experiment_id = use_experiment(args.experiment)
    except (OSError, ValueError, ImportError) as error:
        raise CommandError(error) from error
    if model.note_ and model.note_ != join_notes(studies):
        studies = add_note(studies, f"model trained on {model.note_}")
    note = join_notes(studies)
    print(f"{note or ''}\n{len(studies):,} studies: reading ...", flush=True)
    with TrackedRun(name=name, note=note) as run:
        given = {name: value for name, value in vars(args).items() if value not in ([], "")}
        run.log_params(given | {"engine_in_use": model.describe_engine()})
        found = collect_predictions(
            model,
            studies,
            keep=keep,
            n_cases=args.cases,
            train=train,
            train_features=features,
            robustness=args.robustness,
        )
        found = with_training_percentile(model, studies, found)
        print_triage(model, found.predictions)
        if args.refit_on:
            model.save(args.out / "model")
        if studies["label"].notna().any() or args.readers:
            warned = [*found.alerts, *cautions, *alerts(args, model, studies)]
            write_scores(
                args,
                run,
                found._replace(alerts=warned),
                result,
                about=about(args, model, run, studies),
                study_facts=facts,
                published=is_mura(studies),
                title="Evaluation of a saved model",
            )
        else:
            args.out.mkdir(parents=True, exist_ok=True)
            found.predictions.to_csv(args.out / "predictions.csv", index=False)
            if found.view_predictions is not None:
                found.view_predictions.to_csv(args.out / "view_predictions.csv", index=False)
            for alert in found.alerts:
                print(f"Caution: {alert}")
            print(f"No labels: no scores.\nPredictions: {args.out}/predictions.csv")
            run.log_folder(args.out, "report")
            result |= {"scores": None, "report": None, "alerts": found.alerts}
    result |= {
        "n_studies": len(studies),
        "predictions": args.out / "predictions.csv",
        "model": args.out / "model" if args.refit_on else None,
        "run_id": run.run_id,
        "note": note,
    }
    print(runs_sentence(experiment_id))
    return 0


def wanted_columns(args):
    """Return the further columns that the options of a command name."""
    return list(dict.fromkeys(name for name in (*args.readers, args.gold, *args.by) if name))


def write_scores(args, run, inputs, result, **settings):
    """Write the report of predictions, log and print its scores.

    Parameters
    ----------
    args : Namespace
        Its ``out``, ``notes``, ``readers``, ``gold``, ``by`` and ``prevalence`` are used.
    run : TrackedRun
        Gets the scores and the report.
    inputs : ReportInputs
        The predictions.
    result : dict
        Filled in.
    **settings
        Further arguments of `mura_skorch.report.write_report`.
    """
    scores = write_report(
        args.out,
        inputs,
        notes=args.notes,
        readers=args.readers,
        gold=args.gold,
        by=args.by,
        prevalence=args.prevalence,
        **settings,
    )
    log_scores(run, scores, report=args.out)
    note = join_notes(inputs.predictions)
    print(f"\n{format_scores(scores)}\n{note or ''}\n\nReport: {args.out}/report.html")
    result |= {
        "scores": scores,
        "report": args.out / "report.html",
        "alerts": list(inputs.alerts),
    }


def read(args, keep):
    """Return the studies to predict, with labels if known."""
    own = {"modalities": args.modalities, "study_types": dict(args.study_type)}
    own |= {"on_bad_file": args.on_bad_file, "hash_patients": os.environ.get("MURA_SKORCH_SECRET")}
    own = {name: value for name, value in own.items() if value not in (None, {})}
    try:
        studies = read_studies(args.data)
    except ValueError:
        is_folder = not is_remote(args.data) and Path(args.data).is_dir()
        if args.split or not is_folder or not holds_dicom(args.data):
            raise
        return read_dicom_studies(args.data, labels=args.labels, keep=keep, **own)
    if own:
        raise ValueError(
            f"expected a folder of DICOM files for {', '.join(own)}, got {args.data}, which has "
            "none; leave out these options, and unset MURA_SKORCH_SECRET"
        )
    chosen, names = choose_split(studies, args.split, "--split", args.data)
    print(f"Split: {', '.join(names) or 'none, all studies'}")
    if args.labels is None:
        return chosen
    return join_labels(chosen, args.labels, keep=keep, others=studies["study"])


def check(table, args):
    """Raise before long work what the report of a prediction table would raise after it."""
    table = table[table["label"].notna()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if args.readers and len(table):
            reader_kappas(table, args.readers, gold=args.gold, n_resamples=1)
        for column in args.by or ["study_type"]:
            if len(table):
                subgroup_scores(table, column, n_resamples=1)


def open_model(args, studies):
    """Return the model at the requested operating point, and cautions about its refit."""
    cache = {}
    if any(map(is_remote, (args.data, args.similar_from, args.refit_on))):
        if args.cache is None:
            raise ValueError(
                "expected --cache for data that is not on a disk, got none; pass a folder: each "
                "view is read once, into it"
            )
        cache = {"dataset__cache": args.cache}
    model = load(args, **cache)
    model.describe_engine()  # makes it now, or says why it cannot
    if args.refit_on:
        everything = local = read_studies(args.refit_on)
        if args.refit_split:
            local, _ = choose_split(everything, args.refit_split, "--refit-split", args.refit_on)
        if args.refit_labels:
            local = join_labels(local, args.refit_labels, others=everything["study"])
        local = local[local["label"].notna()]
        cautions = check_apart(local, studies)
        print(f"Refitting threshold and calibration on {len(local):,} labelled studies ...")
        rule = "youden" if args.threshold is None else args.threshold
        model = model.recalibrate(local, threshold=rule)
        if args.triage is not None:
            model = model.triage(local, error_rate=args.triage)
        return model, cautions
    if args.triage is not None:
        raise ValueError(
            "expected --refit-on with labelled studies to choose the limits of --triage on, got "
            "none; a model that has limits uses them without --triage"
        )
    if is_rule(args.threshold) and args.threshold != model.threshold:
        raise ValueError(
            f"expected --refit-on with labelled studies to choose the threshold by "
            f"{args.threshold!r} on, got none; or pass a number"
        )
    return model if args.threshold is None else model.set_params(threshold=args.threshold), []


def load(args, **params):
    """Return the model, with the device, engine and precision that were given."""
    given = {"device": args.device, "engine": args.engine, "precision": args.precision} | params
    # None is the model's own.
    return load_model(args.model, **{k: value for k, value in given.items() if value is not None})


def embed_training(args, model):
    """Return the training studies to compare cases with, and their features; None without them."""
    if args.similar_from is None or not args.cases:
        return None, None
    if not hasattr(model, "embed"):
        raise ValueError(
            f"expected a single classifier for --similar-from, got a {type(model).__name__}; pass "
            "one of its members as --model"
        )
    train = read_studies(args.similar_from)
    if "split" in train:
        train, _ = choose_split(train, "train", "the split of --similar-from", args.similar_from)
    print(f"Embedding {len(train):,} training studies ...", flush=True)
    return train, StudyEmbedder(model, cache=args.cache).fit_transform(train)


def with_training_percentile(model, studies, found):
    """Add how unlike the training studies each study is, if the model has measured them."""
    if getattr(model, "training_distance_", None) is None:
        return found
    percentile = model.training_percentile(studies)
    predictions = found.predictions.assign(training_percentile=percentile)
    unlike = predictions["study"][percentile > UNLIKE_PERCENTILE]
    if unlike.empty:
        return found._replace(predictions=predictions)
    alert = (
        f"{len(unlike):,} of {len(studies):,} studies are unlike the training studies, beyond the "
        f"{UNLIKE_PERCENTILE:.0f}th percentile of their distance, such as {unlike.iloc[0]}"
    )
    return found._replace(predictions=predictions, alerts=[*found.alerts, alert])


def print_triage(model, predictions):
    """Print the answers of a triage, and what breaks its promise."""
    if model.triage_ is not None:
        counts = predictions["triage"].value_counts().reindex(TRIAGE, fill_value=0)
        print("Triage:", ", ".join(f"{n:,} {answer}" for answer, n in counts.items()))
        print(*model.triage_.describe(), sep="\n")


def check_apart(local, studies):
    """Refuse to refit on studies, views or patients that are reported; return cautions."""
    remedy = "figures of studies that chose the threshold are too good; see --refit-split"
    first, second = (list(chain.from_iterable(table["views"])) for table in (local, studies))
    codes = file_codes([*first, *second]).tolist()
    if shared := set(codes[: len(first)]) & set(codes[len(first) :]):
        raise ValueError(
            f"expected --refit-on with other studies than those reported, got {len(shared)} views "
            f"in both; {remedy}"
        )
    keys = [patient_keys(table["patient"]) for table in (local, studies)]
    patients = set(keys[0]) & set(keys[1])
    warn_of_lookalikes([*keys[0], *keys[1]])
    # Equal ids mean equal patients only within one dataset folder.
    roots, others = ({root(row) for row in table.itertuples()} for table in (local, studies))
    if patients and roots & others:
        raise ValueError(
            f"expected --refit-on with other patients than those reported, got {len(patients)} in "
            f"both, such as {min(patients)}; {remedy}"
        )
    if not patients:
        return []
    text = (
        f"{len(patients)} patient ids of --refit-on also occur in the reported data, such as "
        f"{min(patients)}; if they are the same people, figures are too good"
    )
    print(f"Caution: {text}")
    return [text]


def root(row):
    """Return the dataset folder of a study, or the file system root if its key is longer."""
    parents = Path(row.views[0]).parents
    return parents[min(row.study.count("/") + 1, len(parents) - 1)]


def alerts(args, model, studies):
    """Return warnings for the top of the report."""
    unseen = sorted(set(studies["study_type"]) - trained_types(model))
    found = []
    if args.split == "train":
        found.append("the train split, on which the model may have been trained, is scored")
    if unseen:
        found.append(f"the model never saw {', '.join(unseen)} in training")
    return found


def about(args, model, run, studies):
    """Describe model and data for the report."""
    split = args.split or ("as found, without train" if "split" in studies else "none given")
    refitted = f", refitted on {Path(args.refit_on).resolve().name}" if args.refit_on else ""
    refitted += f", split {args.refit_split}" if args.refit_split else ""
    trained = ", ".join(
        f"{net.run_id_ or 'no run'} (seed {net.seed_})" for net in members_of(model)
    )
    return {
        "Question": QUESTION,
        "Data": f"{Path(args.data).name}, split {split}",
        "Labels": args.labels.name if args.labels else "of the data",
        "Model": f"{Path(str(args.model)).name}, trained in {trained}",
        "Trained on types": ", ".join(sorted(trained_types(model))),
        "Operating point": model.describe_operating_point() + refitted,
        "Engine": model.describe_engine(),
        "MLflow run": str(run.run_id),
    }
