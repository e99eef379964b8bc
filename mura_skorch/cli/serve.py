"""Serve a model over HTTP on this machine, by mlflow models serve.

mura-skorch serve model                               # a folder written by save
mura-skorch serve RUN --port 5002                     # the model of an MLflow run
mura-skorch serve models:/mura@champion --engine auto # of the registry, faster without a GPU

It prints its address and a call to try. Ctrl-C stops it. See docs/how_to/serving.md for requests,
answers and limits.
"""

import argparse

from mura_skorch.cli.predict import ENGINES, PRECISIONS

__all__ = ["add_arguments", "run"]

LOOPBACK = "127.0.0.1"
LAST_PORT = 65535


def port(text: str) -> int:
    """Return the number of a port, or 0."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if not 0 <= value <= LAST_PORT:
        raise argparse.ArgumentTypeError(
            f"expected a port from 1 to {LAST_PORT}, or 0 for a free one, got {text!r}"
        )
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="folder of a model, id of a run, or runs:/ or models:/ address",
    )
    add("--host", default=LOOPBACK, help="address to listen at; 0.0.0.0 lets other machines in")
    add("--port", type=port, default=5001, help="0 takes a free one")
    add("--workers", type=int, default=1, help="processes, each with the model in memory")
    add("--timeout", type=int, default=60, metavar="SECONDS", help="longest time of a request")
    add(
        "--engine",
        choices=ENGINES,
        help="what computes, on a CPU (extra [fast]; default: MURA_ENGINE, or torch)",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        help="arithmetic (default: MURA_PRECISION, or the model's own)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes."""
    from mura_skorch.commands import serve

    return serve.main(args)
