"""Does training leak? Measure memory, threads and open files over epochs and over many fits.

python experiments/load.py --out experiments/records/2026-11-23_load
python experiments/load.py --n-studies 2000 --n-epochs 3 --n-fits 10 --out load

The studies are synthetic, with as many views as in MURA's training part, each a small file.
The network has one layer. Everything else is an ordinary fit with MLflow, two persistent loader
workers and the default batch size. Runs on Linux only. No clinical meaning.
"""

import argparse
import ctypes
import gc
import io
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image
from skorch.callbacks import Callback
from torch import nn

from mura_skorch import MuraClassifier
from mura_skorch.evaluation.published.counts import VIEW_COUNTS

SIZE = 16  # pixels, of the picture and of the prepared view
N_PICTURES = 64
PER_EPOCH = 8  # memory samples per epoch
MB = 1024  # kB


def one_layer() -> nn.Module:
    """Return a linear layer over 4 x 4 means, which takes almost no time."""
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 1))


class Gauge(Callback):
    """Sample the memory of this process and of its loader workers while it trains."""

    def on_train_begin(self, net, **kwargs):
        """Reset the samples."""
        self.samples_ = []
        self.n_batches_ = 0

    def on_batch_end(self, net, training=None, **kwargs):
        """Sample the memory PER_EPOCH times per epoch."""
        every = max((net.n_batches_left_ if net.accumulate == 1 else 1) // PER_EPOCH, 1)
        self.n_batches_ += training
        if training and self.n_batches_ % every == 0:
            give_back()
            workers = sorted(child.pid or 0 for child in multiprocessing.active_children())
            names = ["main", *(f"worker {i + 1}" for i in range(len(workers)))]
            for name, pid in zip(names, [os.getpid(), *workers], strict=True):
                place = {"process": name, "epoch": len(net.history), "batch": self.n_batches_}
                self.samples_.append(place | memory_of(pid))


def memory_of(pid):
    """Return resident and private memory of a process, in MB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    private = found["Private_Clean"] + found["Private_Dirty"]
    return {"resident_mb": found["Rss"] / MB, "private_mb": private / MB}


def give_back():
    """Give back what Python and the C library hold free for later, which is no leak."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def holdings():
    """Return memory in MB, threads and open files of this process."""
    give_back()
    n_threads, n_files = (len(os.listdir(f"/proc/self/{name}")) for name in ("task", "fd"))
    return memory_of(os.getpid()) | {"threads": n_threads, "files": n_files}


def make_studies(folder, n_studies):
    """Return a table of studies with the numbers of views of MURA's training part."""
    rng = np.random.default_rng(0)
    pictures = []
    for _ in range(N_PICTURES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE), dtype=np.uint8)).save(file, "PNG")
        pictures.append(file.getvalue())
    n_views = np.array(list(VIEW_COUNTS["train"]), dtype=int)
    share = np.array(list(VIEW_COUNTS["train"].values()), dtype=float)
    views = []
    for i, n in enumerate(rng.choice(n_views, n_studies, p=share / share.sum())):
        own = folder / f"{i // 1000:04d}"
        if i % 1000 == 0:
            own.mkdir()
        views.append(tuple(f"{own}/{i:07d}_{k + 1}.png" for k in range(n)))
        for k, path in enumerate(views[-1]):
            # No two files alike: a view belongs to one patient. PNG ends before the name.
            Path(path).write_bytes(pictures[(i + k) % N_PICTURES] + path.encode())
    names = [f"train/XR_HAND/patient{i:07d}/study1" for i in range(n_studies)]
    table = {"study": names, "study_type": "XR_HAND", "patient": np.arange(n_studies)}
    return pd.DataFrame(table | {"views": views, "label": rng.integers(0, 2, n_studies)})


def classifier(**params):
    """Return a classifier that trains in almost no time."""
    settings: dict[str, Any] = {
        "module__backbone": one_layer,
        "module__weights": None,
        "module__augment": None,
        "verbose": 0,
    }
    settings |= {"dataset__image_size": SIZE, "precision": "float32", "random_state": 0}
    return MuraClassifier(**settings | params)


def over_epochs(studies, n_epochs, n_workers=2):
    """Return samples of the memory during one fit."""
    net = classifier(
        max_epochs=n_epochs,
        callbacks=[("gauge", Gauge())],
        iterator_train__num_workers=n_workers,
        iterator_train__persistent_workers=n_workers > 0,
    )
    net.fit(studies)
    return pd.DataFrame(dict(net.callbacks_)["gauge"].samples_)


def over_fits(studies, n_fits):
    """Return memory, threads and open files after each of many fits and predictions."""
    rows = []
    for number in range(1, n_fits + 1):
        classifier(max_epochs=1, iterator_train__num_workers=1).fit(studies).predict(studies)
        rows.append({"fit": number} | holdings())
    return pd.DataFrame(rows)


def growth(samples):
    """Return the growth of peak memory of each process, in MB per epoch, after the first epoch.

    This is private memory of the workers, but resident memory of the main process, whose pages
    count as shared while forked workers exist.
    """
    later = samples[samples["epoch"] > 1]
    used = later["private_mb"].where(later["process"] != "main", later["resident_mb"])
    tops = later.assign(used=used).pivot_table("used", "process", "epoch", aggfunc="max")
    return (tops.iloc[:, -1] - tops.iloc[:, 0]) / (tops.shape[1] - 1)


def draw(samples, fits, file):
    """Draw both into one figure."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")  # not managed by pyplot
    left, right = figure.subplots(1, 2)
    n_batches = samples["batch"].max() / samples["epoch"].max()
    for name, own in samples.groupby("process"):
        kind = "resident" if name == "main" else "private"
        used = own[f"{kind}_mb"]
        label = f"{name}, {kind}, from {used.iloc[0]:,.0f} MB"
        left.plot(own["batch"] / n_batches, used - used.iloc[0], label=label)
    left.set(xlabel="epochs", ylabel="MB above the first sample", ylim=(-100, 100))
    left.legend(fontsize="small")
    first = fits["private_mb"].iloc[0]
    more = f"MB of private memory, from {first:,.0f} MB"
    right.plot(fits["fit"], fits["private_mb"] - first, label=more)
    for name in ("threads", "files"):
        right.plot(fits["fit"], fits[name], label=f"open {name}" if name == "files" else name)
    right.set(xlabel="fits in one process", ylim=(-20, 20))
    right.legend(fontsize="small")
    figure.savefig(file, dpi=90)


def main(argv=None):
    """Measure, write two tables and a figure, print the growth; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-studies", type=int, default=100_000)
    parser.add_argument("--n-epochs", type=int, default=4)
    parser.add_argument("--n-fits", type=int, default=50)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
        studies = make_studies(Path(folder), args.n_studies)
        # First, since memory freed after many studies would hide growth.
        fits = over_fits(studies[:16], args.n_fits)
        start = time.perf_counter()
        samples = over_epochs(studies, args.n_epochs)
        seconds = time.perf_counter() - start
    args.out.mkdir(parents=True, exist_ok=True)
    samples.round(1).to_csv(args.out / "epochs.csv", index=False)
    fits.round(1).to_csv(args.out / "fits.csv", index=False)
    draw(samples, fits, args.out / "load.png")
    print(f"{args.n_epochs} epochs of {args.n_studies:,} studies: {seconds:.0f} s")
    print(growth(samples).round(2).rename("MB per epoch").to_string())
    print(fits.iloc[[min(9, len(fits) - 1), -1]].round(1).to_string(index=False))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
