"""Run the paper's protocol, and add its kappas to the paper's Table 2.

mura-skorch reproduce-paper --data MURA-v1.1 --protocol v3   # one model: a GPU night
mura-skorch reproduce-paper --data MURA-v1.1 --protocol v4   # ten models: a week-end
mura-skorch reproduce-paper                                  # phantoms, minutes

The same command with the same --out resumes, after the last epoch: finished models are reused.
"""

import argparse
from functools import partial

from mura_skorch.cli.options import add_option
from mura_skorch.commands.defaults import REPRODUCE_PAPER

__all__ = ["add_arguments", "run"]

# As in mura_skorch.commands.reproduce_paper, which imports torch.
PROTOCOLS = ("v3", "v4")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser, defaults=REPRODUCE_PAPER)
    add_shared("--data")
    add("--protocol", choices=PROTOCOLS, default="v3", help="version of the paper")
    add("--select-on-valid", action="store_true", help="select epochs and members on valid itself")
    add_shared("--image-size", default_text="the protocol's, phantoms: 64")
    add_shared("--max-epochs")
    add("--n-seeds", type=int, help="models trained (default: the protocol's)")
    add(
        "--n-members",
        type=int,
        help="models averaged, those with the lowest validation loss (default: the protocol's)",
    )
    add_shared("--weights")
    add_shared("--lr")
    add_shared("--valid-share")
    add_shared("--device")
    add_shared("--threads", default_text="one per core", help="CPU threads; changes the rounding")
    add("--jobs", type=int, default=1, help="models at a time; does not change the results")
    add_shared("--dask")
    add("--workers", type=int, default=0, help="processes that read images")
    add_shared("--cache")
    add_shared("--cases")
    add_shared("--study-facts")
    add_shared("--prevalence")
    add_shared("--experiment", default="reproduce_paper")
    add_shared("--out", help="folder of models and report")


def run(args: argparse.Namespace) -> int:
    """Train, choose, evaluate and report."""
    from mura_skorch.commands import reproduce_paper

    return reproduce_paper.main(args)
