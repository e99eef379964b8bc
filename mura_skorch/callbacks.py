"""Training callbacks: the end of an epoch goes in; scores, rates and the best weights come out."""

import json
import os
import re
import shutil
import sys
import tempfile
import time
import uuid
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    LRScheduler,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
)
from skorch.utils import Ansi
from torch.optim.lr_scheduler import ReduceLROnPlateau

from mura_skorch.dataset import studies_of
from mura_skorch.metrics import kappa_score
from mura_skorch.operating_point import is_rule
from mura_skorch.progress import in_notebook, progress_bar
from mura_skorch.saving import read_model, write_model
from mura_skorch.studies import is_exploded

__all__ = [
    "BestWeights",
    "CpuUtilisation",
    "EpochLine",
    "EpochLoss",
    "EpochTable",
    "LevelScoring",
    "OperatingPoint",
    "StudyScores",
    "ViewsPerSecond",
    "format_seconds",
    "has_stopped_early",
    "training_callbacks",
]


def training_callbacks() -> list[tuple[str, Callback]]:
    """Return a fresh list of the callbacks of a fit, in the order that works."""
    return [
        ("epoch_timer", EpochTimer()),
        ("train_loss", EpochLoss("train_loss", on_train=True)),
        ("valid_loss", EpochLoss("valid_loss")),
        (
            "train_acc",
            LevelScoring("accuracy", name="train_acc", on_train=True, lower_is_better=False),
        ),
        ("valid_acc", LevelScoring("accuracy", name="valid_acc", lower_is_better=False)),
        ("scores", StudyScores()),
        ("views_per_second", ViewsPerSecond()),
        ("plateau", LRScheduler(ReduceLROnPlateau, monitor=watched_loss, factor=0.1, patience=1)),
        ("best", BestWeights()),
        ("threshold", OperatingPoint()),
        ("progress", EpochProgress()),
        ("cpu_utilisation", CpuUtilisation()),
        ("print_log", EpochTable()),
    ]


def watched_loss(net):
    """Return the loss the plateau watches: validation's, or training's where there is no other."""
    row = net.history[-1]
    return row["valid_loss"] if "valid_loss" in row else row["train_loss"]


def has_stopped_early(net: Any) -> bool:
    """Return whether an `EarlyStopping` callback, and no Ctrl-C, ended the training."""
    return any(
        isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience
        for _, callback in net.callbacks_
    )


class EpochLoss(PassthroughScoring):
    """Record the mean loss of the epoch, and whether it is the best of the whole history."""

    def on_train_begin(self, net, **kwargs):
        """Take the best so far from the history, which a loaded model brings along."""
        losses = [row[self.name] for row in net.history if np.isfinite(row.get(self.name, np.nan))]
        self.best_score_ = min(losses, default=np.inf)

    def forget_best(self) -> None:
        """Begin anew: the losses to come are of other studies."""
        self.best_score_ = np.inf


class LevelScoring(EpochScoring):
    """Score an epoch as skorch does; scores of single views have names of their own.

    Where the rows are views, as `mura_skorch.studies.explode_views` makes them, ``train_acc`` is
    recorded as ``train_view_acc``, so that nobody takes it for the figure of whole studies.
    """

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Name the score after the level of what it is made of."""
        super().on_epoch_begin(net, dataset_train, dataset_valid, **kwargs)
        dataset = dataset_train if self.on_train else dataset_valid
        self.is_exploded_ = dataset is not None and is_exploded(studies_of(dataset))
        self.name_ = self._at_level(self._get_name())

    def _at_level(self, name):
        return re.sub("^(train_|valid_)?", r"\g<0>view_", name) if self.is_exploded_ else name


class StudyScores(LevelScoring):
    """Score the validation part from one set of study probabilities.

    Records ``valid_kappa``, the confusion counts ``valid_confusion/tp`` and so on,
    and, where the validation part has several study types, ``valid_kappa/<type>`` for each. Where
    its rows are single views the names are ``valid_view_kappa`` and so on.

    Parameters
    ----------
    name : str, default="valid_kappa"
        Name of the kappa in the history; ``<name>_best`` flags the best epoch.
    lower_is_better : bool, default=False
        Which kappa is best.
    use_caching : bool, default=True
        Score what the epoch has predicted already.
    """

    def __init__(
        self, name: str = "valid_kappa", lower_is_better: bool = False, use_caching: bool = True
    ) -> None:
        super().__init__(
            scoring=None, name=name, lower_is_better=lower_is_better, use_caching=use_caching
        )

    def _get_param_names(self):
        return ["name", "lower_is_better", "use_caching"]

    def _scoring(self, net, X_test, y_test):
        """Return every score by its name; exactly one prediction is made."""
        y_pred = net.predict(X_test).astype(int)
        y_true = np.asarray(y_test, dtype=int)
        scores = {
            self.name_: kappa_score(y_true, y_pred),
        }
        counts = confusion_matrix(y_true, y_pred, labels=[0, 1]).ravel()
        for name, count in zip(("tn", "fp", "fn", "tp"), counts.tolist(), strict=True):
            scores[self._at_level(f"valid_confusion/{name}")] = count
        study_type = studies_of(X_test)["study_type"].to_numpy()
        present = np.unique(study_type)
        for name in present if len(present) > 1 else []:
            own = study_type == name
            scores[f"{self.name_}/{str(name).replace('/', '_')}"] = kappa_score(
                y_true[own], y_pred[own]
            )
        return scores

    def _record_score(self, history, current_score):
        """Record the named scores; the best is the best kappa."""
        kappa = current_score.pop(self.name_)
        for name, score in current_score.items():
            history.record(name, score)
        super()._record_score(history, kappa)


class ViewsPerSecond(Callback):
    """Record how many views the epoch read, in training and validation, per second."""

    def on_train_begin(self, net, **kwargs):
        """Forget the last fit's parts."""
        self.n_views_ = None

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Count the views of the fit's parts once."""
        if self.n_views_ is None:
            parts = [part for part in (dataset_train, dataset_valid) if part is not None]
            self.n_views_ = sum(int(studies_of(part)["views"].map(len).sum()) for part in parts)

    def on_epoch_end(self, net, **kwargs):
        """Record the views per second of the epoch."""
        net.history.record("views_per_second", self.n_views_ / max(net.history[-1, "dur"], 1e-9))


