"""The command ``mura-skorch``: one subcommand per task.

A subcommand is a module with ``add_parser(subparsers)``, which sets the function to run.
"""

import argparse
import sys

from mura_skorch.cli import cache, export, sync

__all__ = ["main"]

SUBCOMMANDS = (cache, export, sync)


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand; return its exit status."""
    parser = argparse.ArgumentParser(prog="mura-skorch", description=__doc__.splitlines()[0])
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for subcommand in SUBCOMMANDS:
        subcommand.add_parser(subparsers)
    args = parser.parse_args(argv)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
