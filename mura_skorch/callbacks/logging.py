"""Progress bar, one line per epoch, speed and use of the processor."""

import sys
import time
from typing import Any

import numpy as np
import torch
from skorch.callbacks import PrintLog, ProgressBar
from skorch.utils import Ansi

from mura_skorch.callbacks.base import StatelessCallback
from mura_skorch.data.dataset import studies_of
from mura_skorch.utils.dask_worker import print_line
from mura_skorch.utils.progress import in_notebook, progress_bar
from mura_skorch.utils.text import printable

__all__ = ["CpuUtilisation", "EpochLine", "EpochTable", "ViewsPerSecond", "format_seconds"]

MOST_NAMES = 2  # study types that a progress bar names
# Printed once above the epochs.
LEGEND = (
    "acc: share called right; kappa: agreement with labels beyond chance; cp +: best epoch so far; "
    "dur: seconds"
)
N_BEHIND = 20  # batches by which a GPU may be behind the program


class ViewsPerSecond(StatelessCallback):
    """Record how many views the epoch read, in training and validation, per second."""

    def on_train_begin(self, net: Any, data: Any = None, **kwargs: Any) -> None:
        """Count the views of the fit's parts."""
        parts = [part for part in (data.train, data.valid) if part is not None]
        self.n_views_ = sum(int(studies_of(part)["views"].map(len).sum()) for part in parts)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Record the views per second of the epoch."""
        net.history.record("views_per_second", self.n_views_ / max(net.history[-1, "dur"], 1e-9))


class CpuUtilisation(StatelessCallback):
    """Report once in a fit that threads wait for cores, which can make an epoch ten times slower.

    Each minibatch is timed from the moment it is loaded. Threads that have a core of their own use
    about as many seconds of CPU time as pass; on a busy machine they use fewer. Inactive on a GPU,
    with one thread, and where the net's ``verbose`` is 0.

    Parameters
    ----------
    lowest : float, default=0.6
        Share of the threads' time below which the line is printed, between 0 and 1.
    min_seconds : float, default=5
        Shorter epochs are not judged.
    """

    def __init__(self, lowest: float = 0.6, min_seconds: float = 5) -> None:
        self.lowest = lowest
        self.min_seconds = min_seconds

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Report anew for each fit."""
        self.has_reported_ = False

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Count from zero."""
        self.seconds_ = self.cpu_seconds_ = 0.0
        self.n_threads_ = 1

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        """Start the clocks, on as many threads as the quota leaves while batches are computed."""
        self.n_threads_ = torch.get_num_threads()
        self.started_ = time.monotonic(), time.process_time()

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        """Stop the clocks."""
        began, cpu_began = self.started_
        self.seconds_ += time.monotonic() - began
        self.cpu_seconds_ += time.process_time() - cpu_began

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the line."""
        n_threads = self.n_threads_
        is_on_cpu = torch.device(net.device or "cpu").type == "cpu"
        if self.has_reported_ or not (net.verbose and is_on_cpu and n_threads > 1):
            return
        n_cores = self.cpu_seconds_ / max(self.seconds_, 1e-9)
        if self.seconds_ >= self.min_seconds and n_cores < self.lowest * n_threads:
            self.has_reported_ = True
            print_line(
                f"epoch {len(net.history)}: {n_threads} threads computed on {n_cores:.1f} cores. "
                "Other programs use the rest, and the threads wait for each other. End them, or "
                f"use fewer threads: OMP_NUM_THREADS={max(int(n_cores), 1)}"
            )


class EpochProgress(StatelessCallback, ProgressBar):
    """Show a bar of the epoch's batches in a terminal or notebook.

    The bar names the fit by its study types. Elsewhere an epoch of hours says how far it is, see
    `mura_skorch.utils.progress`. Where the net's ``verbose`` is 0, nothing is shown.
    """

    def on_epoch_begin(
        self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
    ) -> None:
        """Show the bar."""
        if net.verbose:
            total = self._get_batches_per_epoch(net, dataset_train, dataset_valid)
            desc = f"{_fit_name(net)}, epoch {len(net.history)}"
            self.pbar_ = progress_bar(total, desc=desc, unit="batch", leave=False)

    def on_batch_end(self, net: Any, **kwargs: Any) -> None:
        """Move the bar, with the last losses that are known: a GPU may be some batches behind."""
        if not hasattr(self, "pbar_"):
            return
        batches = net.history[-1]["batches"][-N_BEHIND:]
        known = {
            key: row[key]
            for row in batches
            for key in self.postfix_keys
            if isinstance(row.get(key), float)
        }
        self.pbar_.set_postfix(known, refresh=False)
        self.pbar_.update()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Take the bar away."""
        if hasattr(self, "pbar_"):
            super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Take away what an interruption left."""
        if hasattr(self, "pbar_"):
            self.pbar_.close()
            del self.pbar_


def _fit_name(net):
    """Return the study types of a fit, or their number where they are many."""
    types = [printable(str(name)) for name in net.study_types_]
    return ", ".join(types) if len(types) <= MOST_NAMES else f"{len(types)} study types"


class EpochLine(StatelessCallback):
    """Print one line per epoch, with the speed and the time left, for several fits at once.

    A Dask worker prints on the screen of its client. Where the net's ``verbose`` is 0, nothing is
    printed.

    Parameters
    ----------
    name : str, default=""
        Stands before each line.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the line."""
        if not net.verbose:
            return
        row, seconds = net.history[-1], net.history[:, "dur"]
        left = np.mean(seconds) * (net.max_epochs - len(seconds))
        parts = [f"{self.name:<12} epoch {len(seconds):>2}/{net.max_epochs}"]
        for key in ("train_loss", "valid_loss", "valid_kappa", "valid_view_kappa"):
            if key in row:
                parts.append(f"{key} {row[key]:.3f}")
        parts.append(f"{row['views_per_second']:.0f} views/s")
        parts.append(f"{format_seconds(left)} left")
        print_line("  ".join(parts))


def format_seconds(seconds: float) -> str:
    """Return a duration as people say it.

    >>> format_seconds(42.3), format_seconds(135), format_seconds(7500)
    ('42 s', '2 min 15 s', '2 h 05 min')
    """
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


class EpochTable(StatelessCallback, PrintLog):
    """Print a row per epoch, without the scores of single study types and single counts.

    One line before the first row explains the columns. The best figures are coloured in a terminal
    and a notebook; a pipe or a log file gets plain text.
    """

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the row, and before the first one what the columns are."""
        if self.first_iteration_ and net.verbose:
            self.sink(LEGEND)
        super().on_epoch_end(net, **kwargs)

    def format_row(self, row: Any, key: str, color: Any) -> str:
        """Return a cell of the table."""
        text = super().format_row(row, key, color)
        if not isinstance(text, str) or in_notebook() or sys.stdout.isatty():
            return text
        return text.removeprefix(color).removesuffix(Ansi.ENDC.value)

    def _sorted_keys(self, keys):
        return super()._sorted_keys([key for key in keys if "/" not in key])
