"""Split conformal triage: call a study normal or abnormal, or leave it to a reader.

The limits of a study type are order statistics of the scores of local, labelled studies. They keep
a promised error rate on studies that are drawn like the local ones, however good the model is.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import beta

from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores
from mura_skorch.studies.columns import TRIAGE
from mura_skorch.utils.identity import patient_codes
from mura_skorch.utils.text import printable

__all__ = ["Triage", "TypeLimits", "fit_triage", "patients_needed", "view_disagreement"]

NORMAL, ABNORMAL, LOOK = TRIAGE
CAVEAT = (
    "The promise holds for patients like the local ones. Another hospital, another scanner, "
    "another way to choose or to label patients, or a later year can break it without a sign. "
    "Choose the limits again there, on labelled studies of that place."
)


@dataclass(frozen=True)
class TypeLimits:
    """The limits of one study type.

    Attributes
    ----------
    normal_below, abnormal_above : float or None
        Studies with a probability strictly below the first are normal, those strictly above the
        second abnormal. None: too few local patients, so that every study is left to a reader.
    n_normal, n_abnormal : int
        Local patients with a normal, and with an abnormal, study of this type.
    """

    normal_below: float | None
    abnormal_above: float | None
    n_normal: int
    n_abnormal: int

    @property
    def is_open(self) -> bool:
        """Whether the type has limits."""
        return self.normal_below is not None


@dataclass(frozen=True)
class Triage:
    """Limits of probabilities by study type, with the error rate that they promise.

    Attributes
    ----------
    error_rate : float
        Of a type's abnormal studies at most this share is called normal, and of its normal studies
        at most this share abnormal, see Notes.
    limits : dict of str to TypeLimits
        The limits by study type.
    chosen_on : dict of str to str
        Digests of the local studies, by type, to recognise them later.

    See Also
    --------
    fit_triage : Choose the limits.

    Notes
    -----
    The promise is that of split conformal prediction within study types and labels [1]_ [2]_. It
    is about one study of a new patient, of whom training and local studies hold nothing, and it is
    an average over the draws of local studies. With one draw of n local patients the error rate is
    itself a chance value, of the distribution beta(k, n + 1 - k) with k = floor((n + 1) *
    error_rate): `spread` gives its range.

    What it needs is that the new patient is drawn like the local ones: the same hospital, scanners,
    way to choose patients and way to label. Another share of abnormal studies does not break it,
    since each label keeps its own rate. It says nothing of groups within a type, such as children.

    References
    ----------
    .. [1] Vovk, "Conditional validity of inductive conformal predictors", Machine Learning 92,
       2013.
    .. [2] Sadinle, Lei and Wasserman, "Least ambiguous set-valued classifiers with bounded error
       levels", Journal of the American Statistical Association 114, 2019.
    """

    error_rate: float
    limits: dict[str, TypeLimits]
    chosen_on: dict[str, str] = field(default_factory=dict)

    def decide(self, y_score: ArrayLike, study_type: Iterable[str]) -> np.ndarray:
        """Return "normal", "abnormal" or "look yourself" for each study.

        Parameters
        ----------
        y_score : array-like of shape (n_studies,)
            Probabilities of abnormality from the model that the limits were chosen for.
        study_type : iterable of n_studies str
            Study types. Types without limits are left to a reader.

        Returns
        -------
        ndarray of shape (n_studies,), object
        """
        found = [self.limits.get(name) for name in study_type]
        below = np.array(
            [-1.0 if own is None or not own.is_open else own.normal_below for own in found]
        )
        above = np.array(
            [2.0 if own is None or not own.is_open else own.abnormal_above for own in found]
        )
        score = np.asarray(y_score, dtype=np.float64)
        answers = np.full(len(score), LOOK, dtype=object)
        answers[score < below] = NORMAL
        answers[score > above] = ABNORMAL
        return answers

    @property
    def closed_types(self) -> dict[str, TypeLimits]:
        """The study types with too few local patients, by name."""
        return {name: own for name, own in self.limits.items() if not own.is_open}

    def reason(self, answer: str, study_type: str) -> str | None:
        """Return why a study is left to a reader; None if it is not."""
        if answer != LOOK:
            return None
        own = self.limits.get(study_type)
        if own is None:
            return "no local studies of this type"
        return "between the limits" if own.is_open else "too few local patients of this type"

    def spread(self, n: int) -> tuple[float, float]:
        """Return where the error rate lies for 95 % of draws of n local patients of a label."""
        k = _rank(n, self.error_rate)
        if not k:
            return 0.0, 0.0
        low, high = beta.ppf([0.025, 0.975], k, n + 1 - k)
        return float(low), float(high)

    def describe(self) -> list[str]:
        """Return sentences: the promise, what it rests on by study type, what breaks it."""
        rate = f"{100 * self.error_rate:g} %"
        found = [
            f"Triage: of abnormal studies of a type at most {rate} are called normal, of normal "
            f"ones at most {rate} abnormal; the others are left to a reader. This is the promise "
            "for one study of a new patient, on average over draws of local studies."
        ]
        for name, own in sorted(self.limits.items()):
            if not own.is_open:
                continue
            worst = (f"{100 * self.spread(n)[1]:.1f} %" for n in (own.n_abnormal, own.n_normal))
            found.append(
                f"Triage of {printable(name)}: normal below {own.normal_below:.4g}, abnormal above "
                f"{own.abnormal_above:.4g}, from {own.n_abnormal:,} patients with abnormal and "
                f"{own.n_normal:,} with normal local studies. With so many, the two error rates "
                "stay below {} and {} in 97.5 % of draws.".format(*worst)
            )
        if self.closed_types:
            found.append(
                f"Triage leaves every study of {_counts(self.closed_types)} to a reader: {rate} "
                f"needs {patients_needed(self.error_rate)} local patients of each label."
            )
        return [*found, f"Triage: {CAVEAT}"]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can store."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Return the triage that `to_dict` gave, checked by `check_operating_point`."""
        limits = {name: TypeLimits(**own) for name, own in saved["limits"].items()}
        return cls(saved["error_rate"], limits, saved["chosen_on"])


