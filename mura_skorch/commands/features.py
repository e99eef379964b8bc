"""What ``mura-skorch features`` does: fit regressions on features of more and more patients."""

from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mura_skorch.commands import CommandError
from mura_skorch.commands.cluster import dask_client
from mura_skorch.commands.data import choose_studies, find_data, read_train_valid, weights_or_none
from mura_skorch.commands.defaults import FEATURES
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.commands.threads import use_threads
from mura_skorch.ensemble import load_model
from mura_skorch.evaluation import compare_models, join_notes, prediction_table, score_predictions
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.evaluation.published import is_mura
from mura_skorch.features import StudyEmbedder
from mura_skorch.features.heads import N_FOLDS, fit_head
from mura_skorch.metrics import OVERALL
from mura_skorch.report import ReportInputs, read_study_facts, write_report
from mura_skorch.tracking import TrackedRun, log_test_scores, use_experiment
from mura_skorch.training.device import count_cores
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.identity import patient_codes

__all__ = ["DEFAULTS", "main"]

QUESTION = "How far do frozen features come? A learning curve over patients with labels."
SMALLEST = 25  # patients
DEFAULTS = FEATURES
SHOWN = ["kappa", "kappa_low", "kappa_high", "auroc", "auroc_low", "auroc_high"]


def main(args: Namespace) -> int:
    """Embed, fit, score and report; return 0."""
    use_threads(args)
    with ExitStack() as stack:
        try:
            check_writable(args.out)
            read_study_facts(args.study_facts or {})  # fails here or never
            studies = read(args)
            train = studies[studies.split == "train"]
            check_enough(train)
            embedder = make_embedder(args).fit(train)
            trained = load_model(args.run, device=args.device) if args.run else None
            experiment_id = use_experiment(args.experiment, note=join_notes(studies))
            stack.enter_context(dask_client(args.dask, count_cores()))
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise CommandError(error) from error
        return evaluate(args, studies, embedder, trained, experiment_id)


def evaluate(args, studies, embedder, trained, experiment_id):
    """Embed, fit, score and report; return 0."""
    train, valid = (studies[studies.split == name] for name in ("train", "valid"))
    note = join_notes(studies)
    print(note or "", *(f"{name}={value}" for name, value in vars(args).items()), flush=True)
    with TrackedRun(name="features", note=note) as run:
        run.log_params(vars(args) | embedder.network_)
        features = embedder.transform(train), embedder.transform(valid)
        curve, y_score = learning_curve(train, valid, *features, args, run)
        predictions = prediction_table(valid, y_score)
        comparison = None if trained is None else compare(trained, valid, predictions)
        scores = write_report(
            args.out,
            ReportInputs(predictions, model=[describe(embedder)]),
            about=about(args, run),
            published=is_mura(studies),
            study_facts=args.study_facts,
            prevalence=args.prevalence,
            title="Frozen features",
        )
        curve.assign(note=note).to_csv(args.out / "learning_curve.csv", index=False)
        if comparison is not None:
            comparison.assign(note=note).to_csv(args.out / "comparison.csv", index=False)
        draw(curve, comparison, note).savefig(args.out / "learning_curve.png", dpi=150)
        log_test_scores(run, predictions, report=args.out)
    print(f"\nAll patients of the train split:\n{format_scores(scores)}")
    print(f"\nFewer of them (range: over {args.draws} draws):\n{as_text(curve)}")
    if comparison is not None:
        print(f"\nTrained network minus frozen features:\n{as_difference(comparison)}")
    print(f"\n{note or ''}\n\nReport: {args.out}/report.html, {args.out}/learning_curve.png")
    print(runs_sentence(experiment_id))
    return 0


def check_enough(train):
    """Raise ValueError if the train split has too few patients of a class to choose a penalty."""
    label, patient = train["label"].to_numpy(dtype=int), patient_codes(train["patient"])
    if not has_both_classes(label, patient):
        found = [len(set(patient[label == k])) for k in (0, 1)]
        raise ValueError(
            f"expected a train split with at least {N_FOLDS} patients of each class, got "
            f"{found[0]} with normal and {found[1]} with abnormal studies; add studies"
        )


def make_embedder(args):
    """Return the embedder of the chosen network."""
    return StudyEmbedder(
        args.model,
        backbone=args.backbone,
        weights=weights_or_none(args.weights),
        image_size=args.image_size,
        cache=args.cache,
        device=args.device,
        random_state=args.random_state,
    )


