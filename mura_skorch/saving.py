"""Saved models: tensors and settings go in, a folder of safetensors and JSON comes out."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mura_skorch._version import __version__
from mura_skorch.weights import MODEL_FILE
from mura_skorch.whole_files import write_whole

__all__ = ["note_of", "read_model", "write_model", "write_text"]

CONFIG_KEYS = ("format", "study_types", "note", "classes", "params", "history")

CONFIG_FILE = "model.json"
# Raised when a folder written by this version cannot be read by the one before.
FORMAT = 1


def note_of(source):
    """Return the caveat of a saved model's data, or None where `source` is no folder of one."""
    file = Path(source) / CONFIG_FILE if isinstance(source, str | os.PathLike) else None
    if file is None or not file.is_file():
        return None
    return json.loads(file.read_text(encoding="utf-8")).get("note")


def write_model(folder, tensors, config):
    """Write a model; each file is whole at every moment.

    Parameters
    ----------
    folder : path
        Made where it is missing.
    tensors : dict of str to Tensor
        Parameters and buffers.
    config : dict
        What JSON can hold.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    about = {"format": FORMAT, "mura_skorch": __version__, **config}
    text = json.dumps(about, indent=2, default=_plain)
    n_bytes = sum(value.nbytes for value in whole.values())
    write_whole(folder / MODEL_FILE, lambda path: save_file(whole, path), n_bytes=n_bytes)
    write_text(folder / CONFIG_FILE, text)


def write_text(file, text):
    """Write a text file that is whole at every moment."""
    write_whole(file, lambda path: path.write_text(text, encoding="utf-8"), n_bytes=len(text))


def read_model(folder):
    """Read what `write_model` wrote; nothing in it can be executed.

    Parameters
    ----------
    folder : path
        Holds model.safetensors and model.json.

    Returns
    -------
    tensors : dict of str to Tensor
    config : dict

    Raises
    ------
    FileNotFoundError
        The folder or one of its two files does not exist.
    ValueError
        A file is damaged, or written by a later version.
    """
    folder = Path(folder)
    for name in (CONFIG_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"expected a folder written by MuraClassifier.save ({CONFIG_FILE} and "
                f"{MODEL_FILE}), got {folder}: it has no {name}; "
                "an ensemble is opened by MuraEnsemble.load, either by ensemble.load_model"
            )
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if lacking := [key for key in CONFIG_KEYS if key not in config]:
            raise ValueError(f"{CONFIG_FILE} lacks {', '.join(lacking)}")
        found = config["format"]
        tensors = load_file(folder / MODEL_FILE)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"expected a model saved by MuraClassifier.save, got a damaged or foreign one in "
            f"{folder} ({error}); save it again"
        ) from error
    if found != FORMAT:
        raise ValueError(
            f"expected a model of format {FORMAT}, got format {found} in {folder}, written by "
            f"mura_skorch {config.get('mura_skorch')}; this is {__version__}: install that version"
        )
    return tensors, config


def _plain(value):
    """Return what JSON can hold of a value that a user's callback put into the history."""
    return value.item() if hasattr(value, "item") else str(value)
