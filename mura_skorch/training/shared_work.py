"""What processes compute together: predictions, the validation and the training of an epoch."""

from collections.abc import Sequence
from contextlib import nullcontext
from inspect import signature
from typing import Any

import torch
from skorch.dataset import get_len, unpack_data
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mura_skorch.models.study_network import subsample_views
from mura_skorch.training.errors import check_loss

__all__ = ["Evaluation", "Prediction", "Training"]

STATISTICS = ("running_mean", "running_var")  # of batch norm
# Each process has statistics of its own views in an epoch. torch 2.14 has renamed the argument.
HAS_NEW_NAME = "forward_sync_buffers" in signature(DistributedDataParallel).parameters
OWN_BUFFERS: dict[str, Any] = {
    "forward_sync_buffers" if HAS_NEW_NAME else "broadcast_buffers": False
}


class _Work:
    """What is done in rounds, of which each process computes its share.

    Parameters
    ----------
    net : StudyNet
    processes : Processes
    plan : Plan
    """

    def __init__(self, net, processes, plan):
        self.net, self.processes, self.plan = net, processes, plan

    def begin(self):
        """Prepare for the first round."""

    def end(self):
        """Do what is left after the last round, together with the others."""

    def close(self):
        """Leave the net as it was, also after an error."""


class Prediction(_Work):
    """Predict, a batch of the loader at a time."""

    def begin(self):
        """Forget earlier outputs."""
        self.outputs = []

    def compute(self, number, batch):
        """Return the logits of studies and of views."""
        return self.net.evaluation_step(batch)

    def finish(self, number, found):
        """Keep what all have computed."""
        self.processes.phase = "exchange"
        for rows, parts in zip(self.plan.rounds[number], found, strict=True):
            if rows:
                self.outputs.append(parts[:2])


class Evaluation(_Work):
    """Validate, a batch of the loader at a time.

    Parameters
    ----------
    net : StudyNet
    processes : Processes
    plan : Plan
    losses : BatchLosses
        Of the epoch.
    prefix : {"train", "valid"}
    fit_params : dict
        Arguments of the network besides a batch.
    """

    def __init__(self, net, processes, plan, losses, prefix, fit_params):
        super().__init__(net, processes, plan)
        self.losses, self.prefix, self.fit_params = losses, prefix, fit_params
        self.n_batches = 0

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

    def _record(self, rows, loss, label, logits, *, training):
        rows = torch.tensor(rows)
        batch = {"row": rows}, label.cpu()  # the views are in several processes
        self.net.notify("on_batch_begin", batch=batch, training=training)
        self.losses.record(loss, rows)
        self.net.history.record_batch(f"{self.prefix}_batch_size", len(label))
        self.net.notify("on_batch_end", batch=batch, training=training, loss=loss, y_pred=logits)
        self.n_batches += 1


class Training(Evaluation):
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
