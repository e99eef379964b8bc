"""Share the batches of an epoch, or of a prediction, among the processes of a job."""

from collections.abc import Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, field
from inspect import signature
from typing import Any

import numpy as np
import torch
from skorch.dataset import get_len, unpack_data
from skorch.history import History
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from mura_skorch.data.dataset import base_of
from mura_skorch.distributed import Processes
from mura_skorch.models.study_network import subsample_views
from mura_skorch.training.batch_losses import BatchLosses
from mura_skorch.training.device import threads_within_quota
from mura_skorch.training.errors import check_loss
from mura_skorch.training.random_state import FitRandomness
from mura_skorch.training.signals import deferred_signals, signals_as_exceptions

__all__ = ["Plan", "deal", "share_epoch", "share_prediction"]

STATISTICS = ("running_mean", "running_var")  # of batch norm
# Each process has statistics of its own views in an epoch. torch 2.14 has renamed the argument.
HAS_NEW_NAME = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
OWN_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if HAS_NEW_NAME else "broadcast_buffers": False
}
# Attributes of a net that its copies in other processes do without: rank 0 alone records and steps.
LEFT_OUT = ("optimizer_", "callbacks_", "history_", "quantized_", "choice_", "training_distance_")


@dataclass
class Plan:
    """Who computes what: what the other processes get in place of a loader.

    Attributes
    ----------
    dataset : Dataset
    rounds : list of list of list of int
        For each round and each rank, rows of the dataset. In training a round is one minibatch,
        dealt to the processes; else each process has a minibatch of its own, or none.
    seed : int
        Of the helpers' random numbers in this epoch.
    idle : set of (int, int)
        Rounds and ranks whose study has no weight, since there are fewer studies than processes.
    """

    dataset: Any
    rounds: list[list[list[int]]]
    seed: int = 0
    idle: set[tuple[int, int]] = field(default_factory=set)

    def __len__(self) -> int:
        """Return the number of rounds."""
        return len(self.rounds)


def deal(rows: Sequence[int], n_views: np.ndarray, size: int) -> list[list[int]]:
    """Deal the studies of a minibatch so that all processes get about as many views.

    Parameters
    ----------
    rows : sequence of int
        Studies of the minibatch.
    n_views : ndarray of shape (n_studies,)
        Number of views of each study of the dataset.
    size : int
        Number of processes.

    Returns
    -------
    list of list of int
        Rows of each process. The longest study is dealt first, to whoever has the fewest views.

    Examples
    --------
    >>> deal([0, 1, 2, 3], np.array([1, 5, 2, 3]), 2)
    [[1, 0], [3, 2]]
    """
    shares: list[list[int]] = [[] for _ in range(size)]
    load = np.zeros(size)
    for row in sorted(rows, key=lambda row: -n_views[row]):
        rank = int(load.argmin())
        shares[rank].append(row)
        load[rank] += n_views[row]
    return shares


def share_epoch(
    net: Any,
    processes: Processes,
    source: Any,
    *,
    training: bool,
    prefix: str,
    fit_params: dict[str, Any],
) -> None:
    """Compute the batches of an epoch together; rank 0's callbacks see them whole.

    Parameters
    ----------
    net : StudyNet
        In other processes than rank 0 a copy, without callbacks.
    processes : Processes
    source : DataLoader or Plan
        Rank 0's loader; a plan in the other processes.
    training : bool
    prefix : {"train", "valid"}
    fit_params : dict
        Arguments of the network besides a batch.
    """
    losses = BatchLosses(net.history, f"{prefix}_loss")
    try:
        if processes.rank:
            plan, order = source, None
        else:
            plan = (
                _training_plan(net, source, processes.size)
                if training
                else _plan(source, processes.size)
            )
            order = (_help_epoch, _parts_of(net), plan, training, prefix, fit_params)
        kind = _Training if training else _Evaluation
        with processes.lock:
            work = kind(net, processes, plan, losses, prefix, fit_params)
            _compute(work, order, training=training)
    finally:
        losses.finish()
    net.history.record(f"{prefix}_batch_count", work.n_batches)


