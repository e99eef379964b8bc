"""What ``mura-skorch evaluate`` does: score a model, or a table of predictions, with a report."""

from argparse import Namespace
from pathlib import Path
from typing import Any

from mura_skorch.calibration import is_rule
from mura_skorch.commands import CommandError
from mura_skorch.commands.json_output import with_json
from mura_skorch.commands.predict import check, predict, wanted_columns, write_scores
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.evaluation import join_notes, read_predictions, scored_rows
from mura_skorch.evaluation.published import is_mura
from mura_skorch.report import ReportInputs, read_study_facts
from mura_skorch.tracking import TrackedRun, use_experiment
from mura_skorch.utils.atomic import check_writable

__all__ = ["main"]

QUESTION = "How good are these predictions? Score them."


@with_json
def main(args: Namespace, result: dict[str, Any]) -> int:
    """Score and report; return 0."""
    if args.predictions is None:
        return predict(args, result, name="evaluate", needs_labels=True)
    return evaluate_table(args, result)


def evaluate_table(args, result):
    """Score the predictions of a table and fill in the result."""
    try:
        check_writable(args.out)
        facts = read_study_facts(args.study_facts or {})
        table = read(args)
        check(table, args)
        experiment_id = use_experiment(args.experiment)
    except (OSError, ValueError, ImportError) as error:
        raise CommandError(error) from error
    note = join_notes(table)
    name = Path(args.predictions).name
    with TrackedRun(name="evaluate", note=note) as run:
        given = {name: value for name, value in vars(args).items() if value not in (None, [], "")}
        run.log_params(given)
        write_scores(
            args,
            run,
            ReportInputs(table),
            result,
            about={
                "Question": QUESTION,
                "Predictions": f"{name}, split {args.split or 'all rows'}",
                "MLflow run": str(run.run_id),
            },
            study_facts=facts,
            published=is_mura(table.assign(split="valid")),
            title=f"Evaluation of {name}",
        )
    result |= {
        "n_studies": len(table),
        "predictions": args.out / "predictions.csv",
        "model": None,
        "run_id": run.run_id,
        "note": note,
    }
    print(runs_sentence(experiment_id))
    return 0


def read(args):
    """Return the table of predictions at the requested threshold."""
    if is_rule(args.threshold):
        raise ValueError(
            f"expected a number as --threshold of a table of predictions, got {args.threshold!r}: "
            "a rule chooses on other studies than those scored; pass the number that it chose"
        )
    table = read_predictions(
        args.predictions, threshold=args.threshold, split=args.split, keep=wanted_columns(args)
    )
    if scored_rows(table).empty:
        raise ValueError(
            f"expected studies with a label and a score in {args.predictions}, got none of "
            f"{len(table):,} rows; fill in label and y_score"
        )
    return table