def learning_curve(train, valid, features, valid_features, args, run):
    """Return a row per number of patients and draw, and the scores of the head on all patients."""
    patient = patient_codes(train["patient"])
    n_patients = patient.max() + 1
    label = train["label"].to_numpy(dtype=int)
    rows, y_score = [], None
    for n in sizes(n_patients):
        for number in range(args.draws if n < n_patients else 1):
            # One order of the patients per draw: smaller tables are parts of larger ones.
            order = np.random.default_rng([args.random_state, number]).permutation(n_patients)
            own = np.isin(patient, order[:n])
            if not has_both_classes(label[own], patient[own]):
                print(f"{n} patients, draw {number + 1}: left out, too few of one class")
                continue
            head = fit_head(features[own], label[own], patient[own])
            y_score = head.predict_proba(valid_features)[:, 1]
            found = score_predictions(prediction_table(valid, y_score))
            row = found[found["study_type"] == OVERALL].iloc[0]
            rows.append(
                {"n_patients": n, "n_studies": int(own.sum()), "draw": number + 1}
                | {"C": head.best_params_["logisticregression__C"]}
                | {name: row[name] for name in SHOWN}
            )
            print(
                f"{n:,} patients, {own.sum():,} studies, draw {number + 1}: kappa "
                f"{row['kappa']:.3f}, AUROC {row['auroc']:.3f}",
                flush=True,
            )
            if number == 0:
                metrics = {f"curve/{name}": row[name] for name in ("kappa", "auroc")}
                run.log_metrics(metrics, step=n)
    if y_score is None:
        raise ValueError(
            "expected several patients of each class in the train split, got too few; pass more"
        )
    return pd.DataFrame(rows), y_score


def sizes(n_patients):
    """Return numbers of patients that double, up to all."""
    found = [n for n in SMALLEST * 2 ** np.arange(20) if n < n_patients]
    return [*found, n_patients]


def has_both_classes(label, patient):
    """Return whether each fold of patients can hold both classes."""
    counts = [len(set(patient[label == value])) for value in (0, 1)]
    return min(counts) >= N_FOLDS


def compare(model, valid, predictions):
    """Return the paired differences, trained network minus frozen features."""
    trained = model.predict_proba(valid)[:, 1]
    return compare_models(
        valid["label"],
        predictions["score"],
        trained,
        study_type=valid["study_type"],
        groups=valid["patient"],
        threshold=(0.5, model.threshold_),
    )


def draw(curve, comparison, note):
    """Return the figure of the learning curve."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    first = curve[curve["draw"] == 1]
    for ax, name, title in zip(
        figure.subplots(1, 2), ("kappa", "auroc"), ("Cohen's kappa", "AUROC"), strict=True
    ):
        ends = np.abs(first[[f"{name}_low", f"{name}_high"]].to_numpy() - first[[name]].to_numpy())
        ax.scatter(curve["n_patients"], curve[name], s=12, color="0.6", label="draws")
        ax.errorbar(
            first["n_patients"], first[name], yerr=ends.T, marker="o", capsize=3, label="95 % CI"
        )
        if comparison is not None:
            level = comparison[f"{name}_b"].iloc[-1]
            ax.axhline(level, color="#d55e00", linestyle="--", label="trained network")
        ax.set(xscale="log", xlabel="patients with labels", ylabel=title)
        ax.set_xticks(first["n_patients"], [f"{n:,}" for n in first["n_patients"]])
        ax.minorticks_off()
        ax.legend()
    if note:
        figure.suptitle(note, fontsize="small")
    return figure


def as_text(curve):
    """Format the learning curve: the first draw with its interval, and the range over draws."""
    rows = []
    for n, own in curve.groupby("n_patients"):
        row = own.iloc[0]
        texts = {"patients": f"{n:,}", "studies": f"{int(row['n_studies']):,}"}
        for name, title in (("kappa", "kappa"), ("auroc", "AUROC")):
            texts[f"{title} (95 % CI)"] = (
                f"{row[name]:.3f} ({row[f'{name}_low']:.3f}, {row[f'{name}_high']:.3f})"
            )
            texts[f"{title} range"] = f"{own[name].min():.3f} to {own[name].max():.3f}"
        rows.append(texts)
    return pd.DataFrame(rows).to_string(index=False)


def as_difference(comparison):
    """Format the difference over all studies."""
    row = comparison.iloc[-1]
    return "\n".join(
        f"{title}: {row[f'{name}_difference']:+.3f} "
        f"({row[f'{name}_difference_low']:+.3f}, {row[f'{name}_difference_high']:+.3f})"
        for name, title in (("kappa", "kappa"), ("auroc", "AUROC"))
    )


def describe(embedder):
    """Return a sentence on the model for its card."""
    network = embedder.network_
    return (
        f"A logistic regression on frozen features of {network['backbone']} at "
        f"{network['image_size']} px. The network itself is not trained on these studies."
    )


def about(args, run):
    """Describe model and data for the report."""
    network = f"{args.backbone}, weights {Path(args.weights).name}, {args.image_size} px"
    if args.model:
        network = f"of the model {Path(args.model).name}"
    return {
        "Question": QUESTION,
        "Data": f"{Path(args.data).name}: heads fitted on the train split, scored on the valid "
        "split",
        "Features": network,
        "Selection": f"penalty by {N_FOLDS} folds of the train split's patients",
        "MLflow run": str(run.run_id),
    }


def read(args):
    """Return the studies, and fill in the arguments that depend on them."""
    args.data = find_data(args.data)
    studies = choose_studies(args, read_train_valid(args.data), DEFAULTS)
    return studies[studies["label"].notna()]
