"""Record the loss of each batch without making the program wait for a GPU."""

from collections import deque
from collections.abc import Callable
from typing import Any

import torch
from skorch.history import History

from mura_skorch.training.errors import check_loss

__all__ = ["BatchLosses", "copy_to_cpu"]


def copy_to_cpu(loss: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Copy a loss to the CPU, from a GPU in the background.

    Parameters
    ----------
    loss : Tensor of shape ()
        On any device.

    Returns
    -------
    value : Tensor of shape ()
        On the CPU. From a GPU it is undefined until `copied` has happened.
    copied : torch.cuda.Event or None
        The end of the copy; None if it is over already.
    """
    if not loss.is_cuda:
        return loss.detach().cpu(), None
    value = loss.detach().to("cpu", non_blocking=True)  # into pinned memory
    copied = torch.cuda.Event()
    copied.record(torch.cuda.current_stream(loss.device))
    return value, copied


class BatchLosses:
    """Record the losses of an epoch's batches, and refuse one that is not finite.

    Parameters
    ----------
    history : History
        Of the net; its last row is the epoch.
    name : str
        Key of the loss in a batch's row, such as "train_loss".
    copy : callable, default=copy_to_cpu
        How a loss comes to the CPU.

    Notes
    -----
    ``loss.item()`` after each batch would leave a GPU idle while the program prepares the next
    batch. Instead the loss is copied in the background. A later batch reads it once it is there,
    or else the end of the epoch. Until then the history holds the tensor on the GPU. An error about
    a loss that is not finite therefore comes some batches late, and names the studies of its batch.
    """

    def __init__(
        self,
        history: History,
        name: str,
        copy: Callable[[torch.Tensor], tuple[torch.Tensor, Any]] = copy_to_cpu,
    ) -> None:
        self.history = history
        self.name = name
        self.copy = copy
        self._pending: deque[tuple[dict[str, Any], torch.Tensor, Any, Any]] = deque()

    def record(self, loss: torch.Tensor, rows: torch.Tensor | None) -> None:
        """Record the loss of the last batch in the history, and read those that have arrived.

        Parameters
        ----------
        loss : Tensor of shape ()
            On any device.
        rows : Tensor of shape (B,), int64, or None
            Rows of the batch's studies in their table.

        Raises
        ------
        FloatingPointError
            The loss of this batch, or of one before, is not finite.
        """
        self.history.record_batch(self.name, loss.detach())
        batch = self.history[-1]["batches"][-1]
        self._pending.append((batch, *self.copy(loss), rows))
        while self._pending and (self._pending[0][2] is None or self._pending[0][2].query()):
            self._read_first()

    def finish(self) -> None:
        """Read the losses that are left, once they have arrived.

        Raises
        ------
        FloatingPointError
            One of them is not finite.
        """
        while self._pending:
            self._read_first()

    def _read_first(self):
        batch, value, copied, rows = self._pending.popleft()
        if copied is not None:
            copied.synchronize()
        batch[self.name] = value.item()
        check_loss(batch[self.name], rows)
