"""What ``mura-skorch external`` does: score another hospital's studies, and recalibrate on them."""

from argparse import Namespace
from itertools import chain
from pathlib import Path

import pandas as pd

from mura_skorch import read_studies
from mura_skorch.calibration import enough_studies, recalibration_curve
from mura_skorch.commands import CommandError
from mura_skorch.commands.data import choose_split
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.data import check_apart, drop_unreadable, find_unreadable
from mura_skorch.dicom import holds_dicom, read_dicom_studies
from mura_skorch.ensemble import load_model
from mura_skorch.evaluation import (
    ExternalValidation,
    case_mix,
    join_notes,
    known_training,
    performance_change,
    prediction_table,
    scored_rows,
)
from mura_skorch.evaluation.external import TRAIN_SPLIT
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.report import (
    collect_predictions,
    read_report,
    read_study_facts,
    write_report,
)
from mura_skorch.studies import find_layout, join_labels
from mura_skorch.studies.columns import add_note
from mura_skorch.studies.public_datasets import LAYOUTS
from mura_skorch.tracking import (
    TrackedRun,
    fetch_predictions,
    log_scores,
    use_experiment,
)
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.members import trained_types
from mura_skorch.utils.text import number_text

__all__ = ["main"]

QUESTION = (
    "How good is a model elsewhere? Score another hospital's studies, and recalibrate on them."
)
REPORT_FILE = "report.json"


def main(args: Namespace) -> int:
    """Predict, compare, recalibrate and report; return 0."""
    try:
        check_writable(args.out)
        facts = read_study_facts(args.study_facts or {})
        studies, layout = read(args)
        studies, lost = readable(args, studies)
        prediction_table(studies, keep=args.by)  # fails here or never
        own = None if args.own_data is None else read_own(args, studies)
        reference = None if args.reference is None else read_reference(args.reference)
        model = load_model(args.model, **({"device": args.device} if args.device else {}))
        experiment_id = use_experiment(args.experiment)
    except (OSError, ValueError, ImportError) as error:
        raise CommandError(error) from error
    if model.note_ and model.note_ not in (join_notes(studies) or ""):
        studies = add_note(studies, f"model trained on {model.note_}")
    note = join_notes(studies)
    print(
        f"{note or ''}\nLayout: {layout}. {len(studies):,} labelled studies: reading ...",
        flush=True,
    )
    with TrackedRun(name="external", note=note) as run:
        run.log_params({name: value for name, value in vars(args).items() if value not in ([], "")})
        found = collect_predictions(
            model, studies, keep=args.by, n_cases=args.cases, train=given_to_fit(model, own)
        )
        if own is not None and reference is None:
            scored = own[own["split"] == args.own_split]
            print(f"{len(scored):,} studies of the own hospital: reading ...", flush=True)
            reference = predict(model, scored)
        external = validate(args, model, studies, found.predictions, own, reference)
        warned = [*found.alerts, *lost, *alerts(model, studies, reference)]
        inputs = found._replace(external=external, alerts=warned)
        scores = write_report(
            args.out,
            inputs,
            about=about(args, model, layout, reference, run),
            by=args.by,
            notes=args.notes,
            study_facts=facts,
            title="External validation",
        )
        log_scores(run, scores, report=args.out)
    print(f"\n{format_scores(scores)}\n{note or ''}\n\n{summary(external)}")
    print(f"\nReport: {args.out}/report.html")
    print(runs_sentence(experiment_id))
    return 0


def read(args):
    """Return the labelled studies of the other hospital, and the name of the layout."""
    layout = args.layout or find_layout(args.data)
    if layout in LAYOUTS:
        studies = LAYOUTS[layout](args.data, on_missing=args.on_missing)
        if args.labels is not None:
            studies = join_labels(studies, args.labels, keep=args.by)
    elif layout != "mura" and Path(args.data).is_dir() and holds_dicom(args.data):
        layout, studies = "dicom", read_dicom_studies(args.data, labels=args.labels, keep=args.by)
    else:
        layout, studies = "mura", read_studies(args.data)
        everything = studies["study"]
        if args.split:
            studies, _ = choose_split(studies, args.split, "--split", args.data)
        if args.labels is not None:
            studies = join_labels(studies, args.labels, keep=args.by, others=everything)
    labelled = studies[studies["label"].notna()].reset_index(drop=True)
    if labelled.empty:
        raise ValueError(
            f"expected labelled studies in {args.data}, got {len(studies)} without a label; pass "
            "--labels"
        )
    return labelled, layout


