"""Send what MLflow did not get: folders of unsent records go in, MLflow has them.

python -m mura_skorch.tracking.offline.sync                      # all in mura_unsent/
python -m mura_skorch.tracking.offline.sync mura_unsent/XR_HAND  # one run

Records go where MLFLOW_TRACKING_URI says, or else to where they were meant for. A run that never
got an id is made, with the time it began. A call that is interrupted can be repeated.
"""

import argparse
import os
import sys
from pathlib import Path

from mura_skorch.tracking.offline.queue import Outbox
from mura_skorch.tracking.offline.records import Record
from mura_skorch.tracking.offline.spool import UNSENT, Journal, journals
from mura_skorch.tracking.offline.timeouts import SENDING, impatience

__all__ = ["main"]


def main(argv: list[str] | None = None) -> int:
    """Send and tell what was sent; return 0, or 1 where something is left."""
    import mlflow

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="*", type=Path, default=[UNSENT], metavar="FOLDER")
    args = parser.parse_args(argv)
    found = [folder for place in args.folders for folder in journals(place)]
    if not found:
        print(f"Nothing to send in {', '.join(map(str, args.folders))}")
    is_left = False
    for folder in found:
        journal = Journal.of(folder)
        if journal is None:
            print(f"{folder.name}: its run goes on, and sends by itself")
            continue
        uri = os.environ.get("MLFLOW_TRACKING_URI") or journal.header["uri"]
        if uri:
            mlflow.set_tracking_uri(uri)
        is_left |= not _send(journal, folder)
    return int(is_left)


def _send(journal, folder):
    """Send the records of a journal; return whether MLflow has all."""
    _end(journal)
    n_records = len(journal.records)
    outbox = Outbox(journal)
    outbox.flush(2 * SENDING)
    left = len(journal.records)
    why = outbox.problem or outbox.last_error
    outbox.close()
    run = f"{journal.header['name'] or 'run'} {journal.header['run_id'] or ''}".strip()
    if left:
        reason = str(why or "no answer").split("\n", 1)[0][:300]
        print(f"{run}: {left} of {n_records} records are left in {folder}, got {reason}")
    else:
        print(f"{run}: {n_records} records sent")
    return not left


def _end(journal):
    """Say how a run ended whose process had no time to."""
    import mlflow

    run_id, status = journal.header["run_id"], "RUNNING"
    is_quiet = run_id is not None and not journal.records
    if is_quiet or any("status" in record.content for record in journal.records):
        return
    try:
        if run_id:
            with impatience(SENDING, retries=0):
                status = mlflow.MlflowClient().get_run(run_id).info.status
    except mlflow.MlflowException:  # the records themselves say what is wrong
        return
    if status == "RUNNING":
        times = [record.time for record in journal.records] or [journal.header["start_time"]]
        journal.add(Record({"status": "KILLED"}, max(times)))


if __name__ == "__main__":
    sys.exit(main())
