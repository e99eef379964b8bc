"""Random numbers of a fit: generators of its own, and torch's global state if a part needs it."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import torch
from torch import nn

__all__ = ["FitRandomness", "draws_randomly", "give_generator"]

# Layers that always draw in training, and what layers of torch, torchvision and timm call the
# probability with which they drop something.
RANDOM_LAYERS = (nn.RReLU, nn.FractionalMaxPool2d, nn.FractionalMaxPool3d)
RATES = ("p", "dropout", "dropout_p", "attention_dropout", "drop_rate", "drop_prob")

# Torch's global random state belongs to the process. One lock per process: a forked child must not
# wait for a thread that only its parent has.
_locks: dict[int, Any] = {}


class FitRandomness:
    """Random numbers of one fit, all from one seed.

    Parameters
    ----------
    seed : int
        From 0 to 2**63 - 1.

    Attributes
    ----------
    loader : torch.Generator
        Order of the studies, and the seeds of loader workers.
    steps : torch.Generator
        Augmentation and `subsample_views`. Loader workers fetch batches ahead, so that one
        generator for both would make the result depend on their number.

    Examples
    --------
    >>> randomness = FitRandomness(0)
    >>> with randomness.forked("cpu"):
    ...     first = torch.rand(1)
    >>> with FitRandomness(0).forked("cpu"):
    ...     print(torch.equal(torch.rand(1), first))
    True
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        loader, steps = np.random.SeedSequence(seed).generate_state(2, np.uint64).tolist()
        self.loader = torch.Generator().manual_seed(loader)
        self.steps = torch.Generator().manual_seed(steps)
        self._global = {"cpu": torch.Generator().manual_seed(seed).get_state()}

    @contextmanager
    def forked(self, device: str | torch.device) -> Iterator[None]:
        """Run a block with this fit's numbers as torch's global random state.

        The global state is restored afterwards. Only one thread of a process can be in such a
        block; others wait.

        Parameters
        ----------
        device : str or torch.device
            Its global state is replaced as well, if it is a GPU.
        """
        device = torch.device(device)
        gpus = [device] if device.type == "cuda" else []
        lock = _locks.setdefault(os.getpid(), threading.RLock())
        with lock, torch.random.fork_rng(devices=gpus):
            torch.set_rng_state(self._global["cpu"])
            if gpus and "cuda" not in self._global:
                start = torch.Generator(device).manual_seed(self.seed)
                self._global["cuda"] = start.get_state()
            for gpu in gpus:
                torch.cuda.set_rng_state(self._global["cuda"], gpu)
            yield
            self._global["cpu"] = torch.get_rng_state()
            for gpu in gpus:
                self._global["cuda"] = torch.cuda.get_rng_state(gpu)

    def state_dict(self) -> dict[str, Any]:
        """Return what `load_state_dict` needs to continue here."""
        return {
            "seed": self.seed,
            "loader": self.loader.get_state(),
            "steps": self.steps.get_state(),
            "global": dict(self._global),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where another fit's numbers were."""
        self.seed = state["seed"]
        self.loader.set_state(state["loader"])
        self.steps.set_state(state["steps"])
        self._global = dict(state["global"])


def draws_randomly(module: Any) -> bool:
    """Return whether a network or loss draws from torch's global random state in training.

    Parameters
    ----------
    module : Module
        Dropout and stochastic depth are found by their layers' probabilities. A module that draws
        in another way says so by an attribute ``draws_randomly = True``.

    Examples
    --------
    >>> draws_randomly(nn.Dropout(0.5)), draws_randomly(nn.Dropout(0.0))
    (True, False)
    """
    if not isinstance(module, nn.Module):
        return False
    for part in module.modules():
        if isinstance(part, RANDOM_LAYERS) or getattr(part, "draws_randomly", False):
            return True
        rates = [vars(part).get(name) for name in RATES]
        if any(isinstance(rate, int | float) and rate > 0 for rate in rates):
            return True
    augment = getattr(module, "augment", None)
    return augment is not None and not _takes_generator(augment)


def give_generator(module: Any, generator: torch.Generator) -> None:
    """Let the augmentation of a network draw from a generator, if it takes one."""
    augment = getattr(module, "augment", None)
    if isinstance(augment, partial) and "generator" in augment.keywords:
        augment = augment.func  # of an earlier call
    if augment is not None and _takes_generator(augment):
        module.augment = partial(augment, generator=generator)


def _takes_generator(augment):
    try:
        return "generator" in signature(augment).parameters
    except (TypeError, ValueError):  # not written in Python
        return False
