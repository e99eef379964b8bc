"""Compare two MLflow runs study by study, with intervals and tests of the difference.

mura-skorch compare RUN_A RUN_B
mura-skorch compare RUN_A RUN_B --table valid_predictions.csv --out comparison.csv
"""

import argparse
from pathlib import Path

from mura_skorch.cli.options import add_option

__all__ = ["add_arguments", "run"]

NOTES = """\
RUN is the id of a run on the server in MLFLOW_TRACKING_URI, or else in the store of this folder.
Each model is compared at its own operating point. The table holds differences, B minus A, with 95 %
intervals of a bootstrap over patients, and McNemar's test of the decisions, whose p is also
adjusted for the number of study types (Holm).

Without --table, the predictions of a report or of a test are compared. valid_predictions.csv, which
every fit logs, holds predictions on its validation part. That part selected the epoch, and the
threshold if it is a rule, so these figures are too good.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("run_a", metavar="RUN_A", help="id of the first run")
    add("run_b", metavar="RUN_B", help="id of the second run")
    add("--table", help="artifact path of the predictions (default: those of a report or a test)")
    add("--common", action="store_true", help="compare on the studies of both runs")
    add("--out", type=Path, help="CSV file to write")
    add("--n-resamples", type=int, default=2000, help="resamples of the bootstrap")
    add_option(parser, "--random-state")
    add_option(parser, "--json")
    parser.epilog = NOTES


def run(args: argparse.Namespace) -> int:
    """Fetch, match and compare predictions; print the result."""
    from mura_skorch.commands import compare

    return compare.main(args)
