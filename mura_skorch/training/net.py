"""A skorch net for studies: device, precision, loaders, loss and accumulation of gradients."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import deepcopy
from fnmatch import fnmatch
from functools import partial
from inspect import signature
from secrets import randbits
from typing import Any, Self

import numpy as np
import torch
from skorch import NeuralNetBinaryClassifier
from skorch.dataset import get_len, unpack_data
from skorch.utils import to_device, to_tensor
from torch.utils.data import DataLoader

from mura_skorch.data.collate import StudyCollate
from mura_skorch.data.dataset import StudyDataset, base_of, is_cached
from mura_skorch.distributed import current_processes
from mura_skorch.inference.choice import Choice, current_choice
from mura_skorch.inference.engines import Engine, EngineSetting, PrecisionSetting, Quantized
from mura_skorch.models.pooling import mean_logits
from mura_skorch.models.study_network import subsample_views
from mura_skorch.training.arithmetic import Arithmetic, choose_arithmetic, is_of_this_machine
from mura_skorch.training.batch_losses import BatchLosses
from mura_skorch.training.device import (
    count_cores,
    keep_compiled_kernels,
    keep_freed_memory,
    loader_defaults,
    resolve_device,
    threads_within_quota,
    usable_threads,
)
from mura_skorch.training.errors import check_loss, explained_faults
from mura_skorch.training.random_state import FitRandomness, draws_randomly, give_generator
from mura_skorch.training.sharing import share_epoch, share_prediction
from mura_skorch.utils.arguments import (
    check_whole,
    find_optimizer,
    names_taken,
    short_repr,
    taken,
)
from mura_skorch.utils.signals import deferred_signals

__all__ = ["StudyNet", "check_loader_keeps_order"]

# Attributes of `Arithmetic` that a network may have, too.
FORMATS = ("training_format", "prediction_format")
# Arguments of a loader that say how minibatches are drawn.
DRAWING = ("batch_size", "shuffle", "sampler", "batch_sampler", "drop_last")


class StudyNet(NeuralNetBinaryClassifier):
    """A net that computes batches of studies.

    Parameters
    ----------
    module : class
        The network: it returns the logits of studies and of views.
    device : str, torch.device or None, default="auto"
        "auto" is "cuda" if a GPU is available and "cpu" otherwise. None leaves everything where it
        is.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Arithmetic of the network; "auto" is the faster one, see `MuraClassifier`.
    engine : {"torch", "auto", "onnxruntime", "openvino"}, default="torch"
        What predicts.
    accumulate : int, default=1
        Batches whose gradients are added before the optimizer steps.
    fine_tune_after : int, default=0
        Epochs in which only the last layer is trained.
    flip_average : bool, default=False
        Average each view's logit with that of its mirror image outside of training.
    random_state : int, RandomState or None, default=None
        Seed of initial weights, shuffling and augmentation. None draws a fresh seed.
    **kwargs
        All other parameters of `skorch.NeuralNetBinaryClassifier`.
    """

    def __init__(
        self,
        module: Callable[..., torch.nn.Module],
        *,
        device: str | torch.device | None = "auto",
        precision: PrecisionSetting = "auto",
        engine: EngineSetting = "torch",
        accumulate: int = 1,
        fine_tune_after: int = 0,
        flip_average: bool = False,
        random_state: int | np.random.RandomState | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(module, device=device, **kwargs)
        self.precision = precision
        self.engine = engine
        self.accumulate = accumulate
        self.fine_tune_after = fine_tune_after
        self.flip_average = flip_average
        self.random_state = random_state

    random_: FitRandomness
    quantized_: Quantized | None = None
    choice_: tuple[tuple[Any, ...], Choice] | None = None  # see `current_choice`
    arithmetic_: Arithmetic  # only `compute_with` replaces it

    @property
    def device(self) -> str | torch.device | None:
        """Where the network is brought to, "auto" resolved; None leaves it where it is."""
        return resolve_device(self.__dict__["device"])

    @device.setter
    def device(self, value: str | torch.device | None) -> None:
        self.__dict__["device"] = value

    @property
    def precision_(self) -> str:
        """Arithmetic of the network in torch, "auto" resolved."""
        return self.arithmetic_.precision

    @property
    def threads_(self) -> int:
        """Number of CPU threads that the network computes on."""
        return usable_threads(self.arithmetic_.threads)

    def compute_with(self, arithmetic: Arithmetic) -> None:
        """Let the network compute in another precision and other memory formats from now on."""
        self.arithmetic_ = arithmetic
        formats = {name: getattr(arithmetic, name) for name in FORMATS}
        for name, value in formats.items():
            if hasattr(self.module_, name):
                setattr(self.module_, name, value)
        is_last = set(formats.values()) == {"channels_last"}
        weights_format = torch.channels_last if is_last else torch.contiguous_format
        self.module_.to(memory_format=weights_format)

    @property
    def where_(self) -> str | torch.device:
        """Where the network computes: the device, or where its weights are if that is None."""
        if self.device is not None:
            return self.device
        weights = self.module_.parameters() if hasattr(self, "module_") else iter(())
        first = next(weights, None)
        return "cpu" if first is None else first.device

    def get_params(self, deep: bool = True, **kwargs: Any) -> dict[str, Any]:
        """Return the parameters as they were given."""
        return super().get_params(deep=deep, **kwargs) | {"device": self.__dict__["device"]}

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Return the arguments of a part, without defaults that its class does not take."""
        params = super().get_params_for(prefix)
        if prefix == "module" and "image_size" in (names_taken(self.module) or ()):
            params.setdefault("image_size", self.get_params_for("dataset").get("image_size"))
        return taken(self, prefix, params)

    def initialized_instance(self, instance_or_cls: Any, kwargs: dict[str, Any]) -> Any:
        """Return a part made of its class, or a copy of one that is given ready made."""
        if isinstance(instance_or_cls, torch.nn.Module) and not kwargs:
            return deepcopy(instance_or_cls)  # each fit starts where the user left it
        return super().initialized_instance(instance_or_cls, kwargs)

    def initialize_module(self) -> Self:
        """Make the network from the seed, in the arithmetic that suits the machine."""
        keep_compiled_kernels()
        keep_freed_memory()
        seed = self.random_state
        if isinstance(seed, np.random.RandomState):
            seed = seed.randint(2**31)
        self.random_ = FitRandomness(randbits(31) if seed is None else int(seed))
        with self.random_.forked(self.where_):  # layers initialize themselves from global numbers
            super().initialize_module()
        self.compute_with(choose_arithmetic(self.precision, self.where_))
        return self

    def get_iterator(
        self,
        dataset: Any,
        training: bool = False,
        batches: Sequence[Sequence[int]] | None = None,
    ) -> Any:
        """Return the loader; the one for prediction keeps the order and draws nothing at random.

        Parameters
        ----------
        dataset : Dataset
        training : bool, default=False
        batches : sequence of sequence of int, optional
            Rows of the minibatches, where they are drawn already.
        """
        prefix = "iterator_train" if training else "iterator_valid"
        given = {"batch_size": self.batch_size, **self.get_params_for(prefix)}
        if given["batch_size"] == -1:
            given["batch_size"] = len(dataset)
        check_whole("batch_size", given["batch_size"], 1, "studies")
        given["batch_size"] = int(given["batch_size"])  # torch takes no number of NumPy's
        if training and (processes := current_processes()) is not None:
            given["batch_size"] *= processes.size
        n_batches = -(-len(dataset) // given["batch_size"])
        suited: dict[str, Any] = loader_defaults(
            self.where_, n_batches, is_cached=is_cached(dataset)
        )
        if batches is not None:
            given = {name: value for name, value in given.items() if name not in DRAWING}
            given["batch_sampler"] = batches
        elif training:
            given = _with_sampler(given, len(dataset))
            if "generator" in (names_taken(self.iterator_train) or ()):
                suited["generator"] = self.random_.loader
        else:
            check_loader_keeps_order(given)
        iterator = getattr(self, prefix)(dataset, **suited | given)
        if (not training or batches is not None) and isinstance(iterator, DataLoader):
            iterator.generator = torch.Generator()
        if training and batches is None and len(dataset) and len(iterator) == 0:
            raise ValueError(
                f"expected at least one batch of the {len(dataset)} training studies, got none: "
                f"batch_size is {self.batch_size}; lower it, or leave iterator_train__drop_last out"
            )
        return iterator

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Any
    ) -> tuple[Any, dict[str, Any]]:
        """Return the optimizer's arguments, with its fused kernel where it has one."""
        named_parameters = list(named_parameters)
        _check_patterns(self.get_params_for(prefix), [name for name, _ in named_parameters])
        args, kwargs = super().get_params_for_optimizer(prefix, named_parameters)
        if isinstance(kwargs["lr"], np.generic):
            kwargs["lr"] = kwargs["lr"].item()
        others = kwargs.get("foreach") or kwargs.get("differentiable")
        if "fused" in signature(find_optimizer(self.optimizer)).parameters and not others:
            kwargs.setdefault("fused", True)
        return args, kwargs

    def initialize_optimizer(self, triggered_directly: bool | None = None) -> Self:
        """Make the optimizer of its class or its name in `torch.optim`."""
        args, kwargs = self.get_params_for_optimizer("optimizer", self.get_all_learnable_params())
        self.optimizer_ = find_optimizer(self.optimizer)(*args, **kwargs)
        return self

    def __setstate__(self, state):
        given = state["device"]
        super().__setstate__({**state, "device": resolve_device(given)})
        self.device = given
        if self.initialized_ and not is_of_this_machine(self.arithmetic_, self.where_):
            self.compute_with(choose_arithmetic(self.precision, self.where_))

    def infer(self, x, **fit_params):
        """Run the network in the chosen arithmetic; average over flips if that is asked for."""
        inputs = self._inputs_for(self.module_.forward, x)
        with self._arithmetic():
            output = super().infer(inputs, **fit_params)
            output = _checked_logits(self.module_, output)
            if not self.flip_average or self.module_.training:
                return output
            mirrored = super().infer({**inputs, "views": inputs["views"].flip(-1)}, **fit_params)
            mirrored = _checked_logits(self.module_, mirrored)
        pooling = getattr(self.module_, "pooling", None)
        return mean_logits(output, mirrored, inputs["view_mask"], pooling)

    def _inputs_for(self, compute, batch):
        """Return what a method of the network reads of a batch, on the net's device."""
        inputs = {name: value for name, value in batch.items() if name != "row"}
        if "view_index" in (names_taken(compute) or ()):
            # Found while the mask is on the CPU: the host would have to wait for a GPU.
            inputs["view_index"] = inputs["view_mask"].flatten().nonzero().squeeze(1)
        return _sent(inputs, self.device)

    def prediction_engine(self) -> Engine | None:
        """Return what predicts in the place of torch, or None.

        It is made at the first prediction, and again after the weights or parameters changed.

        Raises
        ------
        ImportError
            The library of `engine` is not installed.
        ValueError
            `engine` or ``precision="int8"`` cannot compute this network.
        """
        return current_choice(self, count_cores()).engine

    def describe_engine(self) -> str:
        """Return library and arithmetic of predictions, such as "openvino, bfloat16"."""
        return current_choice(self, count_cores()).name

    def _arithmetic(self):
        """Return the context in which the network computes."""
        return torch.autocast(
            torch.device(self.where_).type,
            dtype=torch.bfloat16,
            enabled=self.precision_ == "bfloat16",
        )

    def pass_through(self, method: str, X: Any, bar: Any = None) -> np.ndarray:
        """Return what a method of the network computes of every view, as in a prediction.

        With ``flip_average=True`` it is averaged over the views and their mirror images.

        Parameters
        ----------
        method : str
            Its name: it takes a batch's inputs, and returns one row per real view.
        X : DataFrame or dataset
            Studies.
        bar : tqdm, optional
            A progress bar, advanced by the number of views of each batch.

        Returns
        -------
        ndarray of shape (n_views, ...), float32
        """
        compute = getattr(deepcopy(self.module_).eval(), method)  # other threads use the network
        if (engine := self.prediction_engine()) is not None:
            compute = partial(compute, engine=engine)
        parts = []
        with explained_faults(self), threads_within_quota(self.arithmetic_.threads):
            for batch in self.get_iterator(self.get_dataset(X), training=False):
                inputs = self._inputs_for(compute, unpack_data(batch)[0])
                with torch.no_grad(), self._arithmetic():
                    output = compute(**inputs)
                    if self.flip_average:
                        mirrored = compute(**{**inputs, "views": inputs["views"].flip(-1)})
                        is_map = mirrored.ndim == 3
                        output = (output + (mirrored.flip(-1) if is_map else mirrored)) / 2
                # Some networks leave bfloat16 to their caller.
                parts.append(output.float().cpu().numpy())
                if bar is not None:
                    bar.update(len(output))
        return np.concatenate(parts)

    def get_loss(self, y_pred, y_true, X, training=False):
        """Return the loss; ours needs the batch's study types and mask, torch's does not."""
        if not hasattr(self.criterion_, "fit_weights"):
            return super().get_loss(y_pred[0], y_true, X=X, training=training)
        needed = {name: X[name] for name in ("study_type", "view_mask")}
        sent = _sent({"label": y_true, **needed}, self.device)
        return self.criterion_(y_pred, sent["label"], sent["study_type"], sent["view_mask"])

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call a hook of all callbacks; a finished epoch is recorded by all before a fit stops.

        `EarlyStopping` raises KeyboardInterrupt, after which skorch would leave out the callbacks
        behind it, and a signal may come at any moment. Both take effect after the last callback.
        """
        if method_name != "on_epoch_end":
            super().notify(method_name, **cb_kwargs)
            return
        stop = None
        with deferred_signals():
            self.on_epoch_end(self, **cb_kwargs)
            for _, callback in self.callbacks_:
                try:
                    callback.on_epoch_end(self, **cb_kwargs)
                except KeyboardInterrupt as error:
                    stop = error
        if stop is not None:
            raise stop

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Run an epoch, knowing how many batches it has."""
        self.n_batches_left_ = 0 if iterator is None else len(iterator)
        self.n_batches_added_ = self.n_studies_added_ = 0
        if training and len(self.history) > 1:
            self.history[-2]["batches"] = []  # 3 MB an epoch of 100,000 studies
        is_head_only = training and len(self.history) <= self.fine_tune_after

        def keys_of(rows):
            studies = base_of(iterator.dataset).studies.iloc[rows]
            return studies.get("study", studies.index)

        with (
            explained_faults(self, keys_of),
            threads_within_quota(self.arithmetic_.threads),
            self._randomness(training),
            self._frozen_backbone() if is_head_only else nullcontext(),
        ):
            self._run_batches(iterator, training, prefix, step_fn, **fit_params)

    def _run_batches(self, iterator, training, prefix, step_fn, **fit_params):
        """Compute the batches of an epoch, as skorch does, which waits for the GPU after each."""
        if iterator is None:
            return
        if (processes := current_processes()) is not None:
            share_epoch(
                self,
                processes,
                iterator,
                training=training,
                prefix=prefix,
                fit_params=fit_params,
            )
            return
        losses, n_batches = BatchLosses(self.history, f"{prefix}_loss"), 0
        try:
            for batch in iterator:
                self.notify("on_batch_begin", batch=batch, training=training)
                step = step_fn(batch, **fit_params)
                losses.record(step["loss"], batch[0].get("row"))
                self.history.record_batch(f"{prefix}_batch_size", get_len(batch[0]))
                self.notify("on_batch_end", batch=batch, training=training, **step)
                n_batches += 1
        finally:
            losses.finish()
        self.history.record(f"{prefix}_batch_count", n_batches)

    @contextmanager
    def _frozen_backbone(self) -> Iterator[None]:
        """Train only the head in a block; afterwards the module's own `freeze` holds again."""
        self.module_.freeze("backbone")
        try:
            yield
        finally:
            self.module_.freeze(self.get_params_for("module").get("freeze"))

    def _randomness(self, training: bool) -> AbstractContextManager[None]:
        """Return the context for the random numbers of an epoch.

        Torch's global state is replaced for the training steps of a network that draws from it, or
        if the user's own dataset, collate function or sampler may.
        """
        if not training:
            return nullcontext()
        give_generator(self.module_, self.random_.steps)
        given = self.get_params_for("iterator_train")
        is_own_loading = (
            self.dataset is StudyDataset
            and self.iterator_train is DataLoader
            and type(given.get("collate_fn")) is StudyCollate
            and given.get("sampler") is None
            and given.get("batch_sampler") is None
        )
        is_drawing = draws_randomly(self.module_) or draws_randomly(self.criterion_)
        if is_own_loading and not is_drawing:
            return nullcontext()
        return self.random_.forked(self.where_)

    def forward_iter(self, X, training=False, device="cpu"):
        """Yield what the network makes of each batch, after all are computed.

        Torch reports a killed worker by an error wherever the program is at that moment: it must
        not be in the code of whoever reads this.
        """
        step = partial(self.evaluation_step, training=training)
        processes = None if training else current_processes()
        if not training and (engine := self.prediction_engine()) is not None:
            step, processes = partial(self._step_by, engine), None
        with explained_faults(self), threads_within_quota(self.arithmetic_.threads):
            # They stay where they are for now: a copy after each batch would wait for a GPU.
            iterator = self.get_iterator(self.get_dataset(X), training=training)
            if processes is None or len(iterator) == 1:
                outputs = [step(batch) for batch in iterator]
            else:
                outputs = share_prediction(self, processes, iterator)
            outputs = [to_device(output, device) for output in outputs]
        yield from outputs

    def _step_by(self, engine, batch):
        """Return the logits that an engine computes of a batch, as `evaluation_step` does."""
        self.check_is_fitted()
        inputs, _ = unpack_data(batch)
        with torch.no_grad():
            self._set_training(False)
            return self.infer(inputs, engine=engine)

    def train_step(self, batch, **fit_params):
        """Add a batch's gradients, and step after `accumulate` batches or the last of the epoch.

        Each batch's gradients are multiplied by its number of studies; their sum is divided by the
        number of studies of all added batches. The step is therefore that of one large batch,
        also for the remainder of an epoch. Batch norm still sees each batch alone.
        """
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
        X = subsample_views(X, getattr(self.module_, "max_views", None), self.random_.steps)
        logits = self.infer(X, **fit_params)
        loss = self.get_loss(logits, y, X=X, training=True)
        (loss if self.accumulate == 1 else loss * len(y)).backward()
        if loss.device.type == "cpu":  # before a step is made of it; of a GPU `BatchLosses` looks
            check_loss(loss.item(), X.get("row"))
        # The scores that keep the logits need no graph.
        return {"loss": loss, "y_pred": tuple(logit.detach() for logit in logits)}


