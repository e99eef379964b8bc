"""Predict with small changes of the views, and compare the scores with and without them.

mura-skorch robustness --model RUN --data MURA-v1.1 --split valid
mura-skorch robustness --model DIR --data clinic --labels labels.csv --out robustness

Rotation, shift, contrast, noise, JPEG, half resolution, inversion, one view dropped, each view
alone: kappa and AUROC of the same studies with and without the change, with paired intervals over
patients. The same section is in the report of mura-skorch predict --robustness.
"""

import argparse
from functools import partial
from pathlib import Path

from mura_skorch.cli.options import add_option

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser)
    add("--model", required=True, help="folder of a saved model or ensemble, or an MLflow run's id")
    add_shared("--data", required=True, help="MURA's folder or one like it")
    add("--split", help="train, valid or test (default: all but train)")
    add("--labels", type=Path, metavar="CSV", help="columns study and label")
    add_shared("--cache")
    add_shared("--device")
    add_shared("--threads", default_text="one per core")
    add_shared("--random-state")
    add_shared("--experiment", default="robustness")
    add_shared("--out", help="folder of tables, figure and page")


def run(args: argparse.Namespace) -> int:
    """Predict under each change, score and write the page."""
    from mura_skorch.commands import robustness

    return robustness.main(args)
