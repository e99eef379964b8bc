"""What ``mura-skorch review-labels`` does: rank labels that may be wrong, compare after reviews."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.model_selection import StratifiedGroupKFold

from mura_skorch import MuraClassifier, PatientSplit
from mura_skorch.commands import CommandError
from mura_skorch.commands.data import choose_studies, find_data, read_train_valid, weights_or_none
from mura_skorch.commands.defaults import REVIEW_LABELS
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.commands.settings import check_fit, shared_parameters
from mura_skorch.commands.threads import use_threads
from mura_skorch.evaluation import (
    apply_verdicts,
    compare_models,
    flip_labels,
    join_notes,
    prediction_table,
    rank_suspects,
    review_curve,
)
from mura_skorch.evaluation.label_review import import_cleanlab
from mura_skorch.features import StudyEmbedder
from mura_skorch.features.heads import N_FOLDS, classifier_of_head, fit_head
from mura_skorch.report import Suspect, show_views, write_label_page
from mura_skorch.report.label_page import REPORTED
from mura_skorch.tracking import TrackedRun, use_experiment
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.identity import patient_codes
from mura_skorch.utils.provenance import provenance

__all__ = ["DEFAULTS", "main"]

QUESTION = (
    "Which labels are wrong? Rank suspects, let a reader judge them, and measure what that changes."
)
PHANTOMS = Path("phantoms_labels")
N_DRAWN = {"n_train": 600, "n_valid": 200, "n_test": 0}  # studies
DEFAULTS = REVIEW_LABELS
LONGEST_SIDE = 256  # pixels of a picture on the page, which holds some 500
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of the studies, at which --flip counts what is found
THRESHOLD = 0.5


def main(args: Namespace) -> int:
    """Rank the labels and write the page, or apply verdicts and compare; return 0."""
    use_threads(args)
    try:
        check_writable(args.out)
        studies, is_flipped = flip(args, read(args))
        corrected: pd.DataFrame | None = None
        counts: dict[str, int] = {}
        if args.verdicts is None:
            import_cleanlab()  # or says that it is missing, before hours of work
        else:
            corrected, counts = apply_verdicts(studies, args.verdicts)
            check_reviewed(studies, corrected, args)
        learner = FineTuned(args) if args.fine_tune else Frozen(args, studies)
        experiment_id = use_experiment(args.experiment, note=join_notes(studies))
    except (OSError, ValueError, TypeError, ImportError) as error:
        raise CommandError(error) from error
    note = join_notes(studies)
    print(note or "", *(f"{name}={value}" for name, value in vars(args).items()), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    try:
        with TrackedRun(name="review_labels", note=note) as run:
            run.log_params(vars(args))
            if corrected is None:
                text = review(args, studies, is_flipped, learner, run)
            else:
                text = compare(args, studies, corrected, counts, learner, run)
            run.log_folder(args.out, "review")
    except ValueError as error:
        raise CommandError(error) from error
    print(f"\n{text}\n{note or ''}\n\nResults: {args.out}/")
    print(runs_sentence(experiment_id))
    return 0


class Frozen:
    """Logistic regressions on frozen features."""

    def __init__(self, args, studies):
        self.embedder = StudyEmbedder(
            backbone=args.backbone,
            weights=weights_or_none(args.weights),
            image_size=args.image_size,
            cache=args.cache,
            device=args.device,
            random_state=args.random_state,
        ).fit(studies)
        self.features = pd.DataFrame(self.embedder.transform(studies), index=studies.index)

    def fit(self, studies):
        """Return a regression on labelled studies."""
        return fit_head(self._of(studies), labels(studies), patient_codes(studies["patient"]))

    def predict(self, head, studies):
        """Return the probabilities of abnormality of studies."""
        return head.predict_proba(self._of(studies))[:, 1]

    def with_maps(self, head, studies):
        """Return a classifier that scores views and has maps as the regression has."""
        return classifier_of_head(self.embedder.model_, head, studies["study_type"].unique())

    def _of(self, studies):
        return self.features.loc[studies.index].to_numpy()

    def describe(self):
        """Name the models."""
        network = self.embedder.network_
        return (
            f"logistic regressions on frozen features of {network['backbone']} at "
            f"{network['image_size']} px"
        )


class FineTuned:
    """Networks trained on the studies of each fold."""

    def __init__(self, args):
        check_fit(self.make_classifier, args)
        self.args = args

    def fit(self, studies):
        """Return a network trained on labelled studies."""
        clf = self.make_classifier(self.args).fit(studies)
        if clf.interrupted_:
            raise KeyboardInterrupt
        return clf

    @staticmethod
    def make_classifier(args):
        """Return the classifier that is fitted in each fold."""
        return MuraClassifier(
            module__backbone=args.backbone,
            **shared_parameters(args),
            train_split=PatientSplit(args.valid_share),
            device=args.device,
            random_state=args.random_state,
            callbacks__mlflow__log_model=False,
            verbose=0,
        )

    def predict(self, clf, studies):
        """Return the probabilities of abnormality of studies."""
        return clf.predict_proba(studies)[:, 1].astype(float)

    def with_maps(self, clf, studies):
        """Return the network itself."""
        return clf

    def describe(self):
        """Name the models."""
        return f"{self.args.backbone} at {self.args.image_size} px, trained for each fold"


def review(args, studies, is_flipped, learner, run):
    """Rank the labels, write the table and the page, return what to print."""
    table = studies[is_reviewed(args, studies)]
    y_score, fold, models = out_of_fold(args, table, learner)
    ranked = rank_suspects(labels(table), y_score, table["study_type"])
    order = ranked["row"].to_numpy()
    n_issues = int(ranked["is_issue"].sum())
    suspects = suspect_table(table.iloc[order], y_score[order], ranked["is_issue"])
    suspects.to_csv(args.out / "suspects.csv", index=False)
    note = join_notes(studies)
    write_label_page(
        args.out / "review.html",
        shown(table.iloc[order[: args.shown]], suspects, fold[order], models, learner, table),
        n_reviewed=len(table),
        n_issues=n_issues,
        is_reported=args.reported_split,
        about=about(args, table, learner, run),
        note=note,
        title=page_title(args),
    )
    run.log_metrics({"review/n_reviewed": len(table), "review/n_issues": n_issues})
    text = (
        f"{title(args)}: {len(table):,} labels, {n_issues:,} issues to cleanlab.\n"
        f"Page: {args.out}/review.html"
    )
    if args.flip is None:
        return text
    curve = review_curve(is_flipped[is_reviewed(args, studies)][order])
    curve.assign(note=note).to_csv(args.out / "curve.csv", index=False)
    draw(curve, args.flip, note).savefig(args.out / "curve.png", dpi=150)
    first = curve.iloc[max(1, round(args.flip * len(curve))) - 1]
    run.log_metrics({"review/precision": first["precision"], "review/recall": first["recall"]})
    return f"{text}\n\n{as_text(curve)}"


def is_reviewed(args, studies):
    """Return which studies are ranked."""
    return ((studies["split"] == "train") | args.reported_split).to_numpy()


def flip(args, studies):
    """Return the studies with the share of labels flipped that is asked for, and which are."""
    is_flipped = np.zeros(len(studies), dtype=bool)
    if args.flip is None:
        return studies, is_flipped
    rows = is_reviewed(args, studies)
    is_flipped[rows] = flip_labels(labels(studies)[rows], args.flip, args.random_state)
    return studies.assign(
        label=np.where(is_flipped, 1 - labels(studies), labels(studies))
    ), is_flipped


def out_of_fold(args, table, learner):
    """Return out-of-fold probabilities, the fold of each study, and the model of each fold."""
    patient = patient_codes(table["patient"])
    stratum = table.groupby(["study_type", "label"], observed=True).ngroup().to_numpy()
    splitter = StratifiedGroupKFold(args.folds, shuffle=True, random_state=args.random_state)
    y_score, fold, models = np.full(len(table), np.nan), np.full(len(table), -1), []
    for number, (rows, others) in enumerate(splitter.split(stratum, stratum, patient)):
        train, held_out = table.iloc[rows], table.iloc[others]
        counts = [train["patient"][labels(train) == label].nunique() for label in (0, 1)]
        if min(counts) < N_FOLDS:
            raise ValueError(
                f"expected at least {N_FOLDS} patients of each label outside of every fold, got "
                f"{counts[0]} with normal and {counts[1]} with abnormal studies; add studies"
            )
        print(f"Fold {number + 1} of {args.folds}: {len(train):,} studies", flush=True)
        models.append(learner.fit(train))
        y_score[others], fold[others] = learner.predict(models[-1], held_out), number
    return y_score, fold, models


def suspect_table(studies, y_score, is_issue):
    """Return one row per study, the most suspect first."""
    names = ("study", "study_type", "patient", "split", "label", "note")
    found = studies[[name for name in names if name in studies]].reset_index(drop=True)
    found.insert(0, "rank", np.arange(1, len(found) + 1))
    return found.assign(p_normal=1 - y_score, p_abnormal=y_score, is_issue=is_issue.to_numpy())


def shown(studies, suspects, fold, models, learner, table):
    """Return what the page shows of the first suspects: views and maps of their fold's model."""
    pictures: dict[int, Any] = {}
    for number in sorted(set(fold[: len(studies)])):
        rows = np.flatnonzero(fold[: len(studies)] == number)
        own = studies.iloc[rows]
        clf = learner.with_maps(models[number], table)
        found = show_views(
            clf, own["study_type"].tolist(), own["views"].tolist(), longest_side=LONGEST_SIDE
        )
        pictures |= dict(zip(rows, found, strict=True))
    return [
        Suspect(
            study=str(row["study"]),
            study_type=str(row["study_type"]),
            split=row.get("split"),
            label=int(row["label"]),
            p_abnormal=float(row["p_abnormal"]),
            is_issue=bool(row["is_issue"]),
            n_views=len(studies["views"].iloc[number]),
            views=pictures[number][0],
            limit=pictures[number][1],
        )
        for number, row in enumerate(suspects.head(len(studies)).to_dict("records"))
    ]


