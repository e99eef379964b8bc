"""Choose device, number of threads and data loading for the machine at hand."""

import ctypes
import math
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import current_process
from pathlib import Path

import joblib
import torch

__all__ = [
    "check_device",
    "count_cores",
    "keep_compiled_kernels",
    "keep_freed_memory",
    "loader_defaults",
    "resolve_device",
    "threads_within_quota",
    "usable_threads",
]

# oneDNN compiles a kernel for each layer and number of views, some 700 for each number in training,
# and keeps 1,024. Keeping them for all numbers that minibatches of eight studies have takes some
# tens of MB and saved a quarter of the time at 64 pixels, a twentieth at 224.
KERNELS = 16_384

# Numbers of glibc's ``mallopt``, and the variables by which a user sets the same.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
MALLOC_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def resolve_device(device):
    """Return `device`, with "auto" turned into "cuda" where a GPU answers and "cpu" elsewhere."""
    if not isinstance(device, str) or device != "auto":
        return device
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device):
    """Raise where a device is none that torch knows, or a GPU that does not answer.

    Parameters
    ----------
    device : str, torch.device or None
        "auto" is resolved already; None leaves everything where it is.

    Raises
    ------
    TypeError, ValueError
        It is no device.
    """
    if device is None:
        return
    remedy = "pass 'auto', 'cpu', 'cuda', 'cuda:1', ..., or None to leave everything where it is"
    if not isinstance(device, str | torch.device):
        raise TypeError(f"expected device to be a text or a torch.device, got {device!r}; {remedy}")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(
            f"expected device to be known to torch, got {device!r}; {remedy}"
        ) from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"expected device to be a GPU that answers, got {str(device)!r} where torch finds "
            f"{torch.cuda.device_count()}; {remedy}"
        )


def loader_defaults(device, n_batches, *, is_cached):
    """Return the arguments of torch's `DataLoader` that suit a device.

    Parameters
    ----------
    device : str or torch.device
        Where the network runs.
    n_batches : int
        More workers than batches have nothing to do.
    is_cached : bool
        Whether prepared views are read from a cache, which costs a copy of memory.

    Returns
    -------
    dict
        No workers on a CPU, whose cores the network needs, nor with a cache; up to eight that
        decode for a GPU. That number is a guess: no GPU has been measured. Pinned memory is what
        lets a copy to a GPU run beside its work.
    """
    if torch.device(device).type != "cuda":
        return {}
    if is_cached or current_process().daemon:  # which may start no others
        return {"pin_memory": True}
    return {"pin_memory": True, "num_workers": min(8, count_cores(), n_batches)}


def count_cores() -> int:
    """Return the number of cores that this process may use, 1 or more.

    The least of what the machine has, the process's affinity and its CPU quota (Linux cgroups)
    allow. joblib knows of a quota only where it is that of a whole container.
    """
    quota = math.inf
    files: tuple[str, ...]
    with suppress(OSError):  # no cgroups
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, path = line.split(":", 2)
            if number == "0":
                files, roots = ("cpu.max",), ("", "unified")
            elif "cpu" in controllers.split(","):
                files, roots = ("cpu.cfs_quota_us", "cpu.cfs_period_us"), ("cpu", controllers)
            else:
                continue
            for root in roots:
                place = Path("/sys/fs/cgroup", root, path.lstrip("/"))
                for folder in (place, *place.parents):  # a group has the quotas of those above, too
                    with suppress(OSError, ValueError):  # without a quota: "max 100000"
                        text = " ".join((folder / file).read_text() for file in files)
                        limit, period = map(int, text.split())
                        quota = min(quota, limit / period if limit > 0 else math.inf)
    return max(1, min(joblib.cpu_count(), math.ceil(min(quota, 2**31))))


def usable_threads(limit: int | None = None) -> int:
    """Return on how many threads a network computes here, 1 or more.

    Parameters
    ----------
    limit : int, optional
        Most threads. None means as many as the process has cores.

    Notes
    -----
    torch starts a thread per core of the machine, or as many as the user has set. More threads than
    a container or a job may use wait for each other, and are many times slower than one.
    """
    return min(torch.get_num_threads(), count_cores(), limit or torch.get_num_threads())


@contextmanager
def threads_within_quota(limit: int | None = None) -> Iterator[None]:
    """Compute on no more threads than this process has cores, and at most `limit`.

    Parameters
    ----------
    limit : int, optional
        Most threads. None means as many as the process has cores.
    """
    before, usable = torch.get_num_threads(), usable_threads(limit)
    if before == usable:
        yield
        return
    torch.set_num_threads(usable)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_compiled_kernels():
    """Let oneDNN keep its compiled kernels, unless the environment says how many it keeps.

    It reads the variable once, at its first convolution.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(KERNELS))


def keep_freed_memory():
    """Let the C library of Linux keep freed memory, unless the environment says how it allocates.

    torch allocates every activation anew on the CPU. By default glibc gives memory of this size
    back to the system at once, which fills it with zeros when it comes again. Kept, DenseNet-169
    predicted in three quarters of the time in bfloat16 and trained in six sevenths, with the same
    peak of memory.
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in MALLOC_VARIABLES):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is None:  # another C library
        return
    for size in (2**30, 2**25):  # bytes; older versions take no more than the second
        if set_option(MMAP_THRESHOLD, size):
            set_option(TRIM_THRESHOLD, 2**30)
            return
