"""List the caches of prepared views in a folder, and remove those that are not used again.

mura-skorch cache list FOLDER
mura-skorch cache remove FOLDER --unused-days 30
"""

import argparse
from pathlib import Path

from mura_skorch.cli.options import add_option

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    actions = parser.add_subparsers(required=True, dest="action", metavar="{list,remove}")
    listing = actions.add_parser("list", help="list caches, the one used last first")
    removing = actions.add_parser("remove", help="remove caches that are not used again")
    for action in (listing, removing):
        action.add_argument("folder", type=Path, help="folder passed as dataset__cache")
        add_option(action, "--json")
    removing.add_argument(
        "--unused-days",
        type=float,
        metavar="DAYS",
        help="also remove caches that were not used for this many days",
    )
    removing.add_argument(
        "--all", action="store_true", dest="all_files", help="remove every cache of the folder"
    )


def run(args: argparse.Namespace) -> int:
    """List or remove caches, and print each."""
    from mura_skorch.commands import cache

    return cache.main(args)
