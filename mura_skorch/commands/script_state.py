"""State of a script in its output folder: a lock, its arguments, and checkpoints to resume from."""

import json
import os
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mura_skorch.distributed import count_processes
from mura_skorch.utils.atomic import write_text

__all__ = [
    "STATE_FILES",
    "check_new",
    "check_settings",
    "checkpoint_path",
    "clear",
    "copied_results",
    "load_args",
    "lock_folder",
    "resume_after_restart",
    "resume_command",
    "save_args",
]

FOLDER = "state"
ARGUMENTS = "arguments.json"
LOCK = ".lock"
SETTINGS = "settings.json"
STATE_FILES = (FOLDER, LOCK)  # in an output folder, but not part of the results


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock an output folder against other processes that lock it; make it if it is missing.

    Raises
    ------
    ValueError
        Another process holds the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"expected a free --out, got {folder}, which is locked by another process; wait for "
            "it, stop it, or pass another --out"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows removes no open file
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


@contextmanager
def copied_results(folder: Path, *left_out: str) -> Iterator[str]:
    """Copy an output folder without the state of the script, to be logged.

    Parameters
    ----------
    folder : Path
    *left_out : str
        Patterns of other files that are no results.

    Yields
    ------
    str
        The copy, which is removed after the block.
    """
    with tempfile.TemporaryDirectory() as copy:
        ignored = shutil.ignore_patterns(*STATE_FILES, *left_out)
        shutil.copytree(folder, copy, dirs_exist_ok=True, ignore=ignored)
        yield copy


def check_new(folder: Path) -> None:
    """Raise ValueError if a script was interrupted in this folder and can be resumed."""
    if (folder / FOLDER / ARGUMENTS).exists():
        raise ValueError(
            f"expected a new --out, got {folder}, where a call was interrupted; resume it with "
            f"--resume {folder}, or pass another --out"
        )


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Raise ValueError if an earlier call wrote results of other settings to this folder.

    The first call saves its settings there, for the calls after it.

    Parameters
    ----------
    folder : Path
        Output folder; it must exist.
    settings : mapping of str to JSON values
        Settings that all results in the folder must share.

    Raises
    ------
    ValueError
        Some settings differ from those saved, which it names.
    """
    file = folder / SETTINGS
    if file.is_file():
        saved = json.loads(file.read_text(encoding="utf-8"))
        if differing := [name for name in settings if settings[name] != saved.get(name)]:
            raise ValueError(
                f"expected the settings of earlier calls in {folder}, got different "
                f"{', '.join(differing)}; pass another --out"
            )
    write_text(file, json.dumps(dict(settings), indent=2))


def save_args(folder: Path, args: Namespace) -> None:
    """Save the arguments of a script, which hold paths and values that JSON can represent."""
    texts = {
        name: {"path": str(value.absolute())} if isinstance(value, Path) else value
        for name, value in vars(args).items()
    }
    file = folder / FOLDER / ARGUMENTS
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps(texts, indent=2))


def resume_after_restart(args: Namespace) -> None:
    """Let a script that torchrun has started again resume what it had begun in ``--out``.

    Parameters
    ----------
    args : Namespace
        With ``out`` and ``resume``, which is set.
    """
    is_restarted = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"
    if is_restarted and args.resume is None and (args.out / FOLDER / ARGUMENTS).exists():
        args.resume = args.out


def resume_command(folder: Path, more: str = "") -> str:
    """Return the command that resumes this script or command.

    Parameters
    ----------
    folder : Path
        Its ``--out``.
    more : str, default=""
        Further options.
    """
    is_script = Path(sys.argv[0]).stem not in ("mura-skorch", "__main__")
    program = sys.argv[0] if is_script else " ".join(["mura-skorch", *sys.argv[1:2]])
    call = f"{program} --resume {folder}{more}"
    if count_processes() > 1:
        return f"torchrun OPTIONS -m mura_skorch.distributed {call}, with the OPTIONS of this call"
    return f"python {call}" if is_script else call


def load_args(folder: Path) -> Namespace:
    """Return the arguments that `save_args` saved; paths are absolute.

    Raises
    ------
    ValueError
        There are none: no script was interrupted there.
    """
    file = folder / FOLDER / ARGUMENTS
    try:
        texts = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"expected --resume with the --out of an interrupted call, got {folder}, which has no "
            f"readable {FOLDER}/{ARGUMENTS}; check the path, or start again without --resume"
        ) from error
    args = {
        name: Path(value["path"]) if isinstance(value, dict) else value
        for name, value in texts.items()
    }
    return Namespace(**args)


def checkpoint_path(folder: Path, name: str) -> Path:
    """Return the path of the checkpoint of one of the script's fits."""
    return folder / FOLDER / f"{name.replace('/', '_')}.safetensors"


def clear(folder: Path) -> None:
    """Remove the arguments and checkpoints of a script that has finished."""
    with suppress(FileNotFoundError):  # all its fits had finished in earlier calls
        shutil.rmtree(folder / FOLDER)