def readable(args, studies):
    """Return the studies without unreadable views if asked to, and a warning about them."""
    if args.on_bad_view == "raise":
        return studies, []
    kept, bad = drop_unreadable(studies, find_unreadable(chain.from_iterable(studies["views"])))
    if bad.empty:
        return studies, []
    lost = f"{len(bad):,} views could not be read and are left out"
    if len(kept) < len(studies):
        lost += f", with {len(studies) - len(kept):,} studies that have no others"
    return kept.reset_index(drop=True), [lost]


def read_own(args, studies):
    """Return the studies of the model's own hospital; none of their files are in the others."""
    own = read_studies(args.own_data)
    if missing := {"train", args.own_split} - set(own.get("split", ())):
        raise ValueError(
            f"expected the splits train and {args.own_split} in {args.own_data}, got no "
            f"{', '.join(sorted(missing))}; see --own-split"
        )
    train, scored = (own[own["split"] == name] for name in ("train", args.own_split))
    check_apart(train, scored, f"the train and the {args.own_split} split of --own-data")
    # Equal ids of two hospitals are not the same patient, equal files are.
    check_apart(
        own.assign(patient=[f"own {name}" for name in own["patient"]]),
        studies.assign(patient=[f"other {name}" for name in studies["patient"]]),
        "--own-data and --data",
    )
    return own


def read_reference(source):
    """Return predictions on studies of the model's own hospital: a report, a table or a run."""
    path = Path(source)
    if (path / REPORT_FILE).is_file():
        return read_report(path)["inputs"].predictions
    if path.is_file():
        types = dict.fromkeys(["study", "study_type", "patient", "note"], "str")
        return pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""])
    return fetch_predictions(source)


def given_to_fit(model, own):
    """Return the studies of the own hospital that the model may have been fitted on; None without.

    They are those of the train split, of the types that the model knows.
    """
    if own is None:
        return None
    return own[(own["split"] == "train") & own["study_type"].isin(trained_types(model))]


def predict(model, studies):
    """Return the prediction table of labelled studies."""
    labelled = studies[studies["label"].notna()]
    y_score = model.predict_proba(labelled)[:, 1]
    return prediction_table(labelled, y_score, threshold=model.threshold_)


def validate(args, model, studies, predictions, own, reference):
    """Return case mix, change in performance and recalibration."""
    known = known_training(model)
    if known is not None or own is None:
        mix = case_mix(studies, known=known)
    else:  # saved by an older version
        mix = case_mix(studies, given_to_fit(model, own), name=TRAIN_SPLIT)
    change = None
    if reference is not None:
        change = performance_change(
            reference, predictions, n_resamples=args.n_resamples, random_state=args.random_state
        )
    scored, curve = scored_rows(predictions), None
    try:
        curve = recalibration_curve(
            scored["label"].astype(int),
            scored["score"],
            groups=scored.get("patient"),
            n_draws=args.draws,
            random_state=args.random_state,
        )
    except ValueError as error:  # too few studies: the rest is worth reporting
        print(f"No recalibration: {error}")
    return ExternalValidation(mix, change, curve)


def alerts(model, studies, reference):
    """Return warnings for the top of the report."""
    found = []
    if unseen := sorted(set(studies["study_type"]) - trained_types(model)):
        found.append(f"the model never saw {', '.join(unseen)} in training")
    if reference is None:
        found.append(
            "there are no figures of the model's own hospital to compare with: pass --own-data or "
            "--reference"
        )
    return found


def about(args, model, layout, reference, run):
    """Describe model and data for the report."""
    facts = {
        "Question": QUESTION,
        "Data": f"{Path(args.data).name}, layout {layout}",
        "Labels": args.labels.name if args.labels else "of the dataset",
        "Model": Path(str(args.model)).name,
        "Operating point": model.describe_operating_point(),
    }
    if reference is not None:
        source = args.own_data if args.reference is None else args.reference
        split = f", split {args.own_split}" if args.reference is None else ""
        facts["Own hospital"] = f"{Path(str(source)).name}{split}, {len(reference):,} studies"
        facts["Resamples of the change"] = f"{args.n_resamples:,}"
    return facts | {"MLflow run": str(run.run_id)}


def summary(external):
    """Return the change and the number of local studies in words."""
    lines = []
    if external.change is not None:
        row = external.change.iloc[-1]
        for name, title in (("kappa", "Kappa"), ("auroc", "AUROC")):
            ends = (number_text(row[f"{name}_change{end}"]) for end in ("", "_low", "_high"))
            lines.append("{} here minus at home: {} ({}, {})".format(title, *ends))
    if external.recalibration is not None:
        n_enough = enough_studies(external.recalibration)
        largest = external.recalibration["n_studies"].max()
        lines.append(
            f"Recalibration improves the probabilities from {n_enough} local studies on"
            if n_enough
            else f"Recalibration is no clear improvement with up to {largest} local studies"
        )
    return "\n".join(lines)
