"""Saved models: tensors and settings go in, a folder of safetensors and JSON comes out."""

import json
import logging
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from mura_skorch._version import __version__
from mura_skorch.models.pretrained import MODEL_FILE
from mura_skorch.utils.atomic import make_folder, write_text, write_whole
from mura_skorch.utils.text import printable, shorten

__all__ = [
    "OF_A_MACHINE",
    "check_operating_point",
    "note_of",
    "read_json",
    "read_model",
    "tell_replaced",
    "write_model",
]

_log = logging.getLogger(__name__)

CLASSES = ("module", "criterion", "dataset")
PLAIN = (bool, int, float, str, type(None))
# What each key of the configuration holds.
CONFIG_TYPES: dict[str, Any] = {
    **{"format": int, "study_types": list, "note": (str, type(None))},
    **{"classes": dict, "params": dict, "history": list},
}
LATER_TYPES: dict[str, Any] = {  # models of 0.1.0 had none of them
    **{"operating_point": (dict, type(None)), "seed": (int, type(None))},
    "run_id": (str, type(None)),
    "interrupted": bool,
    "digests": dict,
}
# Parameters of the machine that a model was saved on, which no other takes from a file.
OF_A_MACHINE = ("device", "dataset__cache", "checkpoint_path")

CONFIG_FILE = "model.json"
# Raised when a folder written by this version cannot be read by the one before.
FORMAT = 1
LONGEST_REASON = 300  # characters: readers quote what they cannot read


def note_of(source):
    """Return the caveat of a saved model's data, or None where `source` is no folder of one."""
    file = Path(source) / CONFIG_FILE if isinstance(source, str | os.PathLike) else None
    if file is None or not file.is_file():
        return None
    return read_json(file).get("note")


def tell_replaced(file):
    """Say in one line that a saved model is about to be replaced, where there is one.

    Parameters
    ----------
    file : path
        What the model or ensemble cannot be without.
    """
    file = Path(file)
    if file.is_file():
        saved = datetime.fromtimestamp(file.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        _log.warning(
            "replacing the model in %s, saved on %s; pass another folder to keep both",
            printable(file.parent),
            saved,
        )


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
    make_folder(folder)
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    about = {"format": FORMAT, "mura_skorch": __version__, **config}
    text = json.dumps(about, indent=2, default=_plain)
    n_bytes = sum(value.nbytes for value in whole.values())
    write_whole(folder / MODEL_FILE, lambda path: save_file(whole, path), n_bytes=n_bytes)
    write_text(folder / CONFIG_FILE, text)


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
        config = read_json(folder / CONFIG_FILE)
        if lacking := [key for key in CONFIG_TYPES if key not in config]:
            raise ValueError(f"{CONFIG_FILE} lacks {', '.join(lacking)}")
        found = config["format"]
        _check_config(config)
        tensors = load_file(folder / MODEL_FILE)
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"expected a model saved by MuraClassifier.save, got a damaged or foreign one in "
            f"{printable(folder)} ({shorten(printable(error), LONGEST_REASON)}); save it again"
        ) from error
    if found != FORMAT:
        raise ValueError(
            f"expected a model of format {FORMAT}, got format {found} in {folder}, written by "
            f"mura_skorch {config.get('mura_skorch')}; this is {__version__}: install that version"
        )
    return tensors, config


def read_json(file):
    """Return the dict of a JSON file; ValueError if it holds anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"expected JSON in {printable(file)}, got a damaged or foreign file "
            f"({printable(error)})"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"expected JSON with names in {printable(file)}, got a {type(found).__name__}"
        )
    return found


def check_operating_point(found):
    """Raise ValueError where an operating point is neither None nor one that was saved."""
    if found is None:
        return
    numbers = {key: found.get(key) for key in ("slope", "temperature", "threshold", "intercept")}
    if numbers["slope"] is None:  # saved before there was an intercept
        numbers |= {"slope": numbers["temperature"], "intercept": 0}
    del numbers["temperature"]
    for key, value in numbers.items():
        is_number = type(value) in (int, float) and abs(value) < float("inf")
        lowest = {"slope": sys.float_info.min, "threshold": 0}.get(key, -float("inf"))
        if not is_number or value < lowest:
            raise ValueError(f"its {key} is {value!r:.100}")
    for key, kind in {"prior_correction": bool, "chosen_in_fit": bool, "chosen_on": dict}.items():
        if not isinstance(found.get(key, kind()), kind):
            raise ValueError(f"its {key} is {found[key]!r:.100}")
    if not all(isinstance(digest, str) for digest in found.get("chosen_on", {}).values()):
        raise ValueError(f"its chosen_on is {found['chosen_on']!r:.100}")


def _check_config(config):
    """Raise ValueError where a value is of another kind than what is saved."""
    for key, kind in (CONFIG_TYPES | LATER_TYPES).items():
        if key in config and not isinstance(config[key], kind):
            raise ValueError(f"{key} in {CONFIG_FILE} is a {type(config[key]).__name__}")
    parts = {
        "study_types": [isinstance(name, str) for name in config["study_types"]],
        "classes": [isinstance(config["classes"].get(p), str) for p in CLASSES],
        "params": [isinstance(value, PLAIN) for value in config["params"].values()],
        "history": [isinstance(row, dict) for row in config["history"]],
    }
    if wrong := [key for key, are_right in parts.items() if not all(are_right)]:
        raise ValueError(f"{', '.join(wrong)} in {CONFIG_FILE} hold what is never saved there")
    check_operating_point(config.get("operating_point"))


def _plain(value):
    """Return what JSON can hold of a value that a user's callback put into the history."""
    return value.item() if hasattr(value, "item") else str(value)
