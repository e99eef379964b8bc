"""Turn a checked study table into all that a fit needs to know of its data."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from skorch.utils import is_dataset

from mura_skorch.data.dataset import base_of, is_cached, prepare_views, studies_of
from mura_skorch.data.images import check_views
from mura_skorch.data.splits import check_no_shared_patient
from mura_skorch.data.unreadable import collect_unreadable
from mura_skorch.training.fingerprint import digest_of
from mura_skorch.utils.arguments import short_repr
from mura_skorch.utils.identity import patient_keys, warn_of_lookalikes

__all__ = ["ClassCounts", "FitData", "prepare_fit"]


class ClassCounts(NamedTuple):
    """What a loss counts in the training part to weight the classes; one entry per study.

    Attributes
    ----------
    study_type : ndarray of shape (n_studies,), int
        Index of the study's type.
    label : ndarray of shape (n_studies,), int
        1 abnormal, 0 normal.
    n_views : ndarray of shape (n_studies,), int
        Number of views.
    """

    study_type: np.ndarray
    label: np.ndarray
    n_views: np.ndarray


@dataclass(frozen=True, eq=False)
class FitData:
    """The data of one fit, which its callbacks receive as ``data`` in `on_train_begin`.

    Attributes
    ----------
    train : Dataset
        The training part.
    valid : Dataset or None
        The validation part.
    study_types : list of str
        All types that the estimator has seen, sorted.
    class_counts : ClassCounts
        Of the training part.
    unreadable : DataFrame or None
        The views that were left out; None if unreadable views raise an error.
    train_digest, valid_digest : str
        Digests that identify the studies of a part and their order. Computed when first read.
    """

    train: Any
    valid: Any
    study_types: list[str]
    class_counts: ClassCounts
    unreadable: pd.DataFrame | None

    @cached_property
    def train_digest(self) -> str:
        """Digest of the training part."""
        return digest_of(self.train)

    @cached_property
    def valid_digest(self) -> str:
        """Digest of the validation part."""
        return digest_of(self.valid)


def prepare_fit(
    X: Any,
    y: np.ndarray | None,
    *,
    make_dataset: Callable[..., Any],
    split: Callable[..., Any] | None,
    known_types: Iterable[str] = (),
    trained_patients: Collection[str] = (),
    rule: str | None = None,
    skip_unreadable: bool = False,
    max_bad_share: float = 0.0,
    **split_params: Any,
) -> FitData:
    """Split a study table and check the parts. Nothing is changed; images are read from disk.

    Parameters
    ----------
    X : DataFrame or Dataset
        A checked study table, or a dataset of one.
    y : ndarray of shape (n_studies,), int, or None
        Labels. None means those of the table.
    make_dataset : callable
        Returns the dataset of a table, labels and study types.
    split : callable or None
        Returns the training part and the validation part of a dataset. None trains on everything.
    known_types : iterable of str
        Study types of earlier calls.
    trained_patients : collection of str
        Keys of patients that earlier calls trained on.
    rule : str or None
        A rule that chooses the threshold on the validation part.
    skip_unreadable : bool, default=False
        Whether the datasets leave out unreadable views.
    max_bad_share : float, default=0.0
        Largest share of views of a dataset that may be left out.
    **split_params
        Passed to `split`.

    Returns
    -------
    FitData

    Raises
    ------
    TypeError
        `split` returns no pair.
    ValueError
        Patients cannot be split, the parts share a patient or a file, the validation part holds
        patients that were trained on, a rule has no validation part, an image cannot be read, or
        too many views are left out.
    FileNotFoundError
        An image is missing.
    """
    study_types = sorted({*known_types, *studies_of(X)["study_type"]})
    dataset = X if is_dataset(X) else make_dataset(X, y, study_types)
    if skip_unreadable:
        _check_both_classes(studies_of(dataset))
    train, valid = _divide(dataset, y, split, split_params)
    if valid is None and rule is not None:
        raise ValueError(
            f"expected validation data to choose the threshold by {rule!r} on, got none; pass a "
            "number, or a train_split"
        )
    parts = [prepare_views(part) for part in (train, valid) if part is not None]
    unreadable = None
    if skip_unreadable:  # which decoded every view
        unreadable = collect_unreadable(map(base_of, parts), max_bad_share)
    if valid is not None:
        check_no_shared_patient(train, valid)
        _check_never_trained_on(valid, trained_patients)
    if not skip_unreadable:
        unread = [studies_of(part)["views"] for part in parts if not is_cached(part)]
        check_views(chain.from_iterable(chain.from_iterable(unread)))
    counts = _count_classes(studies_of(train), study_types)
    return FitData(train, valid, study_types, counts, unreadable)


def _check_both_classes(studies):
    """Raise if all studies of a class were left out."""
    found = set(studies["label"].astype(int))
    if len(found) < 2:
        raise ValueError(
            f"expected labels 0 and 1, got only {found.pop()} in the {len(studies):,} studies with "
            "readable views; repair the files of the others"
        )


def _divide(dataset, y, split, split_params):
    """Return the training and the validation part of a dataset; the latter may be None."""
    if split is None:
        return dataset, None
    parts = split(dataset, y, **split_params)
    if not isinstance(parts, tuple | list) or len(parts) != 2:
        raise TypeError(
            "expected train_split to return a pair, the training part and the validation part "
            f"or None, got {short_repr(parts)}"
        )
    return parts


def _check_never_trained_on(valid, trained_patients):
    """Raise if an earlier call of `partial_fit` trained on patients of the validation part."""
    if not trained_patients:
        return
    keys = set(patient_keys(studies_of(valid)["patient"]))
    warn_of_lookalikes(keys | set(trained_patients))
    known = keys & set(trained_patients)
    if known:
        raise ValueError(
            f"expected to validate on patients that the model was never trained on, got "
            f"{len(known):,} that an earlier call was; pass train_split=ValidStudies(table) "
            "with the same table at every call, or None"
        )


def _count_classes(studies, study_types):
    codes = pd.Categorical(studies["study_type"], categories=study_types).codes
    return ClassCounts(
        codes.astype(int),
        studies["label"].to_numpy(dtype=int),
        studies["views"].map(len).to_numpy(),
    )
