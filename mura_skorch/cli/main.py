"""The command ``mura-skorch``: its subcommands, and the scripts that run one of them."""

import argparse
import os
import sys
from pathlib import Path
from types import ModuleType

from mura_skorch._version import __version__
from mura_skorch.cli import (
    ablate,
    cache,
    compare,
    config,
    evaluate,
    explore,
    export,
    external,
    features,
    pointing_game,
    predict,
    report,
    reproduce_paper,
    review_labels,
    robustness,
    serve,
    sweep,
    sync,
    train,
)
from mura_skorch.cli.options import Parser, make_parser, nearest
from mura_skorch.cli.scripts import start_script
from mura_skorch.commands import CommandError

__all__ = ["SUBCOMMANDS", "main", "run_script"]

# A module of a subcommand has a docstring, of which the first line says what it does,
# `add_arguments(parser)` and `run(args)`, which returns the exit status. It may have
# `check(parser, args)`, which calls `parser.error` for arguments that do not go together.
SUBCOMMANDS: dict[str, ModuleType] = {
    # data
    "explore": explore,
    "review-labels": review_labels,
    "cache": cache,
    # models
    "train": train,
    "features": features,
    "sweep": sweep,
    "ablate": ablate,
    "reproduce-paper": reproduce_paper,
    # evaluation
    "evaluate": evaluate,
    "external": external,
    "robustness": robustness,
    "pointing-game": pointing_game,
    "report": report,
    "compare": compare,
    # in use
    "predict": predict,
    "export": export,
    "serve": serve,
    "sync": sync,
    "config": config,
}
DESCRIPTION = "Train, evaluate and compare models that classify radiographs, with MLflow runs."
EPILOG = """\
mura-skorch COMMAND --help shows the options of a command.

exit status:
  0    done
  1    the command failed, explore found a problem, or one of several models failed
  2    the call is wrong: an unknown command or option
  130  stopped by Ctrl-C
  141  what reads the output, such as head, ended first
  143  stopped by SIGTERM

An error is one line on stderr: expected ..., got ...; what to do about it.
"""


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand.

    Parameters
    ----------
    argv : list of str, optional
        Arguments after ``mura-skorch``. None means those of the process, whose log is then set up.

    Returns
    -------
    int
        The exit status. Without a subcommand the help is printed, and it is 0.

    Raises
    ------
    SystemExit
        The call is wrong, or the subcommand failed; with the exit status or the message.
    """
    if argv is None:
        start_script()
        argv = sys.argv[1:]
    parser = Parser(prog="mura-skorch", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND")
    parsers = {name: _add_parser(subparsers, name, module) for name, module in SUBCOMMANDS.items()}
    if argv and not argv[0].startswith("-") and argv[0] not in SUBCOMMANDS:
        remedy = nearest(argv[0], SUBCOMMANDS, "see mura-skorch --help")
        parser.error(f"expected a command, got {argv[0]!r}; {remedy}")
    args = parser.parse_args(argv)
    name = vars(args).pop("command")
    if name is None:
        parser.print_help()
        return 0
    return _run(SUBCOMMANDS[name], parsers[name], args, f"mura-skorch {name}")


def run_script(
    name: str, script: str, description: str | None, argv: list[str] | None = None
) -> int:
    """Run a subcommand as a script of its own.

    Parameters
    ----------
    name : str
        A key of `SUBCOMMANDS`.
    script : str
        Path of the script, which error messages begin with.
    description : str or None
        What its help says first: the docstring of the script.
    argv : list of str, optional
        Its arguments. None means those of the process, whose log is then set up.

    Returns
    -------
    int
        The exit status.

    Raises
    ------
    SystemExit
        As in `main`.
    """
    if argv is None:
        start_script()
    parser = make_parser(description)
    SUBCOMMANDS[name].add_arguments(parser)
    return _run(SUBCOMMANDS[name], parser, parser.parse_args(argv), Path(script).stem)


def _add_parser(subparsers, name: str, module: ModuleType) -> argparse.ArgumentParser:
    text = module.__doc__ or ""
    parser = subparsers.add_parser(name, help=text.splitlines()[0], description=text)
    module.add_arguments(parser)
    return parser


def _run(
    module: ModuleType, parser: argparse.ArgumentParser, args: argparse.Namespace, called: str
) -> int:
    """Run a subcommand; `called` says how, in messages."""
    if hasattr(module, "check"):
        module.check(parser, args)
    try:
        status = module.run(args)
        sys.stdout.flush()
        return status
    except CommandError as error:
        sys.exit(f"{called}: {_message(error)}")
    except KeyboardInterrupt:
        print(f"{called}: stopped by Ctrl-C", file=sys.stderr)
        return 130
    except BrokenPipeError:  # what reads stdout, such as head, has ended
        # Python flushes stdout at its end, which would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _message(error: CommandError) -> str:
    """Return what an error says, in one line."""
    from mura_skorch.utils.text import printable  # imports pandas

    text, cause = str(error), error.__cause__
    if isinstance(cause, OSError) and cause.filename is None and cause.strerror:
        text = cause.strerror  # without [Errno 13]
    return printable(" ".join(text.split()))


if __name__ == "__main__":
    sys.exit(main())