def fit_triage(
    y_true: ArrayLike,
    y_score: ArrayLike,
    study_type: ArrayLike,
    groups: ArrayLike,
    keys: Iterable[object],
    *,
    error_rate: float = 0.05,
    threshold: float = 0.5,
) -> Triage:
    """Choose the limits of each study type on labelled studies.

    Parameters
    ----------
    y_true : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Probabilities of abnormality, in [0, 1].
    study_type : array-like of shape (n_studies,)
        Study types.
    groups : array-like of shape (n_studies,)
        Patients. Of each patient one study of a type and label is used.
    keys : iterable of n_studies objects
        What names each study. A hash of it draws the study of a patient, so that neither scores nor
        the order of the rows matter.
    error_rate : float, default=0.05
        The promise, above 0 and below 1.
    threshold : float, default=0.5
        Where the limits overlap, since the model is better than the promise asks for, both become
        the number of the overlap that is nearest to this one. No study is then left to a reader.

    Returns
    -------
    Triage

    Raises
    ------
    ValueError
        The error rate is not above 0 and below 1, lengths differ, a label is not 0 or 1, or no
        study type has enough patients.

    Notes
    -----
    Let p be the sorted scores of the n abnormal studies of a type, one of each patient, and
    k = floor((n + 1) * error_rate). A study is called normal below p[k], counted from 1. A new
    abnormal study is equally likely to rank at each of n + 1 places, so that it is below with
    probability k / (n + 1). The same holds for normal studies from above. Without k >= 1 nothing
    can be promised: see `patients_needed`.

    Examples
    --------
    >>> found = fit_triage(
    ...     [0, 0, 0, 1, 1, 1], [0.1, 0.2, 0.6, 0.4, 0.8, 0.9], ["XR_HAND"] * 6, range(6), range(6),
    ...     error_rate=0.25,
    ... )
    >>> found.decide([0.3, 0.5, 0.7], ["XR_HAND"] * 3).tolist()
    ['normal', 'look yourself', 'abnormal']
    """
    needed = patients_needed(error_rate)
    labels, scores = check_binary(y_true, "y_true"), check_scores(y_score)
    types, keys = np.asarray(study_type, dtype=object), list(keys)
    check_lengths(y_true=labels, y_score=scores, study_type=types, groups=groups, keys=keys)
    patients = patient_codes(groups)
    limits = {}
    for name in sorted(set(types)):
        own = {
            label: np.sort(
                scores[_one_of_each_patient((types == name) & (labels == label), patients, keys)]
            )
            for label in (0, 1)
        }
        limits[name] = _limits(own[0], own[1], error_rate, threshold)
    if not any(own.is_open for own in limits.values()):
        raise ValueError(
            f"expected at least {needed} patients with normal and {needed} with abnormal studies "
            f"of a type for an error rate of {error_rate:g}, got "
            f"{_counts(limits) or 'no studies'}; add local studies, or promise a higher error rate"
        )
    return Triage(float(error_rate), limits)


