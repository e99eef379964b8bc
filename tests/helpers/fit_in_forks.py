"""Fits in processes that a test may kill: each line of JSON on stdin is one, its pid is answered.

Forks of one process, so that each fit does not import torch and mlflow anew.
"""

import hashlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import mlflow  # noqa: F401, so that the forks have it
import pandas as pd
from nets import tiny_classifier
from skorch.callbacks import EarlyStopping

from mura_skorch.callbacks import StatelessCallback
from mura_skorch.tracking.mlflow_model import save_mlmodel  # noqa: F401, as mlflow


class Say(StatelessCallback):
    """Tell the test that an epoch begins."""

    def on_epoch_begin(self, net, **kwargs):
        os.write(1, b"epoch\n")


class Slow(StatelessCallback):
    """Give a test the time to strike."""

    def __init__(self, seconds):
        self.seconds = seconds

    def on_batch_end(self, net, **kwargs):
        time.sleep(self.seconds)


def digest(clf, table):
    """Return a digest of all that a fit decides."""
    found = hashlib.sha256()
    for part in (clf.module_, clf.criterion_):
        for key, value in part.state_dict().items():
            found.update(key.encode() + value.numpy().tobytes())
    free = {"batches", "dur", "views_per_second"}
    rows = [{key: value for key, value in row.items() if key not in free} for row in clf.history]
    decided = {"rows": rows, "threshold": clf.threshold_, "seed": clf.seed_}
    found.update(json.dumps(decided, default=lambda value: value.item()).encode())
    found.update(clf.predict_proba(table).tobytes())
    return found.hexdigest()


def strike(name, file, number):
    """Kill this process the moment before it renames a finished file for the `number`-th time."""
    count = iter(range(1, 10_000))

    def watch(event, args):
        if event == name and str(args[1]).endswith(file) and next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


def fit(folder, checkpoint_path, strike_at=None, early=False, slow=False, **params):
    table = pd.read_pickle(Path(folder, "table.pkl"))
    if strike_at is not None:
        strike("os.rename", Path(checkpoint_path).name, strike_at)
    callbacks = [("say", Say()), ("slow", Slow(0.2 * slow))]
    callbacks += [("early", EarlyStopping(patience=1, threshold=9))] * early
    clf = tiny_classifier(
        callbacks__mlflow__log_model=False,
        callbacks=callbacks,
        checkpoint_path=checkpoint_path,
        **params,
    ).fit(table)
    result = {"digest": digest(clf, table), "run_id": clf.run_id_, "n_epochs": len(clf.history)}
    if not clf.interrupted_:
        Path(folder, "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            os.write(1, f"pid {os.getpid()}\n".encode())
            fit(**json.loads(line))
            os._exit(130 if not Path(json.loads(line)["folder"], "result.json").exists() else 0)
        _, status = os.waitpid(pid, 0)
        os.write(1, f"exit {os.waitstatus_to_exitcode(status)}\n".encode())