def share_prediction(net: Any, processes: Processes, loader: Any) -> list[Any]:
    """Return what the network makes of each batch of a loader, computed by all processes.

    The batches are those of the loader, and equal to the bit to what one process computes.
    """
    plan = _plan(loader, processes.size)
    with processes.lock, signals_as_exceptions():
        work = _Prediction(net, processes, plan)
        _compute(work, (_help_prediction, _parts_of(net), plan))
    return work.outputs


def _help_epoch(parts, plan, training, prefix, fit_params, processes):
    """Compute a helper's share of an epoch."""
    net = _net_of(*parts)
    net.random_ = FitRandomness(plan.seed + processes.rank)
    net.history_ = History()
    net.history.new_epoch()
    net.run_single_epoch(plan, training=training, prefix=prefix, step_fn=None, **fit_params)


def _help_prediction(parts, plan, processes):
    """Compute a helper's share of a prediction."""
    net = _net_of(*parts)
    with threads_within_quota(net.arithmetic_.threads):
        _compute(_Prediction(net, processes, plan), None)


def _compute(work, order, *, training=False):
    """Do a work together with all processes, which rank 0 orders."""
    net, processes, plan = work.net, work.processes, work.plan
    own = [shares[processes.rank] for shares in plan.rounds]
    try:
        with deferred_signals(every=True):
            if order is not None:
                processes.tell(*order)
            loader, _ = _agreed(
                processes,
                lambda: iter(
                    net.get_iterator(plan.dataset, training, batches=[rows for rows in own if rows])
                ),
            )
            work.begin()
            processes.phase = "exchange"
        for number, rows in enumerate(own):
            with deferred_signals(every=True):
                # Twice, since `DistributedDataParallel` itself exchanges before it computes.
                batch, _ = _agreed(processes, lambda rows=rows: next(loader) if rows else None)
                parts, sizes = _agreed(
                    processes,
                    lambda number=number, batch=batch: (
                        () if batch is None else work.compute(number, batch)
                    ),
                    lambda parts: [len(part) for part in parts],
                )
                work.finish(number, _gathered(net, processes, parts, sizes))
        with deferred_signals(every=True):
            processes.exchange()
            work.end()
            processes.phase = "idle"
    except BaseException:
        with deferred_signals(every=True):
            processes.stop()
        raise
    finally:
        work.close()


def _agreed(processes, make, numbers_of=lambda made: ()):
    """Return what a function makes, and numbers of all processes; raise in all if one fails."""
    made, numbers, error = None, (), None
    try:
        made = make()
        numbers = numbers_of(made)
    except Exception as found:
        error = found
    return made, processes.exchange(numbers, error)


def _gathered(net, processes, parts, sizes):
    """Return the tensors that each process has computed in a round, in the order of ranks."""
    own = [part.detach().float().to(net.where_) for part in parts]
    flat = torch.cat([torch.zeros(0, device=net.where_), *own])
    values = processes.gather(flat, [sum(row) for row in sizes])
    return [part.split(row) for part, row in zip(values, sizes, strict=True)]


class _Prediction:
    """Predict, a batch of the loader at a time."""

    def __init__(self, net, processes, plan):
        self.net, self.processes, self.plan = net, processes, plan
        self.outputs = []

    def begin(self):
        """Do nothing."""

    def compute(self, number, batch):
        """Return the logits of studies and of views."""
        return self.net.evaluation_step(batch)

    def finish(self, number, found):
        """Keep what all have computed."""
        self.processes.phase = "exchange"
        for rows, parts in zip(self.plan.rounds[number], found, strict=True):
            if rows:
                self.outputs.append(parts[:2])

    def end(self):
        """Do nothing."""

    def close(self):
        """Do nothing."""


