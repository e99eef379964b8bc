"""Send to MLflow what its server did not receive.

mura-skorch sync                           # everything in mlflow_offline/
mura-skorch sync mlflow_offline/XR_HAND-*  # some runs

Records go to MLFLOW_TRACKING_URI, or else to the server they were meant for.
"""

import argparse
import os
from pathlib import Path
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the subcommand ``sync``."""
    parser = subparsers.add_parser(
        "sync",
        help="send to MLflow what its server did not receive",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send each run, and print what was sent; return 1 if something is left."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")  # no training waits
    from mura_skorch.tracking.offline.spool import OFFLINE, find_spools
    from mura_skorch.tracking.offline.sync import sync_run

    folders = args.folders or [OFFLINE]
    spools = [spool for folder in folders for spool in find_spools(folder)]
    if not spools:
        print(f"Nothing to send in {', '.join(map(str, folders))}")
    status = 0
    for spool in spools:
        is_sent, message = sync_run(spool)
        print(message, flush=True)
        if not is_sent:
            status = 1
    return status
