"""Studies whose prepared views are in memory, for predictions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from torch.utils.data import Dataset

from mura_skorch.data.dataset import StudyDataset
from mura_skorch.data.views import ArrayViews

__all__ = ["PreparedStudies"]


class PreparedStudies(Dataset):
    """Studies whose prepared views are in memory; predictions accept them in place of a table.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        ``study_type``, "" where unknown, and ``views``: one item per view, of any kind.
    views : dict of int to ndarray of shape (n_views, image_size, image_size), uint8
        For each image size of the classifiers that will predict, the views of all studies in order.

    Examples
    --------
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [(1, 2)]})
    >>> prepared = PreparedStudies(studies, {64: np.zeros((2, 64, 64), dtype=np.uint8)})
    >>> clf.predict_proba(prepared)  # doctest: +SKIP
    """

    def __init__(self, studies: pd.DataFrame, views: Mapping[int, np.ndarray]) -> None:
        self.studies = studies
        self.views = views

    def __len__(self) -> int:
        return len(self.studies)

    def dataset_for(self, net: Any) -> StudyDataset:
        """Return the dataset that a classifier makes of a table, with its size and type codes."""
        size = net.get_params_for("dataset")["image_size"]
        views = ArrayViews(self.views[size])
        return StudyDataset(self.studies, views=views, study_types=net.study_types_)
