"""Print what a command would run, with the value of every setting, without running it.

mura-skorch config train --data MURA-v1.1 --pooled
mura-skorch config evaluate --model RUN --data clinic.csv --json

Defaults that depend on the data are filled in from the data. The settings of the model follow.
"""

import argparse

from mura_skorch.cli.options import Parser, add_option, nearest

__all__ = ["add_arguments", "check", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument("name", metavar="COMMAND", help="the command that would be run")
    parser.add_argument(
        "words", metavar="OPTIONS", nargs=argparse.REMAINDER, help="its arguments and options"
    )
    add_option(parser, "--json")


def check(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Parse the arguments of the command, as it would."""
    from mura_skorch.cli.main import SUBCOMMANDS  # which imports this module

    known = [name for name in SUBCOMMANDS if name != "config"]
    if args.name not in known:
        hint = nearest(args.name, known, "see mura-skorch --help")
        parser.error(f"expected a command among {', '.join(known)}, got {args.name!r}; {hint}")
    module = SUBCOMMANDS[args.name]
    inner = Parser(prog=f"mura-skorch {args.name}")
    module.add_arguments(inner)
    words = [word for word in args.words if word != "--json"]
    args.json = args.json or len(words) < len(args.words)
    args.called = inner.parse_args(words)
    if hasattr(module, "check"):
        module.check(inner, args.called)
    settings = vars(args.called)
    args.given = [name for name in settings if settings[name] != inner.get_default(name)]


def run(args: argparse.Namespace) -> int:
    """Fill in the settings and print them."""
    from mura_skorch.commands import config

    return config.main(args)
