"""Explain errors of torch in an epoch: what happened and which setting to change."""

import math
import re
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from mura_skorch.utils.text import some_names

__all__ = ["check_loss", "explained_faults"]

N_NAMED = 8
# How torch begins what it says of a loader's worker that is gone, and of a CPU's full memory.
KILLED = re.compile(r"DataLoader worker \(pid")
# How it says that pooling or a convolution has no pixel left.
TOO_SMALL = re.compile(r"Output size is too small|Kernel size can't be greater than actual input")
# How it says that it cannot compile a network.
NO_COMPILER = re.compile(
    r"No working C\+\+ compiler|Failed to find C compiler|Python\.h: No such file"
)
FULL_CPU = re.compile(r"DefaultCPUAllocator: (can't allocate|not enough) memory")


class _BadLossError(FloatingPointError):
    """A loss that is not finite, with the rows of its batch in the study table."""

    def __init__(self, loss, rows):
        super().__init__(f"expected a finite loss, got {loss}")
        self.loss = loss
        self.rows = rows


def check_loss(loss: float, rows: torch.Tensor | None) -> None:
    """Raise FloatingPointError if the loss of a batch is not finite.

    Parameters
    ----------
    loss : float
    rows : Tensor of shape (B,), int64, or None
        Rows of the batch's studies in their table, by which `explained_faults` names them.
    """
    if not math.isfinite(loss):
        raise _BadLossError(loss, [] if rows is None else rows.tolist())


@contextmanager
def explained_faults(
    net: Any, keys_of: Callable[[Sequence[int]], Sequence[Any]] | None = None
) -> Iterator[None]:
    """Explain an error in an epoch: what happened, and which setting to change.

    Parameters
    ----------
    net : StudyNet
        Its settings are named.
    keys_of : callable, optional
        Returns the studies' keys of rows of the table.

    Raises
    ------
    FloatingPointError
        A loss is not finite.
    torch.OutOfMemoryError, MemoryError
        The device's memory, or the machine's, ran out.
    RuntimeError
        A loader's worker was killed, or the machine has no compiler.
    ValueError
        The views are too small for the network.
    """
    try:
        yield
    except _BadLossError as error:
        keys = [str(key) for key in keys_of(error.rows)] if keys_of and error.rows else []
        named = some_names(keys, N_NAMED)
        raise FloatingPointError(
            f"{error} in epoch {len(net.history)}, in the batch of "
            f"{f'the studies {named}' if keys else 'studies that carry no rows'}. Look at their "
            "views, lower lr, or set precision='float32'"
        ) from error
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(_too_large(net, f"{net.where_}'s memory", error)) from error
    except MemoryError as error:
        raise MemoryError(
            "expected enough memory for the views that are being loaded, got none left; lower "
            "iterator_train__num_workers and iterator_valid__num_workers, batch_size "
            f"({net.batch_size}) or dataset__image_size: {_reason(error)}"
        ) from error
    except (EOFError, OSError) as error:
        if not _is_of_a_pipe(error):
            raise
        raise _killed_worker(net, error) from error
    except RuntimeError as error:
        if KILLED.match(str(error)):
            raise _killed_worker(net, error) from error
        if TOO_SMALL.search(str(error)):
            raise ValueError(
                "expected views that the network can halve as often as it does, got too small "
                f"ones; raise dataset__image_size: {_reason(error)}"
            ) from error
        if found := NO_COMPILER.search(str(error)):
            raise RuntimeError(
                "expected a C++ compiler and Python's header files for module__compile=True, got "
                f"{found.group()!r}; install them (on Debian and Ubuntu: apt-get install g++ "
                "python3-dev), or leave module__compile out"
            ) from error
        if FULL_CPU.search(str(error)):
            raise MemoryError(_too_large(net, "the machine's memory", error)) from error
        raise


def _is_of_a_pipe(error):
    """Whether the other end of a pipe between processes is gone: torch has not noticed yet."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_globals.get("__name__", "").startswith("multiprocessing.") for frame in frames
    )


def _killed_worker(net, error):
    # Ends the loader, which the frames hold: while it lives, torch raises at every later signal of
    # any child process, wherever the program then is.
    traceback.clear_frames(error.__traceback__)
    return RuntimeError(
        f"expected the loader's workers to live, got one that was killed, most often "
        f"because the machine's memory ran out ({_reason(error)}); lower "
        "iterator_train__num_workers and iterator_valid__num_workers, or batch_size "
        f"({net.batch_size})"
    )


def _too_large(net, where, error):
    return (
        f"expected a batch that fits into {where}, got a larger one; lower batch_size "
        f"({net.batch_size}), and raise accumulate ({net.accumulate}) by as much, "
        "module__max_views, of long studies, or dataset__image_size, or set "
        f"module__memory_efficient=True or precision='bfloat16' ({net.precision_!r} now): "
        f"{_reason(error)}"
    )


def _reason(error):
    """Return the line that tells the reason: the first, or the last of a worker's traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1 if lines[0].startswith("Caught ") else 0][:300]
