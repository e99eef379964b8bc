"""Train two settings with several seeds, and compare them by patient.

mura-skorch ablate defaults callbacks__ema__decay=0.999          # phantoms, minutes
mura-skorch ablate defaults "module__augment=Augment(scale=(0.8, 1.25))" --data MURA-v1.1
mura-skorch ablate defaults beyond_paper --seeds 5 --data MURA-v1.1   # a preset
mura-skorch ablate small.txt large.txt --jobs 2 --threads 1      # a key=value a line
mura-skorch ablate --resume results/20261129-101500              # after a crash

A and B are parameters of MuraClassifier: "defaults" for none, the name of a preset, a file, or
key=value,key=value. All else is the same: data, seeds, validation patients, and the options below,
unless a setting replaces them. Each model is trained on the train split and tested on the valid
split, which no choice sees. Differences, B minus A, are means over the seeds, with 95 % intervals
of a bootstrap over the test patients.
"""

import argparse
from functools import partial
from pathlib import Path

from mura_skorch.cli.options import add_option
from mura_skorch.commands.defaults import ABLATE

__all__ = ["add_arguments", "check", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser, defaults=ABLATE)
    add("a", metavar="A", nargs="?", help="defaults, a preset, a file, or key=value,key=value")
    add("b", metavar="B", nargs="?", help="the same")
    add("--seeds", type=int, default=5, help="models of each setting")
    add_shared("--data", help="MURA's folder or one like it (default: phantom wrists are drawn)")
    add_shared("--study-types")
    add_shared("--weights")
    add_shared("--module")
    add_shared("--image-size")
    add_shared("--max-epochs")
    add_shared("--batch-size")
    add_shared("--lr")
    add_shared("--device")
    add_shared("--valid-share")
    add(
        "--jobs",
        type=int,
        help="models trained at a time; does not change the results (default: 1, phantoms: one per "
        "core, at most 4)",
    )
    add_shared(
        "--threads",
        default_text="one per core, phantoms: 1",
        help="CPU threads per training; changes the rounding",
    )
    add_shared("--cache")
    add_shared("--random-state", help="the first seed")
    add("--n-resamples", type=int, default=2000, help="resamples of the bootstrap")
    add_shared("--experiment", default="ablate")
    add("--resume", type=Path, metavar="OUT", help="resume the call with that --out; nothing else")
    add_shared("--out", help="folder of the tables")
    parser.set_defaults(parent_run_id=None)


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Refuse --resume with anything else, and a call without two settings."""
    given = {name for name, value in vars(args).items() if value != parser.get_default(name)}
    if args.resume is not None and given != {"resume"}:
        parser.error("expected --resume OUT alone: it uses the arguments of the resumed call")
    if args.resume is None and args.b is None:
        parser.error("expected two settings, A and B; see --help")


def run(args: argparse.Namespace) -> int:
    """Train, compare and report."""
    from mura_skorch.commands import ablate

    return ablate.main(args)
