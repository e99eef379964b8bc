"""Say what is in a dataset, and what would invalidate a result: tables, a figure and a page.

mura-skorch explore                                # phantoms, drawn if missing
mura-skorch explore --data MURA-v1.1               # a minute or two: decodes all images
mura-skorch explore --data MURA-v1.1 --no-images   # seconds

The exit status is 1 if there is a problem: shared patients, copies across splits, unreadable files.
"""

import argparse
from datetime import datetime
from pathlib import Path

from mura_skorch.cli.options import add_option

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add_option(parser, "--data")
    add("--no-images", action="store_true", help="do not read the image files")
    add("--no-csv", action="store_true", help="ignore the CSV files")
    add("--jobs", type=int, default=-1, help="threads that decode (default: -1, one per core)")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    add_option(
        parser,
        "--out",
        default=Path("results") / f"dataset-{stamp}",
        default_text="results/dataset-DATE-TIME",
        help="folder of tables, figure and page",
    )
    add_option(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Count, print and write; return 1 if there is a problem."""
    from mura_skorch.commands import explore

    return explore.main(args)
