"""Save models as safetensors and JSON files, and read them back without executing anything."""

import errno
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
from mura_skorch.utils.text import json_value, printable, short_reason

__all__ = [
    "OF_A_MACHINE",
    "check_model_folder",
    "check_operating_point",
    "log_replaced",
    "note_of",
    "read_json",
    "read_model",
    "write_model",
]

_log = logging.getLogger(__name__)

CLASSES = ("module", "criterion", "dataset")
PLAIN = (bool, int, float, str, type(None))
# The type of each value of the configuration.
CONFIG_TYPES: dict[str, Any] = {
    "format": int,
    "study_types": list,
    "note": (str, type(None)),
    "classes": dict,
    "params": dict,
    "history": list,
}
LATER_TYPES: dict[str, Any] = {  # models of 0.1.0 had none of them
    "operating_point": (dict, type(None)),
    "seed": (int, type(None)),
    "run_id": (str, type(None)),
    "interrupted": bool,
    "digests": dict,
    "quantized": (dict, type(None)),
    "arithmetic": dict,
    "settings": dict,
}
# Parameters of the machine that a model was saved on, which other machines do not load.
OF_A_MACHINE = ("device", "engine", "dataset__cache", "checkpoint_path", "module__compile")
# What a saved triage holds of a study type.
LIMITS = ("normal_below", "abnormal_above", "n_normal", "n_abnormal")

CONFIG_FILE = "model.json"
# Increase it when the previous version cannot read what this version writes.
FORMAT = 2


def note_of(source):
    """Return the caveat about a saved model's training data, or None.

    None if `source` is not the folder of a saved model.
    """
    file = Path(source) / CONFIG_FILE if isinstance(source, str | os.PathLike) else None
    if file is None or not file.is_file():
        return None
    return read_json(file).get("note")


def check_model_folder(folder):
    """Raise FileExistsError if a model cannot be saved there because a file is in the way.

    Parameters
    ----------
    folder : path
        A new folder, or the folder of an older model.
    """
    folder = Path(folder)
    for path in (folder, *folder.parents):
        if path.is_file():
            raise FileExistsError(
                errno.EEXIST,
                "expected a new folder or the folder of an older model, got the file "
                f"{printable(path)}; pass another path",
            )


def log_replaced(file):
    """Log one line if a saved model is about to be replaced.

    Parameters
    ----------
    file : path
        The file that every saved model or ensemble has.
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
    """Write a model; each file is replaced atomically.

    Parameters
    ----------
    folder : path
        Made if it is missing.
    tensors : dict of str to Tensor
        Parameters and buffers.
    config : dict
        Values that JSON can represent.

    Raises
    ------
    FileExistsError
        `folder` is a file, or below one.
    """
    folder = Path(folder)
    check_model_folder(folder)
    make_folder(folder)
    whole = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    about = {"format": FORMAT, "mura_skorch": __version__, **config}
    text = json.dumps(about, indent=2, default=json_value)
    n_bytes = sum(value.nbytes for value in whole.values())
    write_whole(folder / MODEL_FILE, lambda path: save_file(whole, path), n_bytes=n_bytes)
    write_text(folder / CONFIG_FILE, text)


def read_model(folder):
    """Read a model written by `write_model`; nothing in it is executed.

    Parameters
    ----------
    folder : path
        Has the files model.safetensors and model.json.

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
    if not folder.exists():
        raise FileNotFoundError(
            f"expected a folder written by MuraClassifier.save, or the whole id of a run, got "
            f"{printable(folder)}, which is neither; mura-skorch train prints ids at its end, and "
            "mlflow ui shows them"
        )
    if (folder / "report.json").is_file() and not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(
            f"expected a folder written by MuraClassifier.save, or the id of a run, got {folder}, "
            "which holds a report; pass the id of a model's run, which report.html names under "
            "What was run"
        )
    for name in (CONFIG_FILE, MODEL_FILE):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"expected a folder written by MuraClassifier.save ({CONFIG_FILE} and "
                f"{MODEL_FILE}), got {folder}: it has no {name}; open an ensemble with "
                "MuraEnsemble.load, or either kind with mura_skorch.ensemble.load_model"
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
            f"{printable(folder)} ({short_reason(error)}); save it again"
        ) from error
    if found != FORMAT:
        raise ValueError(
            f"expected a model of format {FORMAT}, got format {found} in {folder}, written by "
            f"mura_skorch {config.get('mura_skorch')}; this is {__version__}: install that version"
        )
    return tensors, config


def read_json(file):
    """Return the dict in a JSON file; raise ValueError if it holds anything else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"expected JSON in {printable(file)}, got a damaged or foreign file "
            f"({printable(error)}); write the file again"
        ) from error
    if not isinstance(found, dict):
        raise ValueError(
            f"expected a JSON object in {printable(file)}, got a {type(found).__name__}; write the "
            "file again"
        )
    return found


def check_operating_point(found):
    """Raise ValueError unless an operating point is None or one that `save` writes."""
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
    _check_triage(found.get("triage"))


def _check_triage(found):
    """Raise ValueError unless a triage is None or one that `save` writes."""
    if found is None:
        return
    try:
        limits, digests = found["limits"].values(), found["chosen_on"].values()
        is_right = type(found["error_rate"]) is float and 0 < found["error_rate"] < 1
        is_right &= found.keys() == {"error_rate", "limits", "chosen_on"}
        is_right &= all(isinstance(digest, str) for digest in digests)
        is_right &= all(_are_limits(own) for own in limits)
    except (TypeError, AttributeError, KeyError):
        is_right = False
    if not is_right:
        raise ValueError(f"its triage is {found!r:.100}")


def _are_limits(found):
    """Return whether these are limits of a study type, as `TypeLimits` holds them."""
    below, above, *counts = (found[name] for name in LIMITS)
    is_closed = below is None and above is None
    is_open = type(below) is type(above) is float and 0 <= below <= above <= 1
    return (
        len(found) == len(LIMITS)
        and (is_closed or is_open)
        and all(type(count) is int and count >= 0 for count in counts)
    )


def _check_config(config):
    """Raise ValueError if a value has another type than the saved ones."""
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
