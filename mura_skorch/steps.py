"""Training steps: batches go in; losses, and a step of the optimizer for several, come out."""

from inspect import signature
from numbers import Integral
from typing import Any, Self

import torch
from skorch import NeuralNetBinaryClassifier
from skorch.dataset import unpack_data
from skorch.utils import to_tensor
from torch.utils.data import DataLoader

from mura_skorch.dataset import base_of, is_cached
from mura_skorch.faults import check_loss, explained_faults
from mura_skorch.hardware import (
    keep_compiled_kernels,
    loader_defaults,
    resolve_device,
    resolve_precision,
    threads_within_quota,
)
from mura_skorch.module import draw_views

__all__ = ["StudySteps"]


class StudySteps(NeuralNetBinaryClassifier):
    """How a net computes batches of studies: device, arithmetic, loading, loss, gradients.

    Its subclass has the parameters ``precision`` and ``accumulate``.
    """

    @property
    def device(self) -> str | torch.device:
        """Where the network runs, "auto" resolved."""
        return resolve_device(self.__dict__["device"])

    @device.setter
    def device(self, value: str | torch.device) -> None:
        self.__dict__["device"] = value

    @property
    def precision_(self) -> str:
        """Arithmetic of the network, "auto" resolved."""
        return resolve_precision(self.precision, self.device)

    def get_params(self, deep: bool = True, **kwargs: Any) -> dict[str, Any]:
        """Return the parameters as they were given."""
        return super().get_params(deep=deep, **kwargs) | {"device": self.__dict__["device"]}

    def initialize_module(self) -> Self:
        """Make the network, in the memory format that its arithmetic is fast in."""
        keep_compiled_kernels()
        super().initialize_module()
        if self.precision_ == "bfloat16":  # twice as fast in bfloat16, half as fast in float32
            self.module_.to(memory_format=torch.channels_last)
        return self

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the loader; the one for prediction keeps the order and draws nothing at random."""
        prefix = "iterator_train" if training else "iterator_valid"
        given = {"batch_size": self.batch_size, **self.get_params_for(prefix)}
        if given["batch_size"] == -1:
            given["batch_size"] = len(dataset)
        n_batches = -(-len(dataset) // given["batch_size"])
        suited = loader_defaults(self.device, n_batches, is_cached=is_cached(dataset))
        if not training and given.get("shuffle"):
            raise ValueError(
                "expected predictions in the order of the studies, got iterator_valid__shuffle="
                f"{given['shuffle']!r}; leave it out"
            )
        iterator = getattr(self, prefix)(dataset, **suited | given)
        if not training and isinstance(iterator, DataLoader):
            iterator.generator = torch.Generator()
        return iterator

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the optimizer's arguments, with its fused kernel where it has one."""
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        others = kwargs.get("foreach") or kwargs.get("differentiable")
        if "fused" in signature(self.optimizer).parameters and not others:
            kwargs.setdefault("fused", True)
        return args, kwargs

    def __setstate__(self, state):
        given = state["device"]
        super().__setstate__({**state, "device": resolve_device(given)})
        self.device = given

    def infer(self, x, **fit_params):
        """Run the network in the chosen arithmetic."""
        device_type = torch.device(self.device).type
        is_half = self.precision_ == "bfloat16"
        inputs = {name: value for name, value in x.items() if name != "row"}
        with torch.autocast(device_type, dtype=torch.bfloat16, enabled=is_half):
            return super().infer(inputs, **fit_params)

    def get_loss(self, y_pred, y_true, X, training=False):
        """Return the loss, which needs the batch's study types and mask."""
        y_true, study_type, view_mask = (
            to_tensor(value, device=self.device)
            for value in (y_true, X["study_type"], X["view_mask"])
        )
        return self.criterion_(y_pred, y_true, study_type, view_mask)

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run an epoch, knowing how many batches it has."""
        self.n_batches_left_ = 0 if iterator is None else len(iterator)
        self.n_batches_added_ = self.n_studies_added_ = 0
        if training and len(self.history) > 1:
            self.history[-2]["batches"] = []  # 3 MB an epoch of 100,000 studies

        def keys_of(rows):
            studies = base_of(iterator.dataset).studies.iloc[rows]
            return studies.get("study", studies.index)

        with explained_faults(self, keys_of), threads_within_quota():
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)

    def forward_iter(self, X, training=False, device="cpu"):
        """Yield what the network makes of each batch."""
        with explained_faults(self), threads_within_quota():
            yield from super().forward_iter(X, training=training, device=device)

    def validation_step(self, batch, **fit_params):
        """Compute a batch without gradients."""
        step = super().validation_step(batch, **fit_params)
        check_loss(step["loss"], batch[0])
        return step

    def train_step(self, batch, **fit_params):
        """Add a batch's gradients, and step after `accumulate` batches or the last of the epoch.

        Gradients are added with the weight of the batch's studies and divided by all of them, so
        that they are those of one large batch, whatever is left over at the end; batch norm still
        sees each batch alone.
        """
        if not isinstance(self.accumulate, Integral) or self.accumulate < 1:
            raise ValueError(
                f"expected accumulate to be 1, 2, ... batches, got {self.accumulate!r}"
            )
        if self.accumulate == 1:
            return super().train_step(batch, **fit_params)
        if self.n_studies_added_ == 0:
            self._zero_grad_optimizer()
        step = self.train_step_single(batch, **fit_params)
        self.n_studies_added_ += len(batch[1])
        self.n_batches_left_ -= 1
        self.n_batches_added_ += 1
        if self.n_batches_added_ == self.accumulate or self.n_batches_left_ == 0:
            for _, parameter in self.get_all_learnable_params():
                if parameter.grad is not None:
                    parameter.grad /= self.n_studies_added_
            self.notify(
                "on_grad_computed",
                named_parameters=self.get_all_learnable_params(),
                batch=batch,
                training=True,
            )
            self._step_optimizer(None)
            self.n_batches_added_ = self.n_studies_added_ = 0
        return step

    def train_step_single(self, batch, **fit_params):
        """Compute a batch and its gradients; of long studies, a random choice of views."""
        self._set_training(True)
        X, y = unpack_data(batch)
        X = draw_views(X, getattr(self.module_, "max_views", None))
        logits = self.infer(X, **fit_params)
        loss = self.get_loss(logits, y, X=X, training=True)
        (loss if self.accumulate == 1 else loss * len(y)).backward()
        check_loss(loss, X)  # before a step is made of it; a GPU has its gradients to compute
        # The scores that keep the logits need no graph.
        return {"loss": loss, "y_pred": tuple(logit.detach() for logit in logits)}