def patients_needed(error_rate: float) -> int:
    """Return how many local patients of each label a study type needs for an error rate.

    Parameters
    ----------
    error_rate : float
        The promise, above 0 and below 1.

    Returns
    -------
    int
        The smallest n with ceil((n + 1) * (1 - error_rate)) <= n.

    Raises
    ------
    ValueError
        The error rate is not above 0 and below 1.

    Examples
    --------
    >>> patients_needed(0.05), patients_needed(0.01)
    (19, 99)
    """
    is_number = isinstance(error_rate, int | float) and not isinstance(error_rate, bool)
    if not is_number or not 0 < error_rate < 1:
        raise ValueError(
            f"expected an error rate above 0 and below 1, such as 0.05, got {error_rate!r}"
        )
    return math.ceil(1 / _exact(error_rate)) - 1


def view_disagreement(view_proba: Sequence[np.ndarray]) -> np.ndarray:
    """Return the largest minus the smallest probability of each study's views.

    Parameters
    ----------
    view_proba : sequence of n_studies ndarray of shape (n_views,)
        Probabilities; NaN for views that could not be read.

    Returns
    -------
    ndarray of shape (n_studies,), float64
        NaN for studies of one readable view.

    Examples
    --------
    >>> view_disagreement([np.array([0.25, 0.75]), np.array([0.5])]).tolist()
    [0.5, nan]
    """
    readable = [np.asarray(own, dtype=float)[~np.isnan(own)] for own in view_proba]
    return np.array([np.ptp(own) if len(own) > 1 else np.nan for own in readable])


def _counts(limits):
    """Name study types with the numbers of their local patients."""
    return "; ".join(
        f"{printable(name)} ({own.n_normal} normal, {own.n_abnormal} abnormal)"
        for name, own in sorted(limits.items())
    )


def _exact(error_rate):
    """Return the decimal number that the user wrote: in floats, 100 * 0.29 is below 29."""
    return Fraction(str(float(error_rate)))


def _rank(n, error_rate):
    """Return the rank of the limit among n scores, counted from the worst; 0 if there is none."""
    return math.floor((n + 1) * _exact(error_rate))


def _limits(normal, abnormal, error_rate, threshold):
    """Return the limits of a type from the sorted scores of its normal and abnormal studies."""
    sizes = len(normal), len(abnormal)
    k_normal, k_abnormal = (_rank(n, error_rate) for n in sizes)
    if not k_normal or not k_abnormal:
        return TypeLimits(None, None, *sizes)
    below, above = float(abnormal[k_abnormal - 1]), float(normal[-k_normal])
    if below > above:
        below = above = min(max(float(threshold), above), below)
    return TypeLimits(below, above, *sizes)


def _one_of_each_patient(is_used, patients, keys):
    """Return the rows of one study of each patient, drawn by a hash of the studies' keys."""
    rows = np.flatnonzero(is_used).tolist()
    drawn: dict[int, int] = {}
    for row in sorted(rows, key=lambda row: hashlib.sha256(str(keys[row]).encode()).digest()):
        drawn.setdefault(patients[row], row)
    return np.array(sorted(drawn.values()), dtype=int)


def study_keys(studies: pd.DataFrame) -> list[object]:
    """Return what names each study: its key, or its views in a table without keys."""
    return studies["study"].tolist() if "study" in studies else studies["views"].tolist()
