"""The dataset of a study table: views, study type and label of one study at a time."""

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

from mura_skorch.data.cache import cached_unreadable
from mura_skorch.data.transforms import Prepare
from mura_skorch.data.unreadable import drop_unreadable, find_unreadable, insert_nan
from mura_skorch.data.views import CachedViews, FileViews, Views

__all__ = ["StudyDataset", "base_of", "is_cached", "prepare_views", "split_by_study", "studies_of"]


class StudyDataset(Dataset):
    """Complete studies with all their views.

    The constructor reads no image. `prepare` does once what reading needs; an estimator calls it
    in `fit` and in every prediction.

    Parameters
    ----------
    studies : DataFrame
        A checked study table; the columns ``study_type`` and ``views`` are read.
    y : array-like of shape (n_studies,), optional
        Labels, 1 abnormal and 0 normal. None means ``studies["label"]`` if there is such a column;
        unlabelled studies have NaN.
    views : FileViews, CachedViews or ArrayViews, optional
        Source of the prepared views, in the order of the table. None reads the files that the table
        names, through `cache` if that is given.
    image_size : int, default=224
        Height and width of a prepared view, in pixels. Ignored if `views` is given.
    study_types : sequence of str, optional
        The types that index the loss weights, sorted. A type that is not among them gets the index
        ``len(study_types)``. None means the types of this table.
    cache : path, optional
        Folder of caches, see `mura_skorch.data.CachedViews`. None decodes the images each time, and
        takes no addresses such as s3://bucket/image1.png.
    on_bad_view : {"raise", "skip"}, default="raise"
        How to handle unreadable images. "raise": reading one raises. "skip": `prepare` decodes all
        views and drops unreadable ones from the table; with a cache, their list is stored there.

    Attributes
    ----------
    studies : DataFrame
        The table, with `y` as its ``label`` column if that is given. After `prepare`, without
        dropped views and studies.
    views : FileViews, CachedViews or ArrayViews
        Source of the views.
    bad_views : DataFrame or None
        The dropped views, see `mura_skorch.data.drop_unreadable`; None if nothing was checked.
    n_views : ndarray of shape (n_studies,), int64
        Number of views of each study.
    """

    def __init__(
        self,
        studies: pd.DataFrame,
        y: ArrayLike | None = None,
        *,
        views: Views | None = None,
        image_size: int = 224,
        study_types: Sequence[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        on_bad_view: Literal["raise", "skip"] = "raise",
    ) -> None:
        if on_bad_view not in ("raise", "skip"):
            raise ValueError(f"expected on_bad_view to be 'raise' or 'skip', got {on_bad_view!r}")
        if views is not None and (cache is not None or on_bad_view == "skip"):
            raise ValueError(
                "expected views without a cache and with on_bad_view='raise', got both; leave "
                "views out to read the files of the table"
            )
        self.image_size = image_size
        self.cache = cache
        self.on_bad_view = on_bad_view
        self.bad_views: pd.DataFrame | None = None
        self.given_study_types = study_types
        self._set_studies(studies if y is None else studies.assign(label=np.asarray(y)), views)

    def _set_studies(self, studies: pd.DataFrame, views: Views | None) -> None:
        """Take a table and the source of its views."""
        self.studies = studies
        given = self.given_study_types
        self.study_types = sorted(studies["study_type"].unique()) if given is None else given
        self.n_views = studies["views"].map(len).to_numpy(dtype=np.int64)
        self.first_view = np.concatenate([[0], np.cumsum(self.n_views)])
        self.views = self._views_of_files() if views is None else views
        codes = {name: code for code, name in enumerate(self.study_types)}
        unseen = len(codes)
        self.codes = np.array([codes.get(name, unseen) for name in studies["study_type"]])
        if "label" in studies:
            labels = pd.to_numeric(studies["label"]).to_numpy(dtype=np.float32, na_value=np.nan)
        else:
            labels = np.full(len(studies), np.nan, dtype=np.float32)
        self.labels = labels
        # Where skorch's scorers without a cache look for what they score.
        self.X, self.y = studies, labels

    def _views_of_files(self) -> Views:
        paths = chain.from_iterable(self.studies["views"])
        if self.cache is None:
            return FileViews(paths, self.image_size)
        return CachedViews(self.cache, paths, self.image_size)

    def prepare(self) -> Self:
        """Drop unreadable views if asked to, and fill the cache if there is one.

        A second call does nothing. Call it before taking a `Subset`: rows change when studies are
        dropped.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            No view can be read, or the cache meets one that cannot.
        FileNotFoundError, OSError
            As `mura_skorch.data.fill_cache`.
        """
        if self.on_bad_view == "skip" and self.bad_views is None:
            paths = chain.from_iterable(self.studies["views"])
            if self.cache is None:
                reasons = find_unreadable(paths)
            else:
                reasons = cached_unreadable(self.cache, paths, Prepare(self.image_size))
            studies, bad_views = drop_unreadable(self.studies, reasons)
            if len(bad_views):
                self._set_studies(studies, None)
            self.bad_views = bad_views
        self.views.prepare()
        return self

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
        views = self.views[slice(self.first_view[index], self.first_view[index + 1])]
        inputs = {
            "views": torch.from_numpy(views),
            "study_type": int(self.codes[index]),
            "row": int(index),
        }
        return inputs, float(self.labels[index])

    def with_studies(self, studies: pd.DataFrame) -> Self:
        """Return a dataset of other studies with the same settings and type codes.

        Call its `prepare` before use.

        Parameters
        ----------
        studies : DataFrame
            A checked study table.

        Returns
        -------
        StudyDataset
            It reads the files that the table names.
        """
        return type(self)(
            studies,
            image_size=self.image_size,
            study_types=self.study_types,
            cache=self.cache,
            on_bad_view=self.on_bad_view,
        )


def prepare_views(dataset: Any) -> Any:
    """Prepare the views of a dataset, or of the one behind a `Subset`, and return the dataset.

    Parameters
    ----------
    dataset : Dataset
        Other classes than `StudyDataset` are returned unchanged.

    Raises
    ------
    ValueError
        It is a `Subset`, and preparing would drop studies, which changes the row numbers.
    """
    base = base_of(dataset)
    if not isinstance(base, StudyDataset):
        return dataset
    n_studies = len(base)
    base.prepare()
    if base is not dataset and len(base) != n_studies:
        raise ValueError(
            f"expected a Subset of a prepared dataset, got one whose {n_studies:,} studies became "
            f"{len(base):,}; call prepare() of the dataset before you take the Subset"
        )
    return dataset


def studies_of(dataset: Any) -> pd.DataFrame:
    """Return the study table of a dataset or of a `Subset` of one, in the dataset's order.

    A table is returned as it is.
    """
    if isinstance(dataset, pd.DataFrame):
        return dataset
    if isinstance(dataset, Subset):
        return studies_of(dataset.dataset).iloc[list(dataset.indices)]
    return dataset.studies


def split_by_study(values: np.ndarray, dataset: Any, X: Any) -> list[np.ndarray]:
    """Return the values of all views as one array per study.

    Parameters
    ----------
    values : ndarray of shape (n_views, ...)
        One row for each view of the dataset.
    dataset : Dataset
        What was computed.
    X : DataFrame or Dataset
        What the user passed. If it is the dataset itself, views that it left out stay out.

    Returns
    -------
    list of ndarray
        NaN for views that were left out.
    """
    ends = studies_of(dataset)["views"].map(len).cumsum().to_numpy()
    bad_views = None if dataset is X else getattr(dataset, "bad_views", None)
    return insert_nan(np.split(values, ends[:-1]), bad_views)


def base_of(dataset: Any) -> Any:
    """Return the dataset behind a `Subset` of any depth, or the dataset itself."""
    return base_of(dataset.dataset) if isinstance(dataset, Subset) else dataset


def is_cached(dataset: Any) -> bool:
    """Return whether the views of a dataset, or of the one behind a `Subset`, are decoded."""
    return getattr(getattr(base_of(dataset), "views", None), "is_decoded", False)
