"""Fit and predict in all ways that must not depend on the number of processes; store the results.

python laws.py PHANTOMS OUT
torchrun --standalone --nproc-per-node 2 -m mura_skorch.distributed laws.py PHANTOMS OUT
"""

import sys
from pathlib import Path

import numpy as np
import torch
from nets import TinyNet, tiny_classifier
from torch import nn

from mura_skorch import MuraClassifier, read_studies
from mura_skorch.distributed import current_processes

N_STUDIES = 8  # of a minibatch of all processes together


def without_batch_statistics():
    """Return a network of two layers, whose views do not depend on each other."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=4),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 1),
    )


class Watching(TinyNet):
    """A network with batch norm, and a layer that nothing reads."""

    def __init__(self, *args, **params):
        super().__init__(*args, **params)
        self.unread = nn.Linear(2, 2)


FITS = {
    "even": {"n": 16},
    "uneven last minibatch": {"n": 13},
    "a process without studies": {"n": 10},
    "loss of views": {"n": 13, "criterion__level": "view"},
    "accumulated": {"n": 32, "accumulate": 3, "batch_size": N_STUDIES // 2},
    "head first": {"n": 13, "fine_tune_after": 1},
    "with batch statistics": {"n": 13, "module": Watching, "module__backbone": None},
}


def fit(studies, n, **params):
    """Return the classifier and what it has learned."""
    processes = current_processes()
    size = 1 if processes is None else processes.size
    batch_size = params.pop("batch_size", N_STUDIES) // size
    settings = {
        "module__backbone": without_batch_statistics,
        "module__augment": None,
        "batch_size": batch_size,
    } | params
    if settings["module__backbone"] is None:
        del settings["module__backbone"]
    clf = tiny_classifier(**settings).fit(studies[:n])
    keys = ("train_loss", "train_batch_count", "valid_loss", "valid_kappa", "lr")
    rows = [{key: float(row[key]) for key in keys if key in row} for row in clf.history]
    return clf, {"weights": clf.module_.state_dict(), "history": rows}


def main():
    """Store everything; print how many processes there were."""
    root, out = sys.argv[1:]
    studies = read_studies(root).query("split == 'train'")
    found = {}
    for name, params in FITS.items():
        clf, found[name] = fit(studies, **params)
    # Both predict with one model. With batch statistics, weights depend on who computes what.
    folder = Path(out).with_name("model")
    if current_processes() is None:
        clf.save(folder)
    clf = MuraClassifier.load(folder, module=Watching, device="cpu", batch_size=2)
    proba, of_views = clf.predict_with_views(studies)
    found["predictions"] = {
        "proba": torch.from_numpy(proba),
        "views": torch.from_numpy(np.concatenate(of_views)),
        "maps": torch.from_numpy(np.concatenate(clf.localize(studies[:4]))),
        "features": torch.from_numpy(clf.embed(studies[:4])),
    }
    clf.export(Path(out).with_suffix(".export"))
    torch.save(found, out)
    processes = current_processes()
    print("processes:", 1 if processes is None else processes.size)


if __name__ == "__main__":
    main()