def check_reviewed(studies, corrected, args):
    """Raise ValueError if a verdict changes a label of the reported split without the flag."""
    changed = studies["split"][(labels(studies) != labels(corrected))]
    n_reported = int((changed == "valid").sum())
    if n_reported and not args.reported_split:
        raise ValueError(
            f"expected verdicts on the train split alone, got {n_reported:,} that change labels of "
            "the valid split, on which kappa is reported; leave them out, or pass "
            "--reported-split, which the title then says"
        )


def compare(args, studies, corrected, counts, learner, run):
    """Fit on both tables, compare on the valid split, return what to print."""
    n_changed = int((labels(studies) != labels(corrected)).sum())
    names = [name for name in ("study", "study_type", "split", "note") if name in studies]
    copy = corrected[names].assign(label=labels(corrected), label_before=labels(studies))
    copy.to_csv(args.out / "labels_reviewed.csv", index=False)
    scores = []
    for table in (studies, corrected):
        model = learner.fit(table[table["split"] == "train"])
        scores.append(learner.predict(model, table[table["split"] == "valid"]))
    versions = {"as they were": studies}
    if args.reported_split:
        versions["after the review"] = corrected
    tables, lines = [], []
    for name, table in versions.items():
        valid = table[table["split"] == "valid"]
        found = compare_models(
            labels(valid),
            *scores,
            study_type=valid["study_type"],
            groups=valid["patient"],
            threshold=THRESHOLD,
        )
        tables.append(found.assign(labels_of_valid=name))
        lines.append(f"On the valid split, its labels {name}: {as_difference(found.iloc[-1])}")
        if name == "as they were":
            row = found.iloc[-1]
            ends = ("kappa_a", "kappa_b", "kappa_difference")
            run.log_metrics({f"review/{end}": row[end] for end in ends})
    note = join_notes(studies)
    pd.concat(tables).assign(note=note).to_csv(args.out / "comparison.csv", index=False)
    said = ", ".join(f"{n:,} {word}" for word, n in counts.items())
    return "\n".join(
        [
            f"{title(args)}: verdicts {said}; {n_changed:,} labels changed in a copy, "
            f"{args.out}/labels_reviewed.csv.",
            f"Models: {learner.describe()}.",
            *lines,
            "Intervals resample patients, both models on the same resamples.",
        ]
    )