def _sent(inputs, device):
    """Return a batch's tensors on a device; copies to a GPU are not waited for."""
    if device is None or torch.device(device).type != "cuda":
        return to_tensor(inputs, device=device)
    inputs = to_tensor(inputs, device=None)
    return {
        name: (value if value.is_cuda else value.pin_memory()).to(device, non_blocking=True)
        for name, value in inputs.items()
    }


def check_loader_keeps_order(given: dict[str, Any]) -> None:
    """Raise ValueError where a loader would give predictions in another order, or lose some.

    Parameters
    ----------
    given : dict
        Arguments of the loader of validation and prediction.
    """
    for name in ("shuffle", "sampler", "batch_sampler", "drop_last"):
        if given.get(name):
            raise ValueError(
                "expected predictions in the order of the studies, every one, got "
                f"iterator_valid__{name}={short_repr(given[name])}; leave it out"
            )


def _check_patterns(given, names):
    """Raise ValueError where a group of parameters has none; skorch would leave it out."""
    for pattern, _ in given.get("param_groups", ()):
        if not any(fnmatch(name, pattern) for name in names):
            begins = dict.fromkeys(f"{name.partition('.')[0]}.*" for name in names)
            raise ValueError(
                "expected optimizer__param_groups with patterns of parameters' names, such as "
                f"{', '.join(map(repr, list(begins)[:3]))}, got {short_repr(pattern)}, which "
                "matches none; correct it"
            )


