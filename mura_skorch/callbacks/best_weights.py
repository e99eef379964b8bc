"""Keep the weights of the best epoch and restore them after the fit."""

import json
import os
import shutil
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from skorch.callbacks import (
    Checkpoint,
)

from mura_skorch.models.serialization import read_model, write_model

__all__ = ["BestWeights"]


class BestWeights(Checkpoint):
    """Save the model of each best epoch, and restore the best when the fit ends.

    Parameters
    ----------
    dirname : path, optional
        Where to keep the best model, in a fresh folder per fit that `MuraClassifier.load` takes.
        None means a temporary folder that is removed once the weights are back.
    monitor : str, default="valid_loss_best"
        Name of the history's flag that marks a best epoch.

    Notes
    -----
    skorch's own ``Checkpoint`` swallows errors while saving and, with a fixed folder, restores
    another fit's weights where this one saved none. Here both raise. The history is kept whole.
    Without validation data the callback is inactive.

    Attributes
    ----------
    folder_ : Path
        The fit's folder.
    """

    def __init__(
        self, dirname: str | os.PathLike[str] | None = None, monitor: str = "valid_loss_best"
    ) -> None:
        super().__init__(monitor=monitor, dirname=dirname, f_optimizer=None, load_best=True)

    def _get_param_names(self):
        return ["dirname", "monitor"]

    def initialize(self) -> Self:
        """Make nothing: the folder is made when a fit begins."""
        self.has_saved_ = False
        return self

    def on_train_begin(self, net: Any, is_comparable: bool = True, **kwargs: Any) -> None:
        """Make this fit's folder."""
        if self.dirname is None:
            self.folder_ = Path(tempfile.mkdtemp(prefix="fit-"))
        else:  # with the umask's mode, for others to read
            self.folder_ = Path(self.dirname) / f"fit-{uuid.uuid4().hex[:8]}"
            self.folder_.mkdir(parents=True)
        self.n_epochs_before_ = len(net.history)
        self.has_saved_ = False
        if is_comparable and any(self.monitor in row for row in net.history):
            self.save_model(net)  # an earlier call's best, in case this one finds no better

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Save where the epoch is the best so far."""
        if self.monitor in net.history[-1]:
            super().on_epoch_end(net, **kwargs)

    def state_dict(self) -> dict[str, Any]:
        """Return the best weights so far, for a checkpoint."""
        if not self.has_saved_:
            return {}
        tensors, config = read_model(self.folder_)
        return {"tensors": tensors, "config": json.dumps(config)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Write the best weights of a checkpoint to this fit's folder."""
        self.has_saved_ = bool(state)
        if state:
            write_model(self.folder_, state["tensors"], json.loads(state["config"]))

    def save_model(self, net: Any) -> None:
        """Save the model as `MuraClassifier.save` does."""
        net.write(self.folder_)
        self.has_saved_ = True

    def on_train_end(self, net: Any, **kwargs: Any) -> None:
        """Restore the best weights."""
        finished = [row for row in net.history[self.n_epochs_before_ :] if self.event_name in row]
        if self.has_saved_:
            net.load_weights(self.folder_)
        elif finished:
            raise RuntimeError(
                f"expected at least one epoch with a finite validation loss, got "
                f"{[row.get('valid_loss') for row in finished]}: there are no best weights to "
                "restore; lower lr, or set precision='float32'"
            )

    def on_fit_end(self, net: Any, error: BaseException | None = None, **kwargs: Any) -> None:
        """Restore the best weights after an error, and remove a temporary folder."""
        if not hasattr(self, "folder_"):
            return  # the fit ended before training began
        has_trained = self.has_saved_ and len(net.history) > self.n_epochs_before_
        if isinstance(error, Exception) and has_trained:
            with suppress(OSError, ValueError):  # the error of the fit is the one to report
                net.load_weights(self.folder_)
                net.initialize_optimizer()  # its averages may come from what went wrong
                error.add_note("The weights of the best epoch before are back.")
        if self.dirname is None:
            shutil.rmtree(self.folder_, ignore_errors=True)