def as_difference(row):
    """Format the change of kappa."""
    return (
        f"kappa {row['kappa_a']:.3f} -> {row['kappa_b']:.3f}, change "
        f"{row['kappa_difference']:+.3f} ({row['kappa_difference_low']:+.3f}, "
        f"{row['kappa_difference_high']:+.3f})"
    )


def as_text(curve):
    """Format how many flipped labels are found."""
    rows = []
    for share in SHARES:
        n = max(1, round(share * len(curve)))
        row = curve.iloc[n - 1]
        rows.append(
            {
                "reviewed": f"{n:,} ({100 * share:g} %)",
                "flipped among them": f"{int(row['n_found']):,}",
                "precision": f"{row['precision']:.3f}",
                "of all flipped": f"{row['recall']:.3f}",
                "in random order": f"{row['random_recall']:.3f}",
            }
        )
    return pd.DataFrame(rows).to_string(index=False)


def draw(curve, share, note):
    """Return the figure of the curve, next to a review in random order."""
    figure = Figure(figsize=(5, 3.6), layout="constrained")
    ax = figure.subplots()
    reviewed = curve["n_reviewed"] / len(curve)
    ax.plot(reviewed, curve["recall"], color="#0072b2", label="most suspect first")
    ax.plot(reviewed, curve["random_recall"], color="0.5", linestyle="--", label="random order")
    ax.axvline(share, color="0.8", linewidth=1)
    ax.set(xlabel="share of studies reviewed", ylabel="share of flipped labels found")
    ax.legend()
    if note:
        figure.suptitle(note, fontsize="small")
    return figure