class _Evaluation:
    """Validate, a batch of the loader at a time."""

    def __init__(self, net, processes, plan, losses, prefix, fit_params):
        self.net, self.processes, self.plan = net, processes, plan
        self.losses, self.prefix, self.fit_params = losses, prefix, fit_params
        self.n_batches = 0

    def begin(self):
        """Do nothing."""

    def compute(self, number, batch):
        """Return loss, labels and logits of a batch."""
        step = self.net.validation_step(batch, **self.fit_params)
        return (step["loss"].reshape(1), unpack_data(batch)[1], *step["y_pred"])

    def finish(self, number, found):
        """Record the batches of a round in their order."""
        self.processes.phase = "exchange"
        for rows, parts in zip(self.plan.rounds[number], found, strict=True):
            if rows:
                (loss,), label, *logits = parts[:4]
                self._record(rows, loss, label, tuple(logits), training=False)

    def end(self):
        """Do nothing."""

    def close(self):
        """Do nothing."""

    def _record(self, rows, loss, label, logits, *, training):
        rows = torch.tensor(rows)
        batch = {"row": rows}, label.cpu()  # the views are in several processes
        self.net.notify("on_batch_begin", batch=batch, training=training)
        self.losses.record(loss, rows)
        self.net.history.record_batch(f"{self.prefix}_batch_size", len(label))
        self.net.notify("on_batch_end", batch=batch, training=training, loss=loss, y_pred=logits)
        self.n_batches += 1


class _Training(_Evaluation):
    """Train; rank 0 takes the steps, and the others copy its weights."""

    batch_norms: Sequence[tuple[nn.Module, str, nn.Module]] = ()

    def begin(self):
        """Find the parameters whose gradients are summed."""
        self.batch_norms = _batch_norms(self.net.module_) if self.processes.sync_batch_norm else []
        for parent, name, layer in self.batch_norms:
            setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(layer))
        step = _Step(self.net, self.fit_params)
        self.parameters = [p for p in step.parameters() if p.requires_grad]
        self.step = DistributedDataParallel(
            step,
            static_graph=True,  # which also allows tokens that some transformers never read
            gradient_as_bucket_view=True,
            **OWN_BUFFERS,
        )
        sizes = [sum(map(len, shares)) for shares in self.plan.rounds]
        self.sizes = [
            size - sum((number, rank) in self.plan.idle for rank in range(self.processes.size))
            for number, size in enumerate(sizes)
        ]

    def compute(self, number, batch):
        """Return loss, labels and logits of this process's studies, none of one without weight."""
        if number % self.net.accumulate == 0:
            self.step.zero_grad()
        self.net._set_training(True)
        X, y = unpack_data(batch)
        X = subsample_views(X, getattr(self.net.module_, "max_views", None), self.net.random_.steps)
        with self._summing(number):
            loss, *logits = self.step(X, y)
        if loss.device.type == "cpu":
            check_loss(loss.item(), X.get("row"))
        self.loss, self.n_studies = loss, get_len(y)
        if (number, self.processes.rank) in self.plan.idle:
            self.n_studies = 0
            return ()
        return (loss.reshape(1), y, *logits)

    def finish(self, number, found):
        """Sum the gradients over all processes; step after `accumulate` rounds or the last."""
        first = number - number % self.net.accumulate
        n_studies = sum(self.sizes[first : first + self.net.accumulate])
        # torch averages over the processes, whatever number of studies each has.
        share = self.n_studies * self.processes.size / n_studies
        with self.processes.computing(), self._summing(number):
            (self.loss * share).backward()  # what earlier rounds have summed is equal everywhere
        self.loss = None
        if self._is_last(number):
            if self.processes.rank == 0:
                self.net.notify(
                    "on_grad_computed",
                    named_parameters=self.net.get_all_learnable_params(),
                    batch=None,
                    training=True,
                )
                self.net._step_optimizer(None)
            self.processes.copy_from_first(self.parameters)
        self.processes.phase = "exchange"
        rows = [
            row
            for rank, shares in enumerate(self.plan.rounds[number])
            for row in shares
            if (number, rank) not in self.plan.idle
        ]
        label, *logits = (
            torch.cat([parts[k] for parts in found if len(parts[1])]) for k in range(1, 4)
        )
        loss = sum(parts[0][0] * len(parts[1]) for parts in found if len(parts[1])) / len(label)
        self._record(rows, loss, label, tuple(logits), training=True)

    def end(self):
        """Average the statistics that batch norm has run over each process's views."""
        state = self.net.module_.state_dict(keep_vars=True)
        self.processes.average(
            [value for name, value in state.items() if name.endswith(STATISTICS)]
        )

    def _is_last(self, number):
        """Return whether a step is taken after a round."""
        return (number + 1) % self.net.accumulate == 0 or number + 1 == len(self.plan)

    def _summing(self, number):
        """Return the context of a round: gradients are summed before a step.

        And in the first round, in which torch finds out which parameters are used.
        """
        return nullcontext() if number == 0 or self._is_last(number) else self.step.no_sync()

    def close(self):
        """Put the layers of batch norm back."""
        for parent, name, layer in self.batch_norms:
            setattr(parent, name, layer)


