"""Send to MLflow what its server did not receive.

mura-skorch sync                           # everything in mlflow_offline/
mura-skorch sync mlflow_offline/XR_HAND-*  # some runs

Records go to MLFLOW_TRACKING_URI, or else to the server they were meant for. The exit status is 1
if something is left.
"""

import argparse
import os
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "folders",
        nargs="*",
        type=Path,
        metavar="FOLDER",
        help="of runs, or of one run (default: mlflow_offline)",
    )


def run(args: argparse.Namespace) -> int:
    """Send each run, and print what was sent; return 1 if something is left."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # no training waits
    from mura_skorch.commands import sync

    return sync.main(args)
