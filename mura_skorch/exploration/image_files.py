"""Image files: a study table goes in; one row per view with size, mode and problem comes out."""

import hashlib
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from joblib import effective_n_jobs

from mura_skorch.data.images import image_format, read_view
from mura_skorch.utils.intensity import Note, ViewNotes
from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.text import printable

__all__ = ["find_duplicates", "read_image_files"]

KEPT = ["study", "split", "study_type", "patient", "label"]
FOUND = ["format", "mode", "width", "height", "digest", "problem"]


def read_image_files(studies: pd.DataFrame, *, n_jobs: int = -1) -> pd.DataFrame:
    """Open and decode every view of a table once, and say what it is.

    Parameters
    ----------
    studies : DataFrame
        A study table; of its columns ``study``, ``split``, ``study_type``, ``patient`` and
        ``label`` those that it has are kept.
    n_jobs : int, default=-1
        Threads; -1 takes one per core. Decoding releases Python's lock.

    Returns
    -------
    DataFrame
        One row per view: the columns kept, ``view`` (number in the study, from 1), ``path``,
        ``format`` and ``mode`` as Pillow or DICOM names them, ``width`` and ``height`` in pixels,
        upright, ``digest`` and ``problem``. A file that cannot be read has the reason in
        ``problem`` and missing values before it; else ``problem`` is missing.

    Notes
    -----
    The digest is taken of the grey pixels, as the network sees them, not of the file's bytes:
    copies are found that were compressed anew, stored in colour, or carry other metadata. It takes
    3 to 5 ms per core and file of 512 pixels (1 to 2 minutes for MURA on two cores) and no more
    memory than the views being decoded; no pixel is kept.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import read_image_files
    >>> files = read_image_files(pd.DataFrame({"views": [("no/such/image1.png",)]}))
    >>> files.loc[0, "problem"]
    'expected an image file, got no such file. Check the path, or copy the file again.'
    """
    kept = [name for name in KEPT if name in studies]
    n_views = studies["views"].map(len).to_numpy()
    images = studies[kept].iloc[np.repeat(np.arange(len(studies)), n_views)].reset_index(drop=True)
    images["view"] = [number + 1 for n in n_views for number in range(n)]
    # Objects, not pandas' texts, which hold no name in another encoding than UTF-8.
    views = list(chain.from_iterable(studies["views"]))
    images["path"] = pd.Series(views, index=images.index, dtype=object)
    paths = images["path"].unique()
    look_at = partial(_look_at, note=ViewNotes())
    n_threads = effective_n_jobs(n_jobs)
    rows = map_in_threads(look_at, paths, desc="images", unit="file", n_threads=n_threads)
    files = pd.DataFrame(rows, columns=FOUND, index=pd.Index(paths, dtype=object))
    files = files.astype({"width": "Int32", "height": "Int32"})
    return images.join(files, on="path").reset_index(drop=True)


def find_duplicates(images: pd.DataFrame) -> pd.DataFrame:
    """Return the views that show exactly the same pixels as another one.

    Parameters
    ----------
    images : DataFrame
        What `read_image_files` returns, with the columns ``study`` and ``split``.

    Returns
    -------
    DataFrame
        The rows of `images` with at least one equal, without those about files, and before them
        ``group`` (from 1, equal views share one), ``found`` ("across splits", "in several studies"
        of a split, or "within a study"; the widest that holds) and ``labels_differ``.

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
    rows = same.drop(columns=FOUND, errors="ignore")
    first: dict[str, Any] = {"group": groups.ngroup() + 1, "found": found, "labels_differ": differ}
    for place, (name, values) in enumerate(first.items()):
        rows.insert(place, name, values)
    return rows.sort_values("group", kind="stable").reset_index(drop=True)


def _look_at(path: str, note: Note) -> tuple[Any, ...]:
    """Return what stands in the columns FOUND for one file."""
    try:
        view = read_view(path, note=note)
        kind = image_format(path)
    except (OSError, ValueError) as error:
        return (*[None] * 5, str(error).removeprefix(f"{printable(path)}: "))
    pixels = hashlib.blake2b(view.tobytes(), digest_size=16)
    pixels.update(repr(view.shape).encode())
    height, width = view.shape
    return (*kind, width, height, pixels.hexdigest(), None)
