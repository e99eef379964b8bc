"""List the caches of prepared views in a folder, and remove those that are not used again."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mura_skorch.data.cache import CacheFile, list_caches, remove_caches
from mura_skorch.utils.text import printable

__all__ = ["add_parser", "main"]


def add_parser(subparsers: Any) -> argparse.ArgumentParser:
    """Add the command ``cache`` to the parser of `mura-skorch`.

    Parameters
    ----------
    subparsers : object returned by ``ArgumentParser.add_subparsers``

    Returns
    -------
    ArgumentParser
        Its default ``run`` is the function that takes the parsed arguments and returns the exit
        code.
    """
    parser = subparsers.add_parser("cache", help="list or remove caches of prepared views")
    _add_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command by itself.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments after ``cache``. None means those of the process.

    Returns
    -------
    int
        The exit code: 0, or 2 if there is no such folder.
    """
    parser = argparse.ArgumentParser(prog="mura-skorch cache", description=__doc__)
    _add_arguments(parser)
    args = parser.parse_args(argv)
    return args.run(args)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(required=True, metavar="{list,remove}")
    listing = commands.add_parser("list", help="list caches, the one used last first")
    removing = commands.add_parser("remove", help="remove caches that are not used again")
    for command in (listing, removing):
        command.add_argument("folder", type=Path, help="folder passed as dataset__cache")
    removing.add_argument(
        "--unused-days",
        type=float,
        metavar="DAYS",
        help="also remove caches that were not used for this many days",
    )
    removing.add_argument(
        "--all", action="store_true", dest="all_files", help="remove every cache of the folder"
    )
    parser.set_defaults(run=lambda args: _run(parser, args))
    listing.set_defaults(find=lambda args: list_caches(args.folder), done="")
    removing.set_defaults(
        find=lambda args: remove_caches(
            args.folder, unused_days=args.unused_days, all_files=args.all_files
        ),
        done="removed ",
    )


def _run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> int:
    try:
        caches = args.find(args)
    except (FileNotFoundError, PermissionError) as error:
        parser.error(str(error))
    for cache in caches:
        print(_line(cache))
    size = sum(cache.n_bytes for cache in caches)
    print(f"{args.done}{len(caches):,} caches, {size / 1e9:.2f} GB")
    return 0


def _line(cache: CacheFile) -> str:
    """Return a row of the list: size, views, last use, problem, name."""
    n_views = "" if cache.n_views is None else f"{cache.n_views:,} views"
    used = time.strftime("%Y-%m-%d", time.localtime(cache.last_used))
    problem = cache.problem or "in use"
    size = f"{cache.n_bytes / 1e6:,.1f} MB"
    return f"{size:>12}  {n_views:>16}  {used}  {problem:<19}  {printable(cache.file.name)}"
