"""Share the batches of an epoch, or of a prediction, among the processes of a job."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from skorch.history import History

from mura_skorch.distributed import Processes, current_processes
from mura_skorch.training.batch_losses import BatchLosses
from mura_skorch.training.device import (
    keep_compiled_kernels,
    keep_freed_memory,
    threads_within_quota,
)
from mura_skorch.training.random_state import FitRandomness
from mura_skorch.training.shared_work import Evaluation, Prediction, Training
from mura_skorch.training.shares import batch_plan, training_plan
from mura_skorch.utils.signals import deferred_signals, signals_as_exceptions

__all__ = ["lost_process_first", "share_epoch", "share_prediction"]

# Attributes of a net that its copies in other processes do without: rank 0 alone records and steps.
LEFT_OUT = ("optimizer_", "callbacks_", "history_", "quantized_", "choice_", "training_distance_")


@contextmanager
def lost_process_first() -> Iterator[None]:
    """Let a block that SIGTERM ends raise the error of a lost process, if that is the reason.

    torchrun sends SIGTERM to all other processes once it has lost one.

    Raises
    ------
    RuntimeError
        A process is gone.
    """
    try:
        yield
    except SystemExit:
        if (processes := current_processes()) is not None:
            with deferred_signals(every=True):
                processes.check()
        raise


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
            if training:
                plan = training_plan(source, processes.size, net.random_.steps)
            else:
                plan = batch_plan(source, processes.size)
            order = (_help_epoch, _parts_of(net), plan, training, prefix, fit_params)
        kind = Training if training else Evaluation
        with processes.lock:
            work = kind(net, processes, plan, losses, prefix, fit_params)
            _compute(work, order, training=training)
    finally:
        losses.finish()
    net.history.record(f"{prefix}_batch_count", work.n_batches)


def share_prediction(net: Any, processes: Processes, loader: Any) -> list[Any]:
    """Return what the network makes of each batch of a loader, computed by all processes.

    The batches are those of the loader, and equal to the bit to what one process computes.

    Parameters
    ----------
    net : StudyNet
        Fitted.
    processes : Processes
    loader : DataLoader
        It keeps the order.

    Returns
    -------
    list of tuple of Tensor
        Logits of studies and of views of each batch, float32.
    """
    plan = batch_plan(loader, processes.size)
    with processes.lock, signals_as_exceptions():
        work = Prediction(net, processes, plan)
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
        _compute(Prediction(net, processes, plan), None)


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
    keep_compiled_kernels()
    keep_freed_memory()
    net = kind.__new__(kind)
    vars(net).update(state)
    net.module_.to(net.where_)
    net.criterion_.to(net.where_)
    return net
