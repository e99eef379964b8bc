"""Ensemble: fitted classifiers of studies go in, one estimator that averages them comes out."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_expit, logsumexp
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from mura_skorch._version import __version__
from mura_skorch.calibration.operating_point import check_rule
from mura_skorch.calibration.threshold_mixin import ThresholdMixin, probabilities
from mura_skorch.classifier import MuraClassifier
from mura_skorch.models.serialization import (
    CONFIG_FILE,
    check_operating_point,
    read_json,
    tell_replaced,
)
from mura_skorch.studies.columns import join_notes
from mura_skorch.studies.validation import check_studies
from mura_skorch.tracking.artifacts import ModelSource, fetch_model
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.text import printable

__all__ = ["MuraEnsemble", "best_valid_loss", "load_model"]

ENSEMBLE_FILE = "ensemble.json"
# Raised when a folder written by this version cannot be read by the one before.
FORMAT = 1


class MuraEnsemble(ThresholdMixin, VotingClassifier):
    """Average of fitted classifiers of studies: scikit-learn's soft voting.

    Parameters
    ----------
    estimators : list of (str, estimator) tuples
        Names and members. Members that are wrapped in scikit-learn's ``FrozenEstimator``, as
        `of` does it, are never trained again; others are cloned and trained by `fit`.
    threshold : float, "youden" or "sensitivity=0.95", default=0.5
        Studies with a mean probability strictly above are abnormal. A rule is applied by
        `recalibrate`; `fit` holds no studies out that it could use.

    Attributes
    ----------
    estimators_ : list of estimators
        The members.
    slope_, intercept_ : float
        1.0 and 0.0, or what `recalibrate` has fitted: the line that calibrates the logit of the
        mean probability. The members' own calibrations come before.
    prior_correction_ : bool
        Whether members without a calibration of their own are corrected for their class weights.

    See Also
    --------
    MuraEnsemble.of : Make one of fitted classifiers.

    Examples
    --------
    >>> members = [MuraClassifier(random_state=k).fit(train) for k in range(5)]  # doctest: +SKIP
    >>> MuraEnsemble.of(members).predict_proba(valid)[:, 1]  # doctest: +SKIP
    """

    # Parameters of scikit-learn's class that are no choice here.
    voting = "soft"
    weights = n_jobs = None
    flatten_transform = True
    verbose = False
    _parameter_constraints = {"estimators": [list], "threshold": "no_validation"}  # noqa: RUF012

    def __init__(self, estimators: list[tuple[str, Any]], *, threshold: float | str = 0.5) -> None:
        self.estimators = estimators
        self.threshold = threshold

    @classmethod
    def of(cls, members: Iterable[MuraClassifier], *, threshold: float | str = 0.5) -> Self:
        """Return an ensemble, ready to predict, of fitted classifiers that stay as they are.

        Parameters
        ----------
        members : sequence of MuraClassifier
            Fitted or loaded; one at least.
        threshold : float, default=0.5
            As for the class.
        """
        estimators = [(f"member_{i}", FrozenEstimator(net)) for i, net in enumerate(members)]
        ensemble = cls(estimators, threshold=threshold)
        ensemble._fit(None, [0, 1])
        return ensemble

    def fit(self, X: pd.DataFrame, y: ArrayLike | None = None) -> Self:
        """Train the members that are not frozen.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table.
        y : array-like of shape (n_studies,), optional
            1 abnormal, 0 normal. None means ``X["label"]``.

        Returns
        -------
        self
        """
        return self._fit(*check_studies(X, y, for_fit=True))

    def _fit(self, X, y):
        check_rule(self.threshold)
        self.reset_operating_point()
        return super().fit(X, y)

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the means of the members' probabilities, calibrated after `recalibrate`.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, 2), float32
            Probabilities of normality and of abnormality; float64 after `recalibrate`.
        """
        return self.predict_with_views(X)[0] if self.is_rescaled_ else super().predict_proba(X)

    def predict_view_proba(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return the mean over members of the probability of every view.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table.

        Returns
        -------
        list of ndarray of shape (n_views,), float32
            One array per study; calibrated as the studies are, in float64, after `recalibrate`.
        """
        return self.predict_with_views(X)[1]

    def predict_with_views(self, X: pd.DataFrame) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return what `predict_proba` and `predict_view_proba` do, of one pass of each member.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table.

        Returns
        -------
        proba : ndarray of shape (n_studies, 2), float32
        view_proba : list of ndarray of shape (n_views,), float32
            Both float64 after `recalibrate`.
        """
        check_is_fitted(self)
        if self.is_rescaled_:
            return probabilities(*self.logits_with_views(X))
        probas, of_views = zip(*(m.predict_with_views(X) for m in self.estimators_), strict=True)
        means = [np.mean(arrays, axis=0) for arrays in zip(*of_views, strict=True)]
        return np.average(np.asarray(probas), axis=0), means

    def logits_with_views(
        self, X: pd.DataFrame, *, prior_correction: bool = False
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the logits of the mean probabilities of studies and views, calibrated.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table.
        prior_correction : bool, default=False
            As for `recalibrate`, of members that have no calibration of their own.

        Returns
        -------
        logit : ndarray of shape (n_studies,), float64
        view_logit : list of ndarray of shape (n_views,), float64
        """
        corrects = prior_correction or self.prior_correction_
        pairs = [m.logits_with_views(X, prior_correction=corrects) for m in self.estimators_]
        logits, of_views = zip(*pairs, strict=True)
        ends = np.cumsum([len(own) for own in of_views[0]])
        mean = _mean_logit([np.concatenate(own) for own in of_views])
        return self.rescale(_mean_logit(logits)), np.split(self.rescale(mean), ends[:-1])

    def prior_shift(self, study_types: Iterable[str] = ()) -> np.ndarray:
        """Return the mean over members of `MuraClassifier.prior_shift`."""
        return np.mean([member.prior_shift(study_types) for member in self.estimators_], axis=0)

    def localize(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return the mean over members of the class activation maps of every view.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table.

        Returns
        -------
        list of ndarray of shape (n_views, h, w), float32
            One array per study, in logits. A map's mean plus the mean bias of the members' last
            layers is the mean of the members' logits of that view. That is not the logit of the
            view's mean probability, which no sum over pixels gives.
        """
        of_members = [member.localize(X) for member in self.estimators_]
        return [np.mean(arrays, axis=0) for arrays in zip(*of_members, strict=True)]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the ensemble to a folder, each member as `MuraClassifier.save` does.

        Parameters
        ----------
        folder : path
            Made where it is missing. ``ensemble.json`` lists the members in order, with MLflow
            run, seed and lowest validation loss; it is written last.
        """
        folder = Path(folder)
        tell_replaced(folder / ENSEMBLE_FILE)
        rows = []
        names = [name for name, member in self.estimators if member != "drop"]
        for name, member in zip(names, self.estimators_, strict=True):
            member.write(folder / name)
            rows.append(
                {
                    "folder": name,
                    "run_id": member.run_id_,
                    "random_state": member.seed_,
                    "valid_loss": best_valid_loss(member),
                }
            )
        config = {
            "format": FORMAT,
            "mura_skorch": __version__,
            "note": self.note_,
            "threshold": self.threshold,
            "operating_point": self.operating_point(),
            "members": rows,
        }
        write_text(folder / ENSEMBLE_FILE, json.dumps(config, indent=2, default=float))

    @classmethod
    def load(
        cls, source: ModelSource, *, threshold: float | str | None = None, **params: Any
    ) -> Self:
        """Return an ensemble that predicts as the saved one does.

        Parameters
        ----------
        source : path, str or mlflow.entities.Run
            A folder written by `save`, an MLflow run whose model it is, or its id.
        threshold : float, optional
            To use instead of the saved one.
        **params
            Parameters of every member, such as ``device``.

        Returns
        -------
        MuraEnsemble

        Raises
        ------
        FileNotFoundError
            There is no saved ensemble.
        ValueError
            It is damaged, foreign or of a later format.
        """
        with fetch_model(source) as folder:
            return cls._load(folder, threshold, params)

    @classmethod
    def _load(cls, folder, threshold, params):
        file = folder / ENSEMBLE_FILE
        if not file.is_file():
            raise FileNotFoundError(
                f"expected a folder written by MuraEnsemble.save, got {folder}: it has no "
                f"{ENSEMBLE_FILE}; check the path, or open a single classifier with load_model"
            )
        try:
            config = read_json(file)
            names = [row["folder"] for row in config["members"]]
            rule, saved, found = (config[k] for k in ("threshold", "operating_point", "format"))
            if not names or any(Path(name).name != name or name in ("", "..") for name in names):
                raise ValueError(f"its members are {names!r:.200}, not names of folders in it")
            check_operating_point(saved)
            check_rule(rule)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"expected an ensemble saved by MuraEnsemble.save, got a damaged or foreign file "
                f"{printable(file)} ({printable(repr(error))}); save it again"
            ) from error
        if found != FORMAT:
            raise ValueError(
                f"expected an ensemble of format {FORMAT}, got format {found} in {file}, written "
                f"by mura_skorch {config.get('mura_skorch')}; this is {__version__}: install that "
                "version"
            )
        members = [MuraClassifier.load(folder / name, **params) for name in names]
        ensemble = cls.of(members, threshold=rule if threshold is None else threshold)
        ensemble.set_operating_point(saved, rule)
        return ensemble

    @property
    def note_(self) -> str | None:
        """The notes of the data that the members saw, or None."""
        return join_notes(*(member.note_ for member in self.estimators_))


def _mean_logit(logits):
    """Return the logit of the mean of probabilities, precise where all are near 0 or 1."""
    return logsumexp(log_expit(logits), axis=0) - logsumexp(log_expit(np.negative(logits)), axis=0)


def load_model(source: ModelSource, **params: Any) -> MuraClassifier | MuraEnsemble:
    """Return what was saved, one classifier or an ensemble.

    Parameters
    ----------
    source : path, str or mlflow.entities.Run
        A folder written by `save`, an MLflow run, its id, or a ``runs:/`` address.
    **params
        Parameters to use instead of the saved ones, such as ``device``.

    Returns
    -------
    MuraClassifier or MuraEnsemble

    Raises
    ------
    FileNotFoundError
        There is no saved model.
    ValueError
        It is damaged, foreign or of a later format, or the folder holds a model of each kind.
    """
    with fetch_model(source) as folder:
        is_ensemble, is_single = (
            (folder / name).is_file() for name in (ENSEMBLE_FILE, CONFIG_FILE)
        )
        if is_ensemble and is_single:
            raise ValueError(
                f"expected one model in {folder}, got {ENSEMBLE_FILE} and {CONFIG_FILE}; save each "
                "to a folder of its own"
            )
        return (MuraEnsemble if is_ensemble else MuraClassifier).load(folder, **params)


def best_valid_loss(net: Any) -> float | None:
    """Return the lowest finite validation loss in a classifier's history, or None without any."""
    losses = [row["valid_loss"] for row in net.history if "valid_loss" in row]
    return min(filter(np.isfinite, losses), default=None)
