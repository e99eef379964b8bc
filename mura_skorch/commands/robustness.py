"""What ``mura-skorch robustness`` does: predict with small changes of the views, and compare."""

import time
from argparse import Namespace
from pathlib import Path

import pandas as pd

from mura_skorch import read_studies
from mura_skorch.commands import CommandError
from mura_skorch.commands.data import choose_split
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.commands.threads import use_threads
from mura_skorch.ensemble import load_model
from mura_skorch.evaluation import join_notes, robustness_scores
from mura_skorch.report.html import render_page
from mura_skorch.report.robustness import collect_robustness, robustness_page
from mura_skorch.studies import join_labels
from mura_skorch.tracking import TrackedRun, use_experiment
from mura_skorch.utils.atomic import check_writable
from mura_skorch.utils.provenance import conditions
from mura_skorch.utils.text import number_text

__all__ = ["main"]

QUESTION = (
    "Do small changes of the pictures change what a saved model says? Compare them, in pairs."
)


def main(args: Namespace) -> int:
    """Predict under each change, score, write the page; return 0."""
    use_threads(args)
    try:
        check_writable(args.out)
        studies = read(args)
        given = {"device": args.device, "dataset__cache": args.cache}
        model = load_model(args.model, **{name: value for name, value in given.items() if value})
        experiment_id = use_experiment(args.experiment, note=join_notes(studies))
    except (OSError, ValueError, ImportError) as error:
        raise CommandError(error) from error
    note = join_notes(studies, model.note_)
    print(f"{note or ''}\n{len(studies):,} studies: predicting under each change ...", flush=True)
    with TrackedRun(name="robustness", note=note) as run:
        run.log_params(vars(args))
        start = time.perf_counter()
        robustness = collect_robustness(model, studies, random_state=args.random_state)
        scores = robustness_scores(robustness.predictions)
        seconds = time.perf_counter() - start
        page = write(args, robustness, scores, studies, seconds, note)
        run.log_folder(args.out)
        names = "robustness/kappa/" + scores["perturbation"].str.replace(" %", "_percent")
        run.log_metrics(dict(zip(names, scores["kappa"], strict=True)))
    texts = page["scores"].drop(columns=["AUROC before", "AUROC after", "mean move"])
    print(f"\n{texts.to_string(index=False)}\n{note or ''}\n")
    print(f"Predicted and scored in {seconds:.0f} s.\nPage: {args.out}/robustness.html")
    print(runs_sentence(experiment_id))
    return 0


def write(args, robustness, scores, studies, seconds, note):
    """Write tables, figure and page; return what the page shows."""
    args.out.mkdir(parents=True, exist_ok=True)
    page = robustness_page(robustness, scores, note=note)
    for name, table in (
        ("robustness", scores),
        ("robustness_predictions", robustness.predictions.drop(columns="note", errors="ignore")),
    ):
        noted = table.assign(note=note) if note else table
        noted.to_csv(args.out / f"{name}.csv", index=False)
    page["figure"].savefig(args.out / "robustness.png", dpi=150)
    n_views = int(studies["views"].map(len).sum())
    about = {
        "Question": QUESTION,
        "Data": f"{Path(args.data).name}, {len(studies):,} labelled studies, {n_views:,} views",
        "Model": Path(str(args.model)).name,
        "Conditions": conditions(f"{seconds:.0f} s for {len(scores)} changes"),
    }
    text = render_page(
        "robustness_page.html.jinja",
        title="Robustness of a saved model",
        note=note,
        robustness=page,
        n_patients=studies["patient"].nunique() if "patient" in studies else None,
        number_text=number_text,
        about=pd.DataFrame(about.items(), columns=["item", "value"]),
    )
    (args.out / "robustness.html").write_text(text, encoding="utf-8")
    return page


def read(args):
    """Return the labelled studies."""
    studies = read_studies(args.data)
    own, chosen = choose_split(studies, args.split, "--split", args.data)
    if args.labels is not None:
        own = join_labels(own, args.labels, others=studies["study"])
    own = own[own["label"].notna()]
    if own.empty:
        where = f"the split {', '.join(chosen)} of {args.data}" if chosen else args.data
        raise ValueError(
            f"expected labelled studies in {where}, got none; pass another --split, or --labels"
        )
    return own.reset_index(drop=True)
