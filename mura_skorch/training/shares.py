"""Who computes what: the studies of each minibatch, dealt to the processes of a job."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from mura_skorch.data.dataset import base_of

__all__ = ["Plan", "batch_plan", "deal", "training_plan"]


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


def training_plan(loader: Any, size: int, generator: torch.Generator) -> Plan:
    """Return who computes which studies of which minibatch, drawn as the loader draws them.

    Parameters
    ----------
    loader : DataLoader
        Of minibatches of all processes together.
    size : int
        Number of processes.
    generator : torch.Generator
        The helpers' seed is drawn from it.

    Raises
    ------
    TypeError
        It is no DataLoader of minibatches.
    """
    if loader.generator is not None:  # of which torch draws the seed of its workers first
        torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
    n_views = base_of(loader.dataset).studies["views"].map(len).to_numpy()
    rounds, idle = [], set()
    for number, batch in enumerate(_batches(loader)):
        shares = deal(batch, n_views, size)
        for rank, rows in enumerate(shares):
            if not rows:  # a process cannot leave out a sum of gradients
                idle.add((number, rank))
                rows.append(batch[0])
        rounds.append(shares)
    seed = int(torch.randint(2**62, (), generator=generator))
    return Plan(loader.dataset, rounds, seed, idle)


def batch_plan(loader: Any, size: int) -> Plan:
    """Return who computes which batch of a loader that keeps the order.

    Parameters
    ----------
    loader : DataLoader
    size : int
        Number of processes.

    Raises
    ------
    TypeError
        It is no DataLoader of batches.
    """
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