def labels(studies):
    """Return the labels as integers."""
    return studies["label"].to_numpy(dtype=int)


def title(args):
    """Name the review, and whether it is a test, or touches what is reported."""
    return page_title(args) + (REPORTED if args.reported_split else "")


def page_title(args):
    """Name the review, and whether it is a test."""
    return "Label review" + (", a test with flipped labels" if args.flip else "")


def about(args, table, learner, run):
    """Describe data and models for the page."""
    return {
        "Question": QUESTION,
        "Data": f"{Path(args.data).name}, {'train and valid' if args.reported_split else 'train'} "
        "split",
        "Predictions": f"{args.folds} folds of patients; {learner.describe()}",
        "Weights": "none: random ones" if args.weights == "none" else Path(args.weights).name,
        **({"Flipped for a test": f"{100 * args.flip:g} % of the labels"} if args.flip else {}),
        "MLflow run": str(run.run_id),
        **provenance(prediction_table(table)),
    }


def read(args):
    """Return the labelled studies, and fill in the arguments that depend on them."""
    args.data = find_data(args.data, PHANTOMS, study_types=["XR_WRIST"], **N_DRAWN)
    studies = choose_studies(args, read_train_valid(args.data), DEFAULTS)
    studies = studies[studies["label"].notna() & studies["split"].isin(["train", "valid"])]
    return studies.reset_index(drop=True)