def _checked_logits(module, logits):
    """Return the logits of studies and of views in float32, whatever a network's own code does."""
    parts = list(logits) if isinstance(logits, tuple | list) else [logits]
    shapes = [tuple(part.shape) if torch.is_tensor(part) else None for part in parts]
    if len(parts) != 2 or any(shape is not None and len(shape) != 1 for shape in shapes):
        raise ValueError(
            f"expected forward of {type(module).__name__} to return a pair, the logits of the "
            "studies, of shape (n_studies,), and of the views, of shape (n_views,), got shapes "
            f"{', '.join(map(str, shapes))}; see docs/how_to/change_a_part.md"
        )
    return tuple(part.float() if torch.is_tensor(part) else part for part in parts)


def _with_sampler(given, n_studies):
    """Return a training loader's arguments, in which a sampler takes the place of shuffling."""
    replaced = []
    if given.get("sampler") is not None:
        replaced = ["shuffle"]
        _check_sampler(given["sampler"], n_studies)
    if given.get("batch_sampler") is not None:
        replaced = ["shuffle", "batch_size"]
        _check_sampler(getattr(given["batch_sampler"], "sampler", None), n_studies)
    return {name: value for name, value in given.items() if name not in replaced}


def _check_sampler(sampler, n_studies):
    """Raise ValueError where a sampler of torch's draws from another number of studies."""
    drawn = getattr(sampler, "weights", getattr(sampler, "data_source", None))
    if drawn is not None and len(drawn) != n_studies:
        raise ValueError(
            f"expected iterator_train__sampler to draw from the {n_studies} studies of the "
            f"training part, got one of {len(drawn)}; with train_split=ValidStudies(table), or "
            "None, all that fit is given is trained on"
        )
