"""Rank labels that may be wrong, let a reader judge them, and measure what that changes.

mura-skorch review-labels --data MURA-v1.1 --cache cache       # frozen features
mura-skorch review-labels --data MURA-v1.1 --fine-tune         # a network for each fold
mura-skorch review-labels --data MURA-v1.1 --cache cache --verdicts verdicts.csv
mura-skorch review-labels --flip 0.05       # phantom wrists: how many are found?

The labels of the train split are ranked by out-of-fold predictions: of models that saw no study of
the patient. review.html shows the first 100 with fields for verdicts, and exports them as
verdicts.csv. With --verdicts, a copy of the table gets the corrected labels, models are fitted on
both, and their kappas on the valid split are compared, whose labels stay as they are. Needs the
extra [labels].
"""

import argparse
from functools import partial
from pathlib import Path

from mura_skorch.cli.options import add_option
from mura_skorch.commands.defaults import REVIEW_LABELS

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser, defaults=REVIEW_LABELS)
    add_shared("--data")
    add_shared("--study-types")
    add(
        "--verdicts", type=Path, metavar="CSV", help="what the page has exported: apply and compare"
    )
    add("--reported-split", action="store_true",
        help="review the valid split's labels, too; the title says so")  # fmt: skip
    add("--folds", type=int, default=5, help="folds of patients")
    add("--shown", type=int, default=100, help="studies on the page")
    add("--flip", type=float, metavar="SHARE",
        help="flip this share of the labels first, and count how many are found")  # fmt: skip
    add("--backbone", default="densenet169", help="torchvision name, or timm: and a name of timm")
    add_shared("--weights")
    add_shared("--image-size")
    add("--fine-tune", action="store_true", help="train a network for each fold, which takes hours")
    add_shared("--max-epochs", help="with --fine-tune")
    add_shared("--batch-size", help="with --fine-tune")
    add_shared("--lr", help="with --fine-tune")
    add_shared(
        "--valid-share",
        help="with --fine-tune: patients that choose the epoch",
    )
    add_shared("--device")
    add_shared("--threads", default_text="one per core")
    add_shared("--cache", help="folder for features, or for views with --fine-tune")
    add_shared("--random-state")
    add_shared("--experiment", default="review_labels")
    add_shared("--out")


def run(args: argparse.Namespace) -> int:
    """Rank the labels, or apply verdicts and compare."""
    from mura_skorch.commands import review_labels

    return review_labels.main(args)