class CpuUtilisation(Callback):
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

    def on_train_begin(self, net, **kwargs):
        """Report anew for each fit."""
        self.has_reported_ = False

    def on_epoch_begin(self, net, **kwargs):
        """Count from zero."""
        self.seconds_ = self.cpu_seconds_ = 0.0
        self.n_threads_ = 1

    def on_batch_begin(self, net, **kwargs):
        """Start the clocks, on as many threads as the quota leaves while batches are computed."""
        self.n_threads_ = torch.get_num_threads()
        self.started_ = time.monotonic(), time.process_time()

    def on_batch_end(self, net, **kwargs):
        """Stop the clocks."""
        began, cpu_began = self.started_
        self.seconds_ += time.monotonic() - began
        self.cpu_seconds_ += time.process_time() - cpu_began

    def on_epoch_end(self, net, **kwargs):
        """Print the line."""
        n_threads = self.n_threads_
        is_on_cpu = torch.device(net.device or "cpu").type == "cpu"
        if self.has_reported_ or not (net.verbose and is_on_cpu and n_threads > 1):
            return
        n_cores = self.cpu_seconds_ / max(self.seconds_, 1e-9)
        if self.seconds_ >= self.min_seconds and n_cores < self.lowest * n_threads:
            self.has_reported_ = True
            print(  # noqa: T201, printing is its job
                f"epoch {len(net.history)}: {n_threads} threads computed on {n_cores:.1f} cores. "
                "Other programs use the rest, and the threads wait for each other. End them, or "
                f"use fewer threads: OMP_NUM_THREADS={max(int(n_cores), 1)}",
                flush=True,
            )


