"""Draw a report again from the tables of its folder, or of an MLflow run.

mura-skorch report results/20261129-101500 --study-facts study.toml --prevalence 0.05
mura-skorch report RUN --title "Wrists of the clinic" --out wrists

The model is not needed, so the pictures of the case review are not drawn again.
"""

import argparse
from datetime import datetime
from pathlib import Path

from mura_skorch.cli.options import add_option

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add("source", metavar="FOLDER_OR_RUN", help="folder of a report, or the id of an MLflow run")
    add_option(parser, "--study-facts")
    add_option(parser, "--prevalence")
    add("--title", help="heading of the page (default: that of the report)")
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    add_option(
        parser,
        "--out",
        default=Path("results") / f"report-{stamp}",
        default_text="results/report-DATE-TIME",
    )
    add_option(parser, "--json")


def run(args: argparse.Namespace) -> int:
    """Read the tables of a report and write it again."""
    from mura_skorch.commands import report

    return report.main(args)
