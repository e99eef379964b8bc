"""Store the features of views on disk, so that no view is computed twice.

A part is a NumPy file, ``features-<network>-<views>.npy``, and a JSON file of the same name that
describes it. It is never changed: studies that are new get parts of their own.
"""

import hashlib
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from filelock import FileLock

from mura_skorch.data.cache import (
    FEATURES,
    FORMAT,
    UNFINISHED,
    description_of,
    fingerprint_of,
    lock_of,
    make_cache_folder,
    no_room,
    read_description,
    stamps_of,
)
from mura_skorch.data.images import READING
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.progress import progress_bar

__all__ = ["stored_features"]

PART = 500  # studies that a killed process loses at most: a minute of work

View = tuple[str, int, int | str]  # path, size and time of change


def stored_features(
    folder: str | os.PathLike[str],
    network: dict[str, Any],
    studies: pd.DataFrame,
    embed_views: Callable[..., list[np.ndarray]],
) -> list[np.ndarray]:
    """Return the features of every view, computed where they are not stored yet.

    Parameters
    ----------
    folder : path
        Folder of caches, made if it is missing.
    network : dict of str to JSON values
        What the features depend on but for the views.
    studies : DataFrame of n_studies rows
        A checked study table.
    embed_views : callable
        Takes a part of the table, and the progress bar as ``bar``; returns the features of the
        views of each study.

    Returns
    -------
    list of ndarray of shape (n_views, n_features), float32
        One array per study.

    Raises
    ------
    OSError
        The disk is full.

    Warns
    -----
    UserWarning
        A file is damaged: its views are computed again.

    Notes
    -----
    Views are known by path, size and time of change, so that any selection of stored studies is
    found. Processes with the same network and folder wait for each other before they compute. Each
    use checks a checksum of the files that it reads.
    """
    folder = make_cache_folder(folder)
    text = json.dumps({**network, "format": FORMAT, "reading_rules": READING}, sort_keys=True)
    name = f"{FEATURES}{hashlib.sha256(text.encode()).hexdigest()[:24]}-"
    stamps = iter(stamps_of(chain.from_iterable(studies["views"])))
    views = [[(path, *next(stamps)) for path in own] for own in studies["views"]]
    found = _read_parts(folder, name, views)
    if not _are_all(views, found):
        with FileLock(lock_of(folder / name)):
            found = _read_parts(folder, name, views, damaged_go=True)  # another process's as well
            missing = [row for row, own in enumerate(views) if not _are_all([own], found)]
            if missing:
                _compute(folder / name, network, studies, views, missing, embed_views)
                found = _read_parts(folder, name, views)
    return [np.stack([found[view] for view in own]) for own in views]


def _are_all(views, found):
    return all(view in found for own in views for view in own)


def _compute(name, network, studies, views, rows, embed_views):
    """Compute the features of some rows of the table, and write them part by part."""
    total = sum(len(views[row]) for row in rows)
    with progress_bar(total, desc="embed", unit="view") as bar:
        for start in range(0, len(rows), PART):
            part = rows[start : start + PART]
            features = np.concatenate(embed_views(studies.iloc[part], bar=bar))
            _write_part(name, network, [view for row in part for view in views[row]], features)


def _write_part(name: Path, network: dict[str, Any], views: list[View], features: np.ndarray):
    """Write the features of some views; the description, written last, makes them valid."""
    digest = hashlib.sha256(json.dumps(views).encode()).hexdigest()[:24]
    file = name.with_name(f"{name.name}{digest}.npy")
    if features.nbytes > shutil.disk_usage(file.parent).free:
        raise no_room(file, features.nbytes, "cache")
    unfinished = Path(f"{file}{UNFINISHED}")
    try:
        # Written, not mapped: on a full disk a write raises, a memory map ends the process.
        with unfinished.open("wb") as opened:
            np.save(opened, features)
            opened.flush()
            os.fsync(opened.fileno())
        unfinished.replace(file)
    finally:
        unfinished.unlink(missing_ok=True)
    paths = [path for path, _, _ in views]
    description = {
        "format": FORMAT,
        "reading_rules": READING,
        "network": network,
        "n_views": len(views),
        "fingerprint": fingerprint_of((size, changed) for _, size, changed in views),
        "checksum": zlib.crc32(features.data),
        "paths": paths,
        "stamps": [stamp for _, *stamp in views],
    }
    write_text(description_of(file), json.dumps(description))


def _read_parts(folder, name, views, *, damaged_go=False):
    """Return the features of those of the views that are stored, by view."""
    wanted = {view for own in views for view in own}
    found: dict[View, np.ndarray] = {}
    for description in sorted(folder.glob(f"{name}*.json")):
        about = read_description(description)
        stored = [
            (path, *stamp)
            for path, stamp in zip(about.get("paths", []), about.get("stamps", []), strict=False)
        ]
        rows = [row for row, view in enumerate(stored) if view in wanted]
        if not rows:
            continue
        file = description.with_suffix(".npy")
        features = _open(file, len(stored), about.get("checksum"))
        if features is not None:
            os.utime(description)  # when it was last used
            found |= {stored[row]: features[row] for row in rows}
        elif damaged_go:
            warnings.warn(f"{file} is damaged; its features are computed again", stacklevel=4)
            description.unlink()
            file.unlink(missing_ok=True)
    return found


def _open(file, n_views, checksum):
    """Return the memory-mapped features of a part, or None if it is damaged."""
    try:
        features = np.asarray(np.load(file, mmap_mode="r"))
    except (OSError, ValueError):
        return None
    if len(features) != n_views or zlib.crc32(features.data) != checksum:
        return None
    return features