class BestWeights(Checkpoint):
    """Save the model of each best epoch, and restore the best when the fit ends.

    Parameters
    ----------
    dirname : path, optional
        Where to keep the best model, in a fresh folder per fit that `MuraClassifier.load` takes.
        None means a temporary folder that is removed once the weights are back.
    monitor : str, default="valid_loss_best"
        Name of the history's flag that marks a best epoch.

    Notes
    -----
    skorch's own ``Checkpoint`` swallows errors while saving and, with a fixed folder, restores
    another fit's weights where this one saved none. Here both raise. The history is kept whole.
    Without validation data the callback is inactive.

    Attributes
    ----------
    folder_ : Path
        The fit's folder.
    """

    def __init__(
        self, dirname: str | os.PathLike[str] | None = None, monitor: str = "valid_loss_best"
    ) -> None:
        super().__init__(monitor=monitor, dirname=dirname, f_optimizer=None, load_best=True)

    def _get_param_names(self):
        return ["dirname", "monitor"]

    def initialize(self):
        """Make nothing: the folder is made when a fit begins."""
        self.has_saved_ = False
        return self

    def on_train_begin(self, net, **kwargs):
        """Make this fit's folder."""
        if self.dirname is None:
            self.folder_ = Path(tempfile.mkdtemp(prefix="fit-"))
        else:  # with the umask's mode, for others to read
            self.folder_ = Path(self.dirname) / f"fit-{uuid.uuid4().hex[:8]}"
            self.folder_.mkdir(parents=True)
        self.n_epochs_before_ = len(net.history)
        self.has_saved_ = False
        if any(self.monitor in row for row in net.history):
            self.save_model(net)  # an earlier call's best, in case this one finds no better

    def on_epoch_end(self, net, **kwargs):
        """Save where the epoch is the best so far."""
        if self.monitor in net.history[-1]:
            super().on_epoch_end(net, **kwargs)

    def forget_best(self) -> None:
        """Begin anew: weights are not better for a smaller loss on other studies."""
        self.has_saved_ = False

    def state_dict(self) -> dict[str, Any]:
        """Return the best weights so far, for the state of the fit."""
        if not self.has_saved_:
            return {}
        tensors, config = read_model(self.folder_)
        return {"tensors": tensors, "config": json.dumps(config)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the best weights of a state into this fit's folder."""
        self.has_saved_ = bool(state)
        if state:
            write_model(self.folder_, state["tensors"], json.loads(state["config"]))

    def save_model(self, net):
        """Save the model as `MuraClassifier.save` does."""
        net.write(self.folder_)
        self.has_saved_ = True

    def on_train_end(self, net, **kwargs):
        """Restore the best weights."""
        finished = [row for row in net.history[self.n_epochs_before_ :] if self.event_name in row]
        if self.has_saved_:
            net.load_weights(self.folder_)
        elif finished:
            raise RuntimeError(
                f"expected at least one epoch with a finite validation loss, got "
                f"{[row.get('valid_loss') for row in finished]}: there are no best weights to "
                "restore; lower lr, or set precision='float32'"
            )

    def take_back(self, net, error):
        """Restore the best weights so far after an error, which gets a note of it."""
        if self.has_saved_ and len(net.history) > self.n_epochs_before_:
            with suppress(OSError, ValueError):  # the error of the fit is the one to be told
                net.load_weights(self.folder_)
                net.initialize_optimizer()  # its averages may be of what went wrong
                error.add_note("The weights of the best epoch before are back.")

    def remove_temporary(self):
        """Remove the fit's folder, unless it was asked for."""
        if self.dirname is None and hasattr(self, "folder_"):
            shutil.rmtree(self.folder_, ignore_errors=True)


class OperatingPoint(Callback):
    """Choose the threshold by its rule on the validation part, once the best weights are back.

    Inactive where the threshold is a number. While it trains, a rule stands for 0.5, which the
    scores of the epochs are made with; so it does after the fit, with a warning, where the rule
    cannot be applied.
    """

    def on_train_begin(self, net, **kwargs):
        """Forget what was chosen for other weights."""
        self.dataset_valid_ = None
        net.reset_operating_point()
        if is_rule(net.threshold):
            net.chosen_thresholds_ = {net.threshold: 0.5}

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        """Remember the validation part."""
        self.dataset_valid_ = dataset_valid

    def on_train_end(self, net, **kwargs):
        """Choose the threshold."""
        dataset, self.dataset_valid_ = self.dataset_valid_, None
        has_validated = any("valid_loss" in row for row in net.history)
        if not is_rule(net.threshold) or dataset is None or not has_validated:
            return
        try:
            studies, y_score = studies_of(dataset), net.predict_proba(dataset)[:, 1]
            net.apply_rule(studies["label"], y_score, studies, in_fit=True)
        except ValueError as error:  # a training of a night does not end with nothing
            net.rule_failed_ = True
            warnings.warn(
                f"expected a validation part to choose the threshold by {net.threshold!r} on, got: "
                f"{error}. The threshold is 0.5; choose another with recalibrate",
                stacklevel=2,
            )
        for _, callback in net.callbacks_:
            if isinstance(callback, BestWeights) and callback.has_saved_:
                callback.save_model(net)


class EpochProgress(ProgressBar):
    """Show a bar of the epoch's batches in a terminal or notebook.

    Elsewhere an epoch of hours says how far it is, see `mura_skorch.progress`. Where the net's
    ``verbose`` is 0, nothing is shown.
    """

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Show the bar."""
        if net.verbose:
            total = self._get_batches_per_epoch(net, dataset_train, dataset_valid)
            desc = f"epoch {len(net.history)}"
            self.pbar_ = progress_bar(total, desc=desc, unit="batch", leave=False)

    def on_batch_end(self, net, **kwargs):
        """Move the bar."""
        if hasattr(self, "pbar_"):
            super().on_batch_end(net, **kwargs)

    def on_epoch_end(self, net, **kwargs):
        """Take the bar away."""
        if hasattr(self, "pbar_"):
            super().on_epoch_end(net, **kwargs)

    def on_train_end(self, net, **kwargs):
        """Take away what an interruption left."""
        if hasattr(self, "pbar_"):
            self.pbar_.close()
            del self.pbar_


class EpochLine(Callback):
    """Print one line per epoch, with the speed and the time left, for several fits at once.

    Where the net's ``verbose`` is 0, nothing is printed.

    Parameters
    ----------
    name : str, default=""
        Stands before each line.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name

    def on_epoch_end(self, net, **kwargs):
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
        print("  ".join(parts), flush=True)  # noqa: T201, printing is its job


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


class EpochTable(PrintLog):
    """Print a row per epoch, without the scores of single study types and single counts.

    The best figures are coloured in a terminal and a notebook; a pipe or a log file gets plain
    text.
    """

    def format_row(self, row, key, color):
        """Return a cell of the table."""
        text = super().format_row(row, key, color)
        if not isinstance(text, str) or in_notebook() or sys.stdout.isatty():
            return text
        return text.removeprefix(color).removesuffix(Ansi.ENDC.value)

    def _sorted_keys(self, keys):
        return super()._sorted_keys([key for key in keys if "/" not in key])
