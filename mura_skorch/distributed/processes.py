"""The processes of one job, of which rank 0 runs the program and the others help it."""

import logging
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
import torch
import torch.distributed as dist

from mura_skorch.utils.signals import ignore_sigterm

__all__ = ["Processes", "StoppedError", "count_processes", "current_processes", "use_processes"]

_log = logging.getLogger(__name__)

TIMEOUT_VARIABLE = "MURA_SKORCH_PROCESS_TIMEOUT"
TIMEOUT = 300  # seconds that the processes wait for one of them within an epoch
FOREVER = timedelta(days=30)  # helpers wait while the program reads, records and reports
FINE, FAILED, STOPPED = range(3)


class StoppedError(Exception):
    """Rank 0 ends the work before all of it is done."""


class Processes:
    """All processes of a job, as torchrun has started them.

    Parameters
    ----------
    sync_batch_norm : bool, default=False
        Whether batch norm in training takes the views of all processes together. On GPUs only.

    Attributes
    ----------
    rank : int
        Number of this process. 0 runs the program.
    size : int
        Number of processes.
    is_whole : bool
        False once a process was lost: nothing can be computed together any more.
    phase : {"idle", "exchange", "busy"}
        What the processes do next: helpers wait for an order; all agree by `exchange`, where rank 0
        can also end the work; or all compute together.

    Raises
    ------
    ValueError
        The timeout in the environment is not a number of seconds, or batch norm is to be
        synchronized without GPUs.
    """

    def __init__(self, *, sync_batch_norm: bool = False) -> None:
        self.sync_batch_norm = sync_batch_norm
        timeout = timedelta(seconds=_seconds())
        has_gpu = torch.cuda.is_available()
        if sync_batch_norm and not has_gpu:
            raise ValueError(
                "expected GPUs with --sync-batch-norm, which torch computes there alone, got none; "
                "leave it out"
            )
        if has_gpu:
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        store, self.rank, self.size = next(iter(dist.rendezvous("env://", timeout=timeout)))
        # torchrun keeps its store when it starts all processes again. Without another prefix they
        # would find the addresses of the earlier ones.
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if has_gpu else "gloo",
            store=dist.PrefixStore(f"mura_skorch/{attempt}", store),
            rank=self.rank,
            world_size=self.size,
            timeout=timeout,
        )
        # All are there before they make a group whose members may be waited for that long.
        dist.all_reduce(torch.zeros(1))
        self._idle: Any = dist.new_group(backend="gloo", timeout=FOREVER)
        self._pid = os.getpid()
        self.lock = threading.RLock()  # threads of the program share the processes
        self.is_whole = True
        self._is_announced = False
        self.phase = "idle"

    @property
    def are_ours(self) -> bool:
        """Whether this is the process that joined the others, not a child of it."""
        return os.getpid() == self._pid

    def tell(self, *order: Any) -> None:
        """Send an order to the helpers, with where Python finds modules.

        Raises
        ------
        TypeError
            A part of it cannot be pickled.
        RuntimeError
            A process is gone.
        """
        try:
            content = cloudpickle.dumps(order)
        except Exception as error:
            raise TypeError(
                f"expected parts that can be sent to the other {self.size - 1} processes, got one "
                f"that cannot be pickled: {error}; define its class in a module"
            ) from error
        self.stop()  # where a signal has kept an earlier work from it
        self._broadcast([sys.path, content])
        self.phase = "exchange"

    def hear(self) -> tuple[Any, ...]:
        """Return the next order of rank 0."""
        found: list[Any] = [None, None]
        self._broadcast(found)
        sys.path[:], content = found
        self.phase = "exchange"
        return cloudpickle.loads(content)

    def _broadcast(self, items):
        """Send objects of rank 0 to all others, who may have waited long."""
        self._announce()
        with self.computing():
            # This would block if one is frozen, and so has the short timeout.
            dist.broadcast_object_list(items, src=0)
        self._is_announced = False

    def _announce(self):
        """Wake the helpers for an order, by a message that fits into any buffer."""
        self._check_whole()
        if not self._is_announced:
            with self.computing():
                dist.broadcast(torch.zeros(1), src=0, group=self._idle)
        self._is_announced = True

    def exchange(
        self, numbers: Sequence[int] = (), error: BaseException | None = None
    ) -> list[list[int]]:
        """Return the numbers of every process, in the order of ranks; agree that all go on.

        Parameters
        ----------
        numbers : sequence of at most 4 int
            Of this process.
        error : exception, optional
            What keeps this process from going on.

        Returns
        -------
        list of list of int
            One list of 4 for each process, filled up with zeros.

        Raises
        ------
        BaseException
            The error of the first process that has one. The others' errors name its rank.
        StoppedError
            Rank 0 ends the work.
        """
        own = torch.zeros(5, dtype=torch.int64)
        own[: len(numbers) + 1] = torch.tensor([FINE if error is None else FAILED, *numbers])
        table = self._gather(own)
        self.phase = "idle"
        status = [row[0] for row in table]
        if STOPPED in status:
            raise StoppedError
        if FAILED in status:
            self._raise_first(error)
        self.phase = "busy"
        return [row[1:] for row in table]

    def stop(self) -> None:
        """End the work of all, where this process cannot go on.

        If it is rank 0 and the others wait to agree, they are told. If they wait for something
        that will not come, the processes are lost.
        """
        if self.phase == "exchange" and self.rank == 0 and self.is_whole:
            self._gather(torch.tensor([STOPPED, 0, 0, 0, 0]))
        elif self.phase == "busy":
            self.is_whole = False
        if self.rank == 0:
            self.phase = "idle"

    def check(self) -> None:
        """Look for lost helpers, after which nothing can be computed together any more.

        Raises
        ------
        RuntimeError
            A process is gone.
        """
        if self.phase == "idle" and self.rank == 0:
            self._announce()

    def _gather(self, own):
        self._check_whole()
        found = [torch.empty_like(own) for _ in range(self.size)]
        with self.computing():
            dist.all_gather(found, own)
        return torch.stack(found).tolist()

    def _raise_first(self, error):
        errors: list[Any] = [None] * self.size
        with self.computing():
            dist.all_gather_object(errors, None if error is None else _packed(error))
        rank, content = next((r, content) for r, content in enumerate(errors) if content)
        if rank == self.rank:
            raise error
        found = cloudpickle.loads(content)
        found.add_note(f"It was raised in process {rank} of {self.size}, counted from 0.")
        raise found

    def gather(self, values: torch.Tensor, lengths: Sequence[int]) -> list[torch.Tensor]:
        """Return the values of every process.

        Parameters
        ----------
        values : Tensor of shape (n,), float32
            On this process's device.
        lengths : sequence of int
            Number of values of each process, in the order of ranks.
        """
        padded = values.new_zeros(max(lengths))
        padded[: len(values)] = values
        found = [torch.empty_like(padded) for _ in lengths]
        with self.computing():
            dist.all_gather(found, padded)
        return [part[:length] for part, length in zip(found, lengths, strict=True)]

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Average tensors over all processes, in place."""
        for flat, parts in _flattened(tensors):
            with self.computing():
                dist.all_reduce(flat)
            _fill(parts, flat / self.size)

    def copy_from_first(self, tensors: Sequence[torch.Tensor]) -> None:
        """Copy rank 0's tensors to all processes, in place."""
        for flat, parts in _flattened(tensors):
            with self.computing():
                dist.broadcast(flat, src=0)
            if self.rank:
                _fill(parts, flat)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Run a block in which all processes compute together: after an error in it none can.

        Raises
        ------
        RuntimeError
            A process is gone or does not answer.
        """
        try:
            yield
        except BaseException as error:
            self.is_whole = False
            if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
                lost = self._lost(error)
                if self.rank == 0:
                    _log.error("%s", lost)
                    # torchrun sends it now, and SIGKILL 30 seconds later: enough time to record
                    # that a process was lost, and not that this one was stopped.
                    ignore_sigterm()
                raise lost from error
            raise

    def _lost(self, error):
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        reason = line.split("] ", 1)[-1].partition(". This is")[0][:200]  # without a file of gloo
        return RuntimeError(
            f"expected all {self.size} processes to go on, got one that is gone or does not "
            f"answer: {reason}; start the same program again: with checkpoint_path it goes on "
            f"after the last epoch. {TIMEOUT_VARIABLE} is the number of seconds to wait for one"
        )

    def _check_whole(self):
        if not self.is_whole:
            raise RuntimeError(
                f"expected {self.size} processes, got fewer: one was lost before; start the "
                "program again"
            )


_processes: Processes | None = None


def use_processes(processes: Processes | None) -> None:
    """Let all fits and predictions of this program use the processes from now on."""
    global _processes
    _processes = processes


def current_processes() -> Processes | None:
    """Return the processes that compute together, or None if this one computes alone.

    Children of these processes, such as workers of joblib or of a loader, compute alone.
    """
    is_used = _processes is not None and _processes.size > 1 and _processes.are_ours
    return _processes if is_used else None


def count_processes() -> int:
    """Return how many processes compute together, 1 if this one computes alone."""
    processes = current_processes()
    return 1 if processes is None else processes.size


def _seconds():
    text = os.environ.get(TIMEOUT_VARIABLE, str(TIMEOUT))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not seconds > 0:
        raise ValueError(
            f"expected {TIMEOUT_VARIABLE} to be a number of seconds, got {text!r}; unset it or "
            f"set it to {TIMEOUT}"
        )
    return seconds


def _packed(error):
    """Return an error as bytes; one that cannot be sent becomes a RuntimeError of its text."""
    try:
        content = cloudpickle.dumps(error)
        cloudpickle.loads(content)
    except Exception:
        content = cloudpickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
    return content


def _flattened(tensors):
    """Yield one long tensor for each dtype and device, and the tensors that it is made of."""
    groups: dict[Any, list[torch.Tensor]] = {}
    for tensor in tensors:
        groups.setdefault((tensor.dtype, tensor.device), []).append(tensor.detach())
    for parts in groups.values():
        yield torch.cat([part.reshape(-1) for part in parts]), parts


def _fill(parts, flat):
    sizes = [part.numel() for part in parts]
    for part, values in zip(parts, flat.split(sizes), strict=True):
        part.copy_(values.view(part.shape))
