"""Split a dataset into training and validation parts that share no patient."""

import warnings
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from itertools import chain
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupShuffleSplit
from torch.utils.data import Subset

from mura_skorch.data.dataset import StudyDataset, base_of, studies_of
from mura_skorch.studies.validation import check_no_repeated_file, check_studies
from mura_skorch.utils.arguments import short_repr
from mura_skorch.utils.identity import copied_files, file_codes, patient_keys, warn_of_lookalikes
from mura_skorch.utils.text import printable, some_names

__all__ = [
    "FirstFold",
    "PatientSplit",
    "ValidStudies",
    "as_split",
    "check_apart",
    "check_no_shared_patient",
]


class Splitter(Protocol):
    """The methods of a scikit-learn splitter that are used here."""

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        """Yield the rows of the two parts of each fold."""

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""


# Types of `train_split`, see `as_split`.
TrainSplit = Callable[..., Any] | Splitter | StudyDataset | pd.DataFrame | float | None

# Number of random splits; the one with the best shares of study types and labels is used.
N_TRIES = 32


class PatientSplit:
    """Hold out a share of the patients, stratified by study type and label.

    Parameters
    ----------
    valid_share : float, default=0.1
        Share of the patients to hold out, between 0 and 1. It is a minimum: scikit-learn rounds
        up, and 0.1 holds out 2 of 11 patients.
    random_state : int, default=0
        Seed of the split. It is not the estimator's seed: models with different seeds, and the
        candidates of a grid search, share one validation part.

    Notes
    -----
    scikit-learn's ``GroupShuffleSplit`` splits the patients 32 times. The result is the split
    whose validation part is closest to `valid_share` of each study type and label, by the
    chi-squared distance.
    """

    def __init__(self, valid_share: float = 0.1, random_state: int = 0) -> None:
        self.valid_share = valid_share
        self.random_state = random_state

    def __call__(self, dataset: Any, y: Any = None) -> tuple[Subset[Any], Subset[Any]]:
        """Return the training and the validation part, as subsets of the dataset.

        Parameters
        ----------
        dataset : StudyDataset
            Its table has a ``patient`` column.
        y : ignored
            The dataset holds the labels.

        Raises
        ------
        ValueError
            There are fewer than two patients, or none is left to train on.
        """
        if not 0 < self.valid_share < 1:
            raise ValueError(f"expected valid_share between 0 and 1, got {self.valid_share}")
        studies = studies_of(dataset).reset_index(drop=True)
        patient = patient_keys(studies["patient"])
        n_patients = len(set(patient))
        if n_patients < 2:
            raise ValueError(
                f"expected at least 2 patients to hold some out for validation, got {n_patients}; "
                "add studies, pass your own with train_split=ValidStudies(table), or train "
                "without validation with train_split=None"
            )
        stratum = studies.groupby(["study_type", "label"], observed=True).ngroup().to_numpy()
        wanted = np.bincount(stratum) * self.valid_share
        splitter = GroupShuffleSplit(
            N_TRIES,
            test_size=max(self.valid_share, 1 / n_patients),
            random_state=self.random_state,
        )

        def distance(split):
            found = np.bincount(stratum[split[1]], minlength=len(wanted))
            return np.sum((found - wanted) ** 2 / wanted)

        train, valid = min(splitter.split(studies, groups=patient), key=distance)
        return Subset(dataset, train), Subset(dataset, valid)

    def __repr__(self):
        return f"PatientSplit({self.valid_share}, random_state={self.random_state})"


class ValidStudies:
    """Use a fixed validation set; train on everything passed to `fit`.

    Parameters
    ----------
    studies : DataFrame
        A study table with labels that shares no patient with the training table.

    Examples
    --------
    >>> MuraClassifier(train_split=ValidStudies(valid))  # doctest: +SKIP
    """

    def __init__(self, studies: pd.DataFrame) -> None:
        self.studies = studies

    def __call__(self, dataset: Any, y: Any = None) -> tuple[Any, Any]:
        """Return the complete dataset, and one of the validation studies with its settings."""
        if not isinstance(self.studies, pd.DataFrame):
            raise TypeError(
                "expected a study table in ValidStudies, got "
                f"{short_repr(self.studies)}; pass what read_studies returns, or a DataFrame of "
                "your own"
            )
        if missing := {"patient", "label"} - set(self.studies):
            raise ValueError(
                f"expected columns patient and label in the validation table of ValidStudies, got "
                f"none called {' or '.join(sorted(missing))}"
            )
        studies, y = check_studies(self.studies, self.studies["label"])
        check_no_repeated_file(studies, y)
        return dataset, dataset.with_studies(studies.assign(label=y))

    def __repr__(self):
        return f"ValidStudies(<{len(self.studies)} studies>)"


class FirstFold:
    """Validate on the first fold of a scikit-learn splitter, grouped by patient.

    Parameters
    ----------
    splitter : splitter of scikit-learn
        Such as ``GroupKFold(5)`` or ``StratifiedGroupKFold(10)``; the patients are its groups. If
        it shuffles without a ``random_state``, 0 is used: each fit has the same fold.
    """

    def __init__(self, splitter: Any) -> None:
        self.splitter = splitter

    def __call__(self, dataset: Any, y: Any = None) -> tuple[Subset[Any], Subset[Any]]:
        """Return the training and the validation part, as subsets of the dataset.

        Parameters
        ----------
        dataset : StudyDataset
            Its table has the columns ``patient`` and ``label``.
        y : ignored
            The dataset holds the labels.
        """
        studies = studies_of(dataset).reset_index(drop=True)
        splitter = deepcopy(self.splitter)  # the user's random state does not advance
        if getattr(splitter, "random_state", 0) is None:
            splitter.random_state = 0
        label = studies["label"].to_numpy(dtype=int)
        patient = patient_keys(studies["patient"])
        try:
            train, valid = next(iter(splitter.split(studies, label, groups=patient)))
        except ValueError as error:
            raise ValueError(
                f"expected {len(studies)} studies of {len(set(patient))} patients that "
                f"train_split={self.splitter!r} can divide, got: {error}"
            ) from error
        return Subset(dataset, train), Subset(dataset, valid)

    def __repr__(self):
        return f"FirstFold({self.splitter!r})"


