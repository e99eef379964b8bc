"""Identify a fit by all that decides its result: parameters and data."""

import hashlib
import os
import re
from itertools import chain
from typing import Any

import numpy as np

from mura_skorch.data.dataset import studies_of
from mura_skorch.distributed import count_processes
from mura_skorch.utils.identity import patient_keys
from mura_skorch.utils.remote import file_sizes

__all__ = ["differences", "digest_of", "fingerprint_of"]

# Parameters that belong to a machine, a screen or a record, and change no number.
FREE = (
    "device",
    "checkpoint_path",
    "verbose",
    "callbacks",
    "dataset__cache",
    "_params_to_validate",  # of skorch, which lists it among the parameters
    "iterator_train__num_workers",
    "iterator_train__pin_memory",
    "iterator_train__prefetch_factor",
)
FREE_CALLBACKS = ("mlflow", "print_log", "progress")
FREE_PREFIXES = ("iterator_valid", *[f"callbacks__{name}" for name in FREE_CALLBACKS])
COLUMNS = ("study", "study_type", "patient", "label")


def fingerprint_of(net: Any, data: Any) -> dict[str, str]:
    """Return what may not change between two halves of one training.

    Parameters
    ----------
    net : MuraClassifier
        Its parameters are taken, without those that change no number.
    data : FitData
        Its digests are taken.

    Returns
    -------
    dict of str to str
        Parameters by name, and ``training studies`` and ``validation studies`` as a digest of
        keys, labels, names and sizes of files, in order. No patient or path can be read from it.
    """
    given = net.get_params(deep=False) | {"train_split": net.split_}
    params = {
        name: re.sub(r" at 0x[0-9a-f]+", "", _text(value))
        for name, value in sorted(given.items())
        if name not in FREE and not name.startswith(FREE_PREFIXES)
    }
    params["callbacks"] = ", ".join(n for n, _ in net.callbacks_ if n not in FREE_CALLBACKS)
    if (n_processes := count_processes()) > 1:
        params["number of processes"] = str(n_processes)
    return params | {
        "training studies": data.train_digest,
        "validation studies": data.valid_digest,
    }


def differences(before: dict[str, str], now: dict[str, str]) -> str:
    """Return what differs as a text, "" where nothing does."""
    names = [name for name in before | now if before.get(name) != now.get(name)]
    return "; ".join(f"{name} was {before.get(name)} and is {now.get(name)}" for name in names)


def _text(value):
    value = value.item() if isinstance(value, np.generic) else value  # equal ones are the same
    if isinstance(value, os.PathLike | str):
        return os.path.basename(value) or value  # a folder may be called after a person
    return getattr(value, "__qualname__", None) or repr(value)


def digest_of(dataset: Any) -> str:
    """Return a text that identifies the studies of a dataset and their order."""
    if dataset is None:
        return "none"
    studies = studies_of(dataset)
    found = hashlib.sha256()
    columns = [
        patient_keys(studies[name]) if name == "patient" else studies[name].astype(str)
        for name in COLUMNS
        if name in studies
    ]
    sizes = iter(file_sizes(chain.from_iterable(studies["views"])))
    for *cells, views in zip(*columns, studies["views"], strict=True):
        files = [(os.path.basename(str(view)), next(sizes)) for view in views]
        found.update(repr((cells, files)).encode())
    return f"{len(studies):,} with digest {found.hexdigest()[:12]}"
