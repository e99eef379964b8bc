"""Send what earlier processes left unsent."""

import os
from pathlib import Path
from typing import Any

from mura_skorch.tracking.offline.connection import set_defaults
from mura_skorch.tracking.offline.queue import SendQueue
from mura_skorch.tracking.offline.send_records import find_or_create_run
from mura_skorch.tracking.offline.spool import Spool

__all__ = ["sync_run"]

WAIT = 120  # seconds without any progress


def sync_run(folder: Path, wait: float = WAIT) -> tuple[bool, str]:
    """Send the records of one run; a call that is interrupted can be repeated.

    Records go to MLFLOW_TRACKING_URI, or to the server they were meant for. A run that was never
    created is created with the time it started.

    Parameters
    ----------
    folder : Path
        A folder in ``mlflow_offline/``.
    wait : float, default=120
        Seconds to wait while nothing moves.

    Returns
    -------
    is_sent : bool
        Whether nothing is left; also for a run that is still training, and sends by itself.
    message : str
    """
    import mlflow

    set_defaults()
    spool = Spool.open(folder)
    if spool is None:
        return True, f"{folder.name}: its run is still open, and sends its records itself"
    spool.retry_rejected()
    uri = os.environ.get("MLFLOW_TRACKING_URI") or spool.header["uri"] or mlflow.get_tracking_uri()
    run = f"{spool.header['name'] or 'run'} {spool.header['run_id'] or ''}".strip()
    try:
        _end_killed_run(spool, uri)
    except Exception as error:  # no answer, or another server: nothing may be counted as rejected
        spool.close()
        return False, f"{run}: nothing was sent from {folder}, got {_line(error)}"
    n_records = _count(spool)
    queue = SendQueue(spool, uri)
    queue.flush(wait)
    is_sent, n_left = spool.is_finished, _count(spool)
    queue.close()
    if is_sent:
        return True, f"{run}: {n_records} records sent"
    left = f"{n_left} of {n_records} records were not sent" if n_left else "some were rejected"
    reason = _line(queue.rejection or queue.error or "no answer")
    return False, f"{run}: {left} from {folder}, got {reason}"


def _end_killed_run(spool, uri):
    """Create the run if needed, and append how it ended if its process was killed."""
    import mlflow

    client, header = mlflow.MlflowClient(uri), spool.header
    if header["run_id"] is None:
        header["run_id"] = find_or_create_run(client, header)
    status = client.get_run(header["run_id"]).info.status
    pending = [record for record, _ in spool.records.pending(-1)]
    has_status = any("status" in record for record in pending)
    if status == "RUNNING" and not has_status and header["is_owned"]:
        end = max([record["time"] for record in pending], default=_last_change(spool))
        spool.append({"status": "KILLED", "time": end})


def _last_change(spool):
    """Return when the last record was sent, in ms; the start of the run if there is none."""
    path = spool.records.path
    changed = int(path.stat().st_mtime * 1000) if path.exists() else 0
    return max(changed, spool.header["start_time"])


def _count(spool: Any) -> int:
    return len(spool.records.pending(-1)) + len(spool.files.pending(-1))


def _line(error):
    return str(error).split("\n", 1)[0][:300]
