"""What ``mura-skorch sync`` does: send to MLflow what its server did not receive."""

from argparse import Namespace

from mura_skorch.tracking.offline.spool import OFFLINE, find_spools
from mura_skorch.tracking.offline.sync import sync_run

__all__ = ["main"]


def main(args: Namespace) -> int:
    """Send each run, and print what was sent; return 1 if something is left."""
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
