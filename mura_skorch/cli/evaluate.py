"""Score a saved model on labelled studies, or the predictions of any model, and write a report.

mura-skorch evaluate --model RUN --data clinic.csv
mura-skorch evaluate --model DIR --data clinic --labels labels.csv --by site
mura-skorch evaluate --predictions table.csv --threshold 0.4 --prevalence 0.05

A table of predictions has a row per study and the columns study, study_type, patient, label and
y_score, the probability of abnormality. Others may follow, such as threshold, n_views or site.
"""

import argparse

from mura_skorch.cli import predict
from mura_skorch.cli.options import folder_or_address

__all__ = ["add_arguments", "check", "run"]

# Options that go with --predictions.
OF_TABLES = {
    *("predictions", "split", "readers", "gold", "by", "prevalence", "threshold"),
    *("notes", "study_facts", "experiment", "out", "json"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "--predictions",
        type=folder_or_address,
        metavar="TABLE",
        help="predictions of any model (.csv, .parquet), instead of --model and --data",
    )
    predict.add_arguments(parser, required=False, experiment="evaluate")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse calls with neither or both of a model and a table, and options that do not apply."""
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    if "predictions" not in given:
        if missing := {"model", "data"} - given:
            parser.error(f"expected --model and --data, or --predictions, got no --{min(missing)}")
    elif wrong := given - OF_TABLES:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(wrong))
        parser.error(
            f"expected options for a table of predictions, got {names}; leave out --predictions to "
            "evaluate a model"
        )


def run(args: argparse.Namespace) -> int:
    """Predict if there is a model, score and report."""
    from mura_skorch.commands import evaluate

    return evaluate.main(args)