def _batch_norms(module):
    """Return each layer of batch norm, with the part that holds it and its name there."""
    return [
        (parent, name, layer)
        for parent in module.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm)  # torch has no public base class
    ]


class _Step(nn.Module):
    """Network and loss as one module, as `DistributedDataParallel` needs them."""

    def __init__(self, net, fit_params):
        super().__init__()
        self.net, self.fit_params = net, fit_params
        self.module, self.criterion = net.module_, net.criterion_

    def forward(self, X, y):
        """Return the loss of a batch, and the logits of its studies and views."""
        logits = self.net.infer(X, **self.fit_params)
        loss = self.net.get_loss(logits, y, X=X, training=True)
        return (loss, *(logit.detach() for logit in logits))


def _training_plan(net, loader, size):
    """Return who computes which studies of which minibatch, drawn as the loader draws them."""
    generator = loader.generator
    if generator is not None:
        torch.empty((), dtype=torch.int64).random_(generator=generator)  # the seed of its workers
    n_views = base_of(loader.dataset).studies["views"].map(len).to_numpy()
    rounds, idle = [], set()
    for number, batch in enumerate(_batches(loader)):
        shares = deal(batch, n_views, size)
        for rank, rows in enumerate(shares):
            if not rows:  # a process cannot leave out a sum of gradients
                idle.add((number, rank))
                rows.append(batch[0])
        rounds.append(shares)
    seed = int(torch.randint(2**62, (), generator=net.random_.steps))
    return Plan(loader.dataset, rounds, seed, idle)


def _plan(loader, size):
    """Return who computes which batch of a loader that keeps the order."""
    batches = _batches(loader)
    batches += [[]] * (-len(batches) % size)
    return Plan(loader.dataset, [batches[i : i + size] for i in range(0, len(batches), size)])


def _batches(loader):
    """Return the rows of each batch of a loader."""
    batches = getattr(loader, "batch_sampler", None)
    if not isinstance(loader, DataLoader) or batches is None:
        raise TypeError(
            "expected a torch DataLoader of minibatches, whose studies are dealt to the "
            f"processes, got {type(loader).__name__}; leave the loader out, or train in one "
            "process"
        )
    return [[int(row) for row in batch] for batch in batches]


def _parts_of(net):
    """Return a net as its class and attributes, without what records and steps.

    cloudpickle also sends classes of the program itself. skorch's own way of pickling does not.
    """
    state = {name: value for name, value in vars(net).items() if name not in LEFT_OUT}
    state |= {"callbacks": "disable", "callbacks_": [], "train_split": None}
    state |= {"checkpoint_path": None, "fine_tune_after": 0, "engine": "torch"}
    if torch.device(net.where_).type == "cuda":
        state["device"] = "cuda"  # the helper's own
        for name in ("module_", "criterion_"):
            state[name] = deepcopy(state[name]).cpu()
    return type(net), state


def _net_of(kind, state):
    """Return the net of its class and attributes, on this process's device."""
    net = kind.__new__(kind)
    vars(net).update(state)
    net.module_.to(net.where_)
    net.criterion_.to(net.where_)
    return net
