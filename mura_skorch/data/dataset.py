"""Study dataset: a row of the table goes in, its prepared views, type code and label come out."""

import os
from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from skorch.dataset import Dataset
from torch.utils.data import Subset

from mura_skorch.data.cache import ViewCache, remembered
from mura_skorch.data.images import read_view
from mura_skorch.data.transforms import Prepare
from mura_skorch.data.unreadable import find_bad_views, leave_out
from mura_skorch.utils.intensity import ViewNotes

__all__ = ["StudyDataset", "base_of", "is_cached", "studies_of"]


class StudyDataset(Dataset):
    """Whole studies, read from disk one at a time.

    Parameters
    ----------
    studies : DataFrame
        A checked study table; the columns ``study_type`` and ``views`` are read.
    y : array-like of shape (n_studies,), optional
        Labels, 1 abnormal and 0 normal. None means ``studies["label"]`` where that column exists;
        unlabelled studies carry NaN.
    image_size : int, default=224
        Height and width of a prepared view in pixels.
    study_types : sequence of str, optional
        The types that index the loss weights, sorted. A type outside it gets the index
        ``len(study_types)``. None means the types of this table.
    cache : path, optional
        Folder of prepared views, see `mura_skorch.data.ViewCache`: filled when the dataset is
        made, so that no image is decoded twice. None reads the images each time.
    on_bad_view : {"raise", "skip"}, default="raise"
        "raise": reading a view that cannot be read raises. "skip": all views are decoded when the
        dataset is made, and those that cannot be read are left out of the table; where there is a
        cache, what was found is kept beside it.

    Attributes
    ----------
    studies : DataFrame
        The table, its ``label`` column replaced by `y` where that is given, without bad views.
    bad_views : DataFrame or None
        What was left out, see `mura_skorch.data.leave_out`; None where nothing was checked.
    n_views : ndarray of shape (n_studies,), int64
        Number of views of each study.
    """

    def __init__(
        self,
        studies: pd.DataFrame,
        y: ArrayLike | None = None,
        *,
        image_size: int = 224,
        study_types: Sequence[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_bad_view: Literal["raise", "skip"] = "raise",
    ) -> None:
        if on_bad_view not in ("raise", "skip"):
            raise ValueError(f"expected on_bad_view to be 'raise' or 'skip', got {on_bad_view!r}")
        studies = studies if y is None else studies.assign(label=np.asarray(y))
        self.bad_views = None
        if on_bad_view == "skip":
            paths = chain.from_iterable(studies["views"])
            bad = (
                find_bad_views(paths) if cache is None else remembered(cache, paths, find_bad_views)
            )
            studies, self.bad_views = leave_out(studies, bad)
        self.studies = studies
        self.image_size = image_size
        self.cache = cache
        self.on_bad_view = on_bad_view
        self.study_types = (
            sorted(studies["study_type"].unique()) if study_types is None else study_types
        )
        self.prepare = Prepare(image_size)
        self.notes = ViewNotes()
        self.n_views = studies["views"].map(len).to_numpy(dtype=np.int64)
        self.paths = PackedPaths(path for views in studies["views"] for path in views)
        self.first_path = np.concatenate([[0], np.cumsum(self.n_views)])
        self.prepared = None if cache is None else ViewCache(cache, self.paths, self.prepare)
        codes = {name: code for code, name in enumerate(self.study_types)}
        unseen = len(codes)
        self.codes = np.array([codes.get(name, unseen) for name in studies["study_type"]])
        if "label" in self.studies:
            labels = pd.to_numeric(self.studies["label"]).to_numpy(
                dtype=np.float32, na_value=np.nan
            )
        else:
            labels = np.full(len(studies), np.nan, dtype=np.float32)
        self.labels = labels
        # Where skorch's scorers without a cache look for what they score.
        self.X, self.y = studies, labels

    def __len__(self) -> int:
        return len(self.n_views)

    def __getitem__(self, index: int) -> tuple[dict[str, Any], float]:
        """Return one study.

        Parameters
        ----------
        index : int
            Row number in the table.

        Returns
        -------
        inputs : dict
            ``views``, a uint8 Tensor of shape (V, image_size, image_size), ``study_type``, int, and
            ``row``, int: `index`.
        label : float
            1.0, 0.0 or NaN.
        """
        part = slice(self.first_path[index], self.first_path[index + 1])
        if self.prepared is not None:
            views = np.array(self.prepared.views[part])
        else:
            paths = (self.paths[i] for i in range(part.start, part.stop))
            views = np.stack([self.prepare(read_view(path, note=self.notes)) for path in paths])
        inputs = {
            "views": torch.from_numpy(views),
            "study_type": int(self.codes[index]),
            "row": int(index),
        }
        return inputs, float(self.labels[index])

    def with_studies(self, studies: pd.DataFrame) -> Self:
        """Return a dataset of other studies with the same preparation and type codes."""
        return type(self)(
            studies,
            image_size=self.image_size,
            study_types=self.study_types,
            cache=self.cache,
            on_bad_view=self.on_bad_view,
        )


class PackedPaths(Sequence):
    """Paths as one array of bytes with offsets, read one at a time as str.

    Loader workers share the array, where a list of str would be copied page by page as its
    reference counts change; one long path does not widen the others.

    Parameters
    ----------
    paths : iterable of str or path-like
    """

    def __init__(self, paths):
        encoded = [os.fsencode(path) for path in paths]
        self.ends = np.cumsum([0, *map(len, encoded)])
        self.characters = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"expected a view from 0 to {len(self) - 1}, got {index}")
        return os.fsdecode(self.characters[self.ends[index] : self.ends[index + 1]].tobytes())


def studies_of(dataset: Any) -> pd.DataFrame:
    """Return the study table behind a dataset or a `Subset` of one, in the dataset's order.

    A table is its own.
    """
    if isinstance(dataset, pd.DataFrame):
        return dataset
    if isinstance(dataset, Subset):
        return studies_of(dataset.dataset).iloc[list(dataset.indices)]
    return dataset.studies


def base_of(dataset: Any) -> Any:
    """Return the dataset behind a `Subset` of any depth, or the dataset itself."""
    return base_of(dataset.dataset) if isinstance(dataset, Subset) else dataset


def is_cached(dataset: Any) -> bool:
    """Return whether a dataset, or the one behind a `Subset`, reads its views from a cache."""
    return getattr(base_of(dataset), "prepared", None) is not None
