"""Calls: the arguments of a script go in, a folder that a later call goes on from comes out."""

import json
import shutil
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mura_skorch.utils.atomic import write_text

__all__ = [
    "OF_CALLS",
    "alone_in",
    "check_is_new",
    "checkpoint_path_of",
    "forget_call",
    "keep_call",
    "kept_call",
]

FOLDER = "state"
ARGUMENTS = "arguments.json"
LOCK = ".lock"
OF_CALLS = (FOLDER, LOCK)  # what in a folder is no result


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that ask from the folder, which is made where it is missing.

    Raises
    ------
    ValueError
        Another process is in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"expected to be alone in {folder}, got another process that writes to it; wait for "
            "it, end it, or pass another --out"
        ) from error
    try:
        yield
    finally:
        lock.release()


def check_is_new(folder: Path) -> None:
    """Raise ValueError where a call in the folder did not come to its end."""
    if (folder / FOLDER / ARGUMENTS).exists():
        raise ValueError(
            f"expected a new --out, got {folder}, in which a call was stopped; go on with it by "
            f"--resume {folder}, or pass another --out"
        )


def keep_call(folder: Path, args: Namespace) -> None:
    """Keep the arguments of a call, a Namespace of what JSON can hold and of paths."""
    texts = {
        name: {"path": str(value.absolute())} if isinstance(value, Path) else value
        for name, value in vars(args).items()
    }
    file = folder / FOLDER / ARGUMENTS
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps(texts, indent=2))


def kept_call(folder: Path) -> Namespace:
    """Return the arguments that `keep_call` kept.

    Raises
    ------
    ValueError
        There are none: nothing was stopped there.
    """
    file = folder / FOLDER / ARGUMENTS
    try:
        texts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"expected --resume with the --out of a call that was stopped, got {folder}, which has "
            f"no readable {FOLDER}/{ARGUMENTS}; check the path, or begin anew without --resume"
        ) from error
    return Namespace(
        **{
            name: Path(value["path"]) if isinstance(value, dict) else value
            for name, value in texts.items()
        }
    )


def checkpoint_path_of(folder: Path, name: str) -> Path:
    """Return where the state of a call's fit is kept."""
    return folder / FOLDER / f"{name.replace('/', '_')}.safetensors"


def forget_call(folder: Path) -> None:
    """Remove what a call needs to be gone on with: it has come to its end."""
    shutil.rmtree(folder / FOLDER)
    (folder / LOCK).unlink(missing_ok=True)