def as_split(given: Any) -> Callable[..., tuple[Any, Any]] | None:
    """Convert any value of ``train_split`` to a callable that splits a dataset.

    Parameters
    ----------
    given : object
        A share of the patients, such as 0.2; a table or dataset to validate on; a scikit-learn
        splitter, whose first fold is used; skorch's ``predefined_split`` of a table or dataset; any
        other callable of dataset and labels that returns the two parts; or None.

    Returns
    -------
    callable or None
        None means training on everything.

    Raises
    ------
    TypeError
        It is none of these.
    ValueError
        The share is not between 0 and 1.
    """
    if given is None or given is False:
        return None
    remedy = (
        "pass a share such as 0.2, a study table to validate on, PatientSplit(0.1), "
        "ValidStudies(table), a splitter of scikit-learn such as GroupKFold(5), "
        "predefined_split(table), or None"
    )
    if isinstance(given, Real) and not isinstance(given, Integral):
        if not 0 < float(given) < 1:
            raise ValueError(f"expected train_split as a share between 0 and 1, got {given}")
        return PatientSplit(float(given))
    if isinstance(given, partial):  # as predefined_split makes it
        held_out = given.keywords.get("valid_ds")
        given = held_out if _is_studies(held_out) else given
    if _is_studies(given):
        return ValidStudies(given if isinstance(given, pd.DataFrame) else studies_of(given))
    if isinstance(given, type):
        raise TypeError(
            f"expected train_split as an instance, got the class {given.__name__}; {remedy}"
        )
    if callable(given):
        return given
    if hasattr(given, "split") and hasattr(given, "get_n_splits"):
        return FirstFold(given)
    raise TypeError(f"expected train_split to split studies, got {short_repr(given)}; {remedy}")


def _is_studies(given):
    """Return whether a value is a study table, or a dataset of one."""
    return isinstance(given, pd.DataFrame) or isinstance(base_of(given), StudyDataset)


def check_no_shared_patient(train: Any, valid: Any) -> None:
    """Raise ValueError if a patient or a file is in both datasets."""
    check_apart(studies_of(train), studies_of(valid), "training and validation")


def check_apart(
    first: pd.DataFrame, second: pd.DataFrame, names: str = "the train and the valid split"
) -> None:
    """Raise ValueError if two study tables share a patient or a file.

    Parameters
    ----------
    first, second : DataFrame
        Study tables with ``patient`` and ``views``.
    names : str
        Names of the two tables in the message.

    Raises
    ------
    ValueError
        A patient is in both, see `mura_skorch.utils.identity.patient_keys`; or a file is, under
        any path; or a file in one has the same bytes as a file in the other.

    Warns
    -----
    UserWarning
        Patients differ only in leading zeros, or files within `first` have the same bytes.
    """
    keys = [patient_keys(table["patient"]) for table in (first, second)]
    if shared := set(keys[0]) & set(keys[1]):
        is_shared = np.isin(keys[0].astype(str), sorted(shared))
        written = dict(zip(keys[0][is_shared], first["patient"].to_numpy()[is_shared], strict=True))
        example = ""
        if "study" in first and "study" in second:
            studies = [
                table["study"].to_numpy()[own == min(shared)][0]
                for table, own in zip((first, second), keys, strict=True)
            ]
            example = ", the first in the studies " + " and ".join(some_names([s]) for s in studies)
        raise ValueError(
            f"expected {names} to share no patient, got {len(shared)} in both "
            f"({some_names([str(written[key]) for key in sorted(shared)])}){example}; split by the "
            "patient column, as PatientSplit does, or drop these patients from one"
        )
    warn_of_lookalikes([*keys[0], *keys[1]], stacklevel=3)
    paths = [list(chain.from_iterable(table["views"])) for table in (first, second)]
    codes = np.split(file_codes(chain(*paths)), [len(paths[0])])
    if common := set(codes[0].tolist()) & set(codes[1].tolist()):
        named = (
            path for path, code in zip(paths[1], codes[1].tolist(), strict=True) if code in common
        )
        raise ValueError(
            f"expected {names} to share no view, got {len(common)} in both, such as "
            f"{printable(min(named))}; their patients differ: correct the patient column"
        )
    _check_copies(paths[0], paths[1], names)


def _check_copies(first: list[str], second: list[str], names: str) -> None:
    """Raise if files of both lists have the same bytes; warn about copies within the first."""
    sides = [set(first), set(second)]
    copies = copied_files([*first, *second])
    if both := [group for group in copies if all(side & set(group) for side in sides)]:
        named = [
            f"{next(p for p in g if p in sides[0])} = {next(p for p in g if p in sides[1])}"
            for g in both
        ]
        raise ValueError(
            f"expected {names} to share no view, got {len(both)} in both as copies of the same "
            f"bytes: {some_names(named, width=1000)}; an image belongs to one patient: correct "
            "the patient column, or drop the copies"
        )
    within = [group for group in copies if sides[0] & set(group)]
    if within:
        named = [" = ".join(group) for group in within]
        warnings.warn(
            f"{sum(map(len, within)):,} views are copies of one another, {len(within):,} different "
            f"images: {some_names(named, width=1000)}; each counts as often as it occurs: drop the "
            "copies, or check that they are not placeholders",
            stacklevel=4,
        )
