"""The file of a checkpoint: tensors and JSON in one safetensors file, locked while a fit uses it.

Tensors hold weights, best weights and the optimizer's state; everything else is JSON in the header.
Nothing in the file can be executed.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Self

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from mura_skorch._version import __version__
from mura_skorch.utils.atomic import write_whole
from mura_skorch.utils.text import printable, shorten

__all__ = ["DAMAGED", "CheckpointFile", "damaged_checkpoint", "read_header", "run_id_of"]

# Raised when a checkpoint of this version cannot be loaded by the one before.
FORMAT = 2
LONGEST_REASON = 300  # characters: readers quote what they cannot read
HEADER = "mura_skorch_training_state"
KEYS = (
    "callbacks",
    "criterion",
    "fingerprint",
    "history",
    "is_finished",
    "module",
    "n_epochs",
    "operating_point",
    "optimizer",
    "random",
    "record",
)
DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, IndexError)


class CheckpointFile:
    """The checkpoint of one fit, locked against other processes while it is entered.

    Parameters
    ----------
    path : path
        Its folder is made if it is missing.

    Raises
    ------
    BlockingIOError
        Another process trains with this file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(self.path.with_name(f".{self.path.name}.lock"))
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise BlockingIOError(
                f"expected to be alone with {self.path}, got another process that trains with it; "
                "wait for it, end it, or pass another checkpoint_path"
            ) from error
        for unfinished in self.path.parent.glob(f".{self.path.name}.[0-9]*"):
            shutil.rmtree(
                unfinished, ignore_errors=True
            )  # of a process that was killed while it wrote
        return self

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def read(self) -> tuple[dict[str, Any], dict[str, torch.Tensor]] | None:
        """Return the JSON and the tensors of the checkpoint, or None if there is none.

        Raises
        ------
        ValueError
            The file is damaged, foreign, or of another version's format.
        """
        info = read_header(self.path)
        if info is None:
            return None
        try:
            with safe_open(self.path, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, *DAMAGED) as error:
            raise damaged_checkpoint(self.path, error) from error
        return info, tensors

    def write(self, info: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Replace the checkpoint; there is a complete one on disk at every moment."""
        about = {"format": FORMAT, "mura_skorch": __version__, **info}
        header = {HEADER: json.dumps(about, default=_plain)}
        n_bytes = sum(tensor.nbytes for tensor in tensors.values()) + len(header[HEADER])
        write_whole(
            self.path, lambda path: save_file(tensors, path, header), n_bytes=n_bytes, flush=True
        )


def read_header(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return the JSON of a checkpoint without reading its tensors, or None if there is no file.

    Raises
    ------
    ValueError
        The file is damaged, foreign, or of another version's format.
    """
    if not Path(path).exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            info = json.loads((file.metadata() or {})[HEADER])
        found, version = info["format"], info["mura_skorch"]
        if found == FORMAT and (lacking := [key for key in KEYS if key not in info]):
            raise ValueError(f"it lacks {', '.join(lacking)}")
    except (SafetensorError, RecursionError, *DAMAGED) as error:
        raise damaged_checkpoint(path, error) from error
    if found != FORMAT:
        raise ValueError(
            f"expected a checkpoint of format {FORMAT}, got format {found} in {path}, written by "
            f"mura_skorch {version}; this is {__version__}: continue with that version, or move "
            "the file elsewhere to train from the start"
        )
    return info


def run_id_of(path: str | os.PathLike[str]) -> str | None:
    """Return the MLflow run of a fit by its checkpoint, or None if no checkpoint can be read."""
    try:
        info = read_header(path)
        return None if info is None else info["record"]["run_id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # the fit itself reports what is wrong with the file


def damaged_checkpoint(path: str | os.PathLike[str], error: BaseException) -> ValueError:
    """Return the error to raise for a checkpoint that is not what was written."""
    return ValueError(
        f"expected the checkpoint of a fit, got a damaged or foreign file in {printable(path)} "
        f"({shorten(printable(repr(error)), LONGEST_REASON)}); move it elsewhere to train from the "
        "start"
    )


def _plain(value):
    """Return what JSON can store of a value that a user's callback put into the history."""
    return value.item() if hasattr(value, "item") else str(value)
