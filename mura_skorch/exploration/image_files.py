"""Inspect image files: size, format, mode and digest of every view, and duplicates."""

import hashlib
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from joblib import effective_n_jobs

from mura_skorch.data.images import describe_view
from mura_skorch.utils.intensity import Note, ViewNotes
from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.text import printable

__all__ = ["find_duplicates", "read_image_files"]

STUDY_COLUMNS = ["study", "split", "study_type", "patient", "label"]
FILE_COLUMNS = ["format", "mode", "width", "height", "digest", "problem"]


def read_image_files(studies: pd.DataFrame, *, n_jobs: int = -1) -> pd.DataFrame:
    """Decode every view of a study table once, and describe its file.

    Parameters
    ----------
    studies : DataFrame
        A study table. Its columns ``study``, ``split``, ``study_type``, ``patient`` and ``label``
        are copied, if present.
    n_jobs : int, default=-1
        Number of threads; -1 means one per core. Decoding releases the GIL.

    Returns
    -------
    DataFrame
        One row per view: the columns above, ``view`` (number in the study, from 1), ``path``,
        ``format`` and ``mode`` in the terms of Pillow or DICOM, ``width`` and ``height`` of the
        upright image in pixels, ``digest`` and ``problem``. For an unreadable file, ``problem``
        has the reason and the other columns of the file are missing.

    Notes
    -----
    The digest is that of the grey pixels, as the network sees them, not of the bytes of the file.
    It finds copies that were compressed again, stored in colour, or have other metadata. A file of
    512 pixels takes 3 to 5 ms per core (1 to 2 minutes for MURA on two cores). Memory holds only
    the views being decoded.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import read_image_files
    >>> files = read_image_files(pd.DataFrame({"views": [("no/such/image1.png",)]}))
    >>> files.loc[0, "problem"]
    'expected an image file, got no such file. Check the path, or copy the file again.'
    """
    columns = [name for name in STUDY_COLUMNS if name in studies]
    n_views = studies["views"].map(len).to_numpy()
    images = (
        studies[columns].iloc[np.repeat(np.arange(len(studies)), n_views)].reset_index(drop=True)
    )
    images["view"] = [number + 1 for n in n_views for number in range(n)]
    # dtype object, since pandas' str holds only names in UTF-8.
    views = list(chain.from_iterable(studies["views"]))
    images["path"] = pd.Series(views, index=images.index, dtype=object)
    paths = images["path"].unique()
    inspect = partial(_inspect_file, note=ViewNotes())
    n_threads = effective_n_jobs(n_jobs)
    rows = map_in_threads(inspect, paths, desc="images", unit="file", n_threads=n_threads)
    files = pd.DataFrame(rows, columns=FILE_COLUMNS, index=pd.Index(paths, dtype=object))
    files = files.astype({"width": "Int32", "height": "Int32"})
    return images.join(files, on="path").reset_index(drop=True)


def find_duplicates(images: pd.DataFrame) -> pd.DataFrame:
    """Find views with exactly the same pixels.

    Parameters
    ----------
    images : DataFrame
        What `read_image_files` returns, with the columns ``study`` and ``split``.

    Returns
    -------
    DataFrame
        Views with at least one copy, without the columns about files. The first columns are
        ``group`` (from 1, shared by equal views), ``found`` ("across splits", "in several studies"
        of a split, or "within a study"; the widest that applies) and ``labels_differ``.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import find_duplicates
    >>> images = pd.DataFrame(
    ...     {
    ...         "study": ["a", "a", "b"],
    ...         "split": ["train", "train", "valid"],
    ...         "label": [0, 0, 1],
    ...         "view": [1, 2, 1],
    ...         "digest": ["1f", "2c", "1f"],
    ...     }
    ... )
    >>> find_duplicates(images)
       group          found  labels_differ study  split  label  view
    0      1  across splits           True     a  train      0     1
    1      1  across splits           True     b  valid      1     1
    """
    same = images[images["digest"].notna() & images.duplicated("digest", keep=False)]
    groups = same.groupby("digest", sort=False)
    n_splits, n_studies = (groups[name].transform("nunique") for name in ("split", "study"))
    found = pd.Series("within a study", index=same.index, dtype="str")
    found = found.mask(n_studies > 1, "in several studies").mask(n_splits > 1, "across splits")
    differ = groups["label"].transform("nunique") > 1 if "label" in same else False
    rows = same.drop(columns=FILE_COLUMNS, errors="ignore")
    first: dict[str, Any] = {"group": groups.ngroup() + 1, "found": found, "labels_differ": differ}
    for place, (name, values) in enumerate(first.items()):
        rows.insert(place, name, values)
    return rows.sort_values("group", kind="stable").reset_index(drop=True)


def _inspect_file(path: str, note: Note) -> tuple[Any, ...]:
    """Return the values of FILE_COLUMNS for one file."""
    try:
        view, *kind = describe_view(path, note=note)
    except (OSError, ValueError) as error:
        return (None, None, None, None, None, str(error).removeprefix(f"{printable(path)}: "))
    pixels = hashlib.blake2b(view.tobytes(), digest_size=16)
    pixels.update(repr(view.shape).encode())
    height, width = view.shape
    return (*kind, width, height, pixels.hexdigest(), None)
