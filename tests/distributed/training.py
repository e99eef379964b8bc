"""Train for four epochs with a checkpoint; on request one process fails in the second.

torchrun ... -m mura_skorch.distributed training.py PHANTOMS FOLDER [error | kill | freeze | ...]

After a restart by torchrun nothing fails any more.
"""

import os
import signal
import sys
import time
from pathlib import Path

import torch
from failing import FAULT, Failing
from nets import tiny_classifier

from mura_skorch import read_studies
from mura_skorch.callbacks import StatelessCallback


class Talking(StatelessCallback):
    """Say when an epoch begins, and slow it down so that a signal comes within it."""

    def on_epoch_begin(self, net, **kwargs):
        print("epoch", len(net.history), flush=True)

    def on_batch_end(self, net, training=None, **kwargs):
        if FAULT == "slow" and training:
            time.sleep(0.3)

    def on_epoch_end(self, net, **kwargs):
        if FAULT.endswith(" idle") and len(net.history) == 2:
            parent = os.getppid()
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
            for pid in map(int, children):
                if pid != os.getpid():
                    os.kill(pid, signal.SIGSTOP if "freeze" in FAULT else signal.SIGKILL)
            if "kill" in FAULT:
                time.sleep(10)  # torchrun's SIGTERM ends it


def main():
    """Train, and print how it ended."""
    root, folder = sys.argv[1:3]
    studies = read_studies(root).query("split == 'train'")
    clf = tiny_classifier(
        module=Failing,
        max_epochs=4,
        batch_size=2,
        checkpoint_path=Path(folder) / "checkpoint",
        callbacks=[("talking", Talking())],
        callbacks__mlflow__log_model=False,
    )
    try:
        clf.fit(studies)
    finally:
        total = sum(value.double().sum().item() for value in clf.module_.state_dict().values())
        print("epochs:", len(clf.history), "interrupted:", clf.interrupted_, flush=True)
        print("weights:", repr(total), flush=True)
        torch.save(clf.module_.state_dict(), Path(folder) / "weights.pt")


if __name__ == "__main__":
    main()
