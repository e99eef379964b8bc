"""Compute the mean intensity and the size of the views of each study."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import pandas as pd

from mura_skorch.data.images import read_view
from mura_skorch.utils.intensity import Note, ViewNotes
from mura_skorch.utils.progress import map_in_threads

__all__ = ["view_statistics"]

STATISTICS = ["mean_intensity", "height", "width"]


def view_statistics(studies: pd.DataFrame) -> pd.DataFrame:
    """Return intensity and size of each study, for `mura_skorch.evaluation.shortcut_scores`.

    Parameters
    ----------
    studies : DataFrame
        A study table; the column ``views`` is read.

    Returns
    -------
    DataFrame
        ``mean_intensity`` (grey values from 0 to 255), ``height`` and ``width`` (pixels), float64.
        Each is the mean over the study's views at their original size. The index is that of
        `studies`: ``studies.join(view_statistics(studies))``.

    Raises
    ------
    FileNotFoundError, ValueError
        If a view cannot be read, see :func:`mura_skorch.data.read_view`.

    Examples
    --------
    >>> import tempfile
    >>> from mura_skorch import read_studies, write_phantoms
    >>> from mura_skorch.data.view_statistics import view_statistics
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     root = write_phantoms(
    ...         f"{folder}/P", n_train=2, n_valid=0, n_test=0, study_types=["XR_HAND"]
    ...     )
    ...     view_statistics(read_studies(root)).columns.tolist()
    ['mean_intensity', 'height', 'width']
    """
    statistics = partial(_statistics, note=ViewNotes())
    rows = map_in_threads(statistics, studies["views"], desc="view statistics", unit="study")
    return pd.DataFrame(rows, columns=STATISTICS, index=studies.index, dtype=float)


def _statistics(views: Iterable[str], note: Note) -> np.ndarray:
    """Return mean grey value, height and width of a study, each the mean over its views."""
    images = (read_view(path, note=note) for path in views)
    return np.mean([(image.mean(), *image.shape) for image in images], axis=0)
