"""Train one model per study type, and compare them in MLflow and in a report.

mura-skorch train                                    # phantoms, minutes on two cores
mura-skorch train --data MURA-v1.1 --pooled          # hours on a GPU
mura-skorch train --dask tcp://head:8786             # on a Dask cluster
mura-skorch train --resume results/20261123-101500   # resume after a crash
"""

import argparse
from functools import partial
from pathlib import Path

from mura_skorch.cli.options import add_option
from mura_skorch.commands.defaults import TRAIN

__all__ = ["add_arguments", "check", "run"]

NOTES = """\
The exit status is 1 if a model failed; the report holds the others. 130 and 143 mean that the call
was stopped. The last line says how to resume it.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser, defaults=TRAIN)
    add_shared("--data")
    add_shared("--study-types")
    add_shared("--weights")
    add_shared("--image-size")
    add_shared("--max-epochs")
    add_shared("--batch-size")
    add_shared("--lr")
    add("--level", choices=["study", "view"], default="study", help="level of the loss")
    add_shared("--device")
    add_shared("--valid-share")
    add(
        "--jobs",
        type=int,
        help="types trained at a time; does not change the results (default: 1, phantoms: one per "
        "core, at most 4)",
    )
    add_shared("--dask")
    add_shared(
        "--threads",
        default_text="one per core, phantoms: 1",
        help="CPU threads per training; changes the rounding",
    )
    add_shared("--cache")
    add_shared("--random-state")
    add_shared("--study-facts")
    add_shared("--experiment", default="per_body_part")
    add("--resume", type=Path, metavar="OUT", help="resume the call with that --out")
    add_shared(
        "--cases", default=1, help="false negatives and false positives of each type to show"
    )
    add_shared("--prevalence")
    add("--pooled", action="store_true", help="also train one model on all types")
    add_shared("--out")
    parser.set_defaults(parent_run_id=None)
    parser.epilog = NOTES


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse --resume with options that the resumed call has set."""
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    if args.resume is not None and not given <= {"resume", "dask"}:
        parser.error(
            "expected --resume OUT, and --dask at most: the rest is as in the resumed call"
        )


def run(args: argparse.Namespace) -> int:
    """Train, evaluate and report."""
    from mura_skorch.commands import train

    return train.main(args)
