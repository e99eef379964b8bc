"""Average classifiers of studies, and open any saved model."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import log_expit, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from mura_skorch._version import __version__
from mura_skorch.calibration.operating_point import check_rule
from mura_skorch.calibration.threshold_mixin import ThresholdMixin, probabilities
from mura_skorch.classifier import MuraClassifier
from mura_skorch.inference.export import export_classifier
from mura_skorch.models.serialization import (
    CONFIG_FILE,
    check_model_folder,
    check_operating_point,
    log_replaced,
    read_json,
)
from mura_skorch.studies.columns import join_notes
from mura_skorch.studies.validation import check_studies
from mura_skorch.tracking.artifacts import ModelSource, fetch_model
from mura_skorch.training.html_repr import HtmlSummary
from mura_skorch.utils.atomic import write_text
from mura_skorch.utils.paths import is_name
from mura_skorch.utils.text import printable

__all__ = ["MuraEnsemble", "best_valid_loss", "load_model"]

ENSEMBLE_FILE = "ensemble.json"
# Raised when a folder written by this version cannot be read by the one before.
FORMAT = 1


class MuraEnsemble(HtmlSummary, ThresholdMixin, ClassifierMixin, TransformerMixin, BaseEstimator):
    """Average the probabilities of several classifiers of studies.

    Parameters
    ----------
    estimators : list of (str, estimator) tuples
        Names and members. `fit` trains a clone of each. Members wrapped in scikit-learn's
        ``FrozenEstimator``, as `of` does, are not trained again; the text "drop" instead of a
        member leaves it out.
    threshold : float, "youden" or "sensitivity=0.95", default=0.5
        Studies with a mean probability strictly above are abnormal. A rule is applied by
        `recalibrate`; `fit` holds out no studies to apply it to.

    Attributes
    ----------
    estimators_ : list of estimators
        The fitted members.
    classes_ : ndarray of shape (2,), int64
        0 normal, 1 abnormal.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number and names of the columns that the first member was fitted on.
    slope_, intercept_ : float
        The line that calibrates the logit of the mean probability: 1.0 and 0.0, or what
        `recalibrate` has fitted. Calibrations of the members are applied before the mean.
    prior_correction_ : bool
        Whether members without a calibration of their own are corrected for their class weights.

    See Also
    --------
    MuraEnsemble.of : Make an ensemble of fitted classifiers.

    Examples
    --------
    >>> members = [MuraClassifier(random_state=k).fit(train) for k in range(5)]  # doctest: +SKIP
    >>> MuraEnsemble.of(members).predict_proba(valid)[:, 1]  # doctest: +SKIP
    """

    def __init__(self, estimators: list[tuple[str, Any]], *, threshold: float | str = 0.5) -> None:
        self.estimators = estimators
        self.threshold = threshold

    @classmethod
    def of(cls, members: Iterable[MuraClassifier], *, threshold: float | str = 0.5) -> Self:
        """Return an ensemble of fitted classifiers, ready to predict.

        Parameters
        ----------
        members : sequence of MuraClassifier
            Fitted or loaded; at least one. They are not changed.
        threshold : float, default=0.5
            As for the class.
        """
        members = list(members)
        for net in members:
            check_is_fitted(net)
        frozen = [FrozenEstimator(net) for net in members]
        ensemble = cls(
            [(f"member_{i}", member) for i, member in enumerate(frozen)], threshold=threshold
        )
        ensemble._check_parameters()
        return ensemble._hold(frozen)

    def fit(self, X: pd.DataFrame, y: ArrayLike | None = None) -> Self:
        """Train clones of the members that are not frozen.

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
        X, y = check_studies(X, y, for_fit=True)
        self._check_parameters()
        # One after the other, or as joblib.parallel_config says.
        members = Parallel()(
            delayed(_fit)(clone(member), X, y) for _, member in self._members_in_use()
        )
        return self._hold(members)

    def _hold(self, members):
        """Take fitted members, uncalibrated."""
        self.estimators_ = members
        self.classes_ = np.array([0, 1])
        self.reset_operating_point()
        return self

    def _members_in_use(self):
        return [(name, member) for name, member in self.estimators if not _is_dropped(member)]

    def _check_parameters(self):
        check_rule(self.threshold)
        pairs = self.estimators
        if not isinstance(pairs, list) or not all(
            isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)
            for pair in pairs
        ):
            raise ValueError(
                f"expected estimators as a list of (name, classifier) pairs, got {pairs!r:.200}"
            )
        if not self._members_in_use():
            raise ValueError(f"expected at least one member, got {pairs!r:.200}")
        names = [name for name, _ in pairs]
        reserved = self.get_params(deep=False)
        for name in names:
            if names.count(name) > 1 or name in reserved or "__" in name:
                raise ValueError(
                    "expected members with different names that are no parameters and hold no "
                    f"'__', got {', '.join(names)}; rename {name}"
                )
        for name, member in self._members_in_use():
            if not is_classifier(member):
                raise ValueError(
                    f"expected members that are classifiers, got {type(member).__name__} as {name}"
                )

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; `deep` adds the members by name, and their parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add ``<name>`` and ``<name>__<parameter>`` for each member.

        Returns
        -------
        dict of str to object
        """
        params = super().get_params(deep=False)
        if deep:
            for name, member in self._pairs():
                params[name] = member
                if not _is_dropped(member):
                    own = member.get_params(deep=True)
                    params |= {f"{name}__{key}": value for key, value in own.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters, of members too: ``seed_0=clf``, ``seed_0__lr=1e-3``.

        Parameters
        ----------
        **params
            Names as in `get_params`. A member set to "drop" is left out.

        Returns
        -------
        self
        """
        if "estimators" in params:
            self.estimators = params.pop("estimators")
        if any(name in params for name, _ in self._pairs()):
            self.estimators = [(name, params.pop(name, own)) for name, own in self.estimators]
        return super().set_params(**params)

    def _pairs(self):
        """Return the pairs of name and member, without what `fit` will refuse."""
        if not isinstance(self.estimators, list | tuple):
            return []
        return [item for item in self.estimators if isinstance(item, tuple) and len(item) == 2]

    @property
    def n_features_in_(self) -> int:
        """Number of columns that the first member was fitted on."""
        return self.estimators_[0].n_features_in_

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the columns that the first member was fitted on."""
        return self.estimators_[0].feature_names_in_

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return the probabilities of each member, before they are averaged.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, 2 * n_members), float32
            For each member the probabilities of normality and of abnormality.
        """
        check_is_fitted(self)
        return np.hstack([member.predict_proba(X) for member in self.estimators_])

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the columns of `transform`.

        Parameters
        ----------
        input_features : object
            Ignored.

        Returns
        -------
        ndarray of str
            ``muraensemble_<member><label>``, in the order of the columns.
        """
        return np.array(
            [f"muraensemble_{name}{k}" for name, _ in self._members_in_use() for k in (0, 1)],
            dtype=object,
        )

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Return the members' mean probabilities, calibrated after `recalibrate`.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, 2), float32
            Probabilities of normality and of abnormality; float64 after `recalibrate`.
        """
        check_is_fitted(self)
        if self.is_recalibrated_:
            return self.predict_with_views(X)[0]
        return np.mean([member.predict_proba(X) for member in self.estimators_], axis=0)

    def predict_view_proba(self, X: pd.DataFrame) -> list[np.ndarray]:
        """Return the members' mean probability of every view.

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
        """Return both `predict_proba` and `predict_view_proba` from one pass of each member.

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
        if self.is_recalibrated_:
            return probabilities(*self.logits_with_views(X))
        probas, of_views = zip(*(m.predict_with_views(X) for m in self.estimators_), strict=True)
        means = [np.mean(arrays, axis=0) for arrays in zip(*of_views, strict=True)]
        return np.mean(probas, axis=0), means

    def logits_with_views(
        self, X: pd.DataFrame, *, prior_correction: bool = False
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Return the logits of the members' mean probabilities, on the calibrated scale.

        Parameters, shapes and dtypes are those of `MuraClassifier.logits_with_views`; the members
        are corrected for their class weights before the mean.
        """
        check_is_fitted(self)
        corrects = prior_correction or self.prior_correction_
        pairs = [m.logits_with_views(X, prior_correction=corrects) for m in self.estimators_]
        logits, of_views = zip(*pairs, strict=True)
        ends = np.cumsum([len(own) for own in of_views[0]])
        mean = _mean_logit([np.concatenate(own) for own in of_views])
        of_studies = self.calibrate_logit(_mean_logit(logits))
        return of_studies, np.split(self.calibrate_logit(mean), ends[:-1])

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
            layers is the mean of the members' logits of that view. It is not the logit of the
            view's mean probability, which no sum over pixels gives.
        """
        of_members = [member.localize(X) for member in self.estimators_]
        return [np.mean(arrays, axis=0) for arrays in zip(*of_members, strict=True)]

    def describe_engine(self) -> str:
        """Return library and arithmetic of the members' predictions, as `MuraClassifier` does."""
        return "; ".join(dict.fromkeys(m.describe_engine() for m in self.estimators_))

    def export(self, folder: str | os.PathLike[str]) -> None:
        """Raise TypeError: an ensemble is no single graph; export each member.

        Parameters
        ----------
        folder : path
            Not used.

        See Also
        --------
        MuraClassifier.export : Write one member as an ONNX graph.
        """
        export_classifier(self, folder)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the ensemble to a folder, each member as `MuraClassifier.save` does.

        Parameters
        ----------
        folder : path
            Made if it is missing. ``ensemble.json`` lists the members in order, with MLflow
            run, seed and lowest validation loss; it is written last.

        Raises
        ------
        FileExistsError
            `folder` is a file, or below one.
        """
        folder = Path(folder)
        check_model_folder(folder)
        log_replaced(folder / ENSEMBLE_FILE)
        rows = []
        names = [name for name, _ in self._members_in_use()]
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
        """Load a saved ensemble.

        Parameters
        ----------
        source : path, str or mlflow.entities.Run
            A folder written by `save`, an MLflow run whose model it is, or its id.
        threshold : float, optional
            Replaces the saved one.
        **params
            Parameters of all members, such as ``device``.

        Returns
        -------
        MuraEnsemble

        Raises
        ------
        FileNotFoundError
            The source holds no ensemble.
        ValueError
            It is damaged, of another program, or of a later format.
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
            if not names or not all(map(is_name, names)):
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
        """The notes of the members' training data, or None."""
        return join_notes(*(member.note_ for member in self.estimators_))


def _fit(member, X, y):
    return member.fit(X, y)


def _is_dropped(member):
    return isinstance(member, str) and member == "drop"


def _mean_logit(logits):
    """Return the logit of the mean of probabilities, precise even if all are near 0 or 1."""
    return logsumexp(log_expit(logits), axis=0) - logsumexp(log_expit(np.negative(logits)), axis=0)


def load_model(source: ModelSource, **params: Any) -> MuraClassifier | MuraEnsemble:
    """Load a saved model, whether a single classifier or an ensemble.

    Parameters
    ----------
    source : path, str or mlflow.entities.Run
        A folder written by `save`, an MLflow run, its id, or a ``runs:/`` address.
    **params
        Parameters that replace the saved ones, such as ``device``.

    Returns
    -------
    MuraClassifier or MuraEnsemble

    Raises
    ------
    FileNotFoundError
        The source holds no model.
    ValueError
        It is damaged, of another program, or of a later format, or the folder holds a model of
        each kind.
    """
    with fetch_model(source) as folder:
        if not (folder / ENSEMBLE_FILE).is_file():
            return MuraClassifier.load(folder, **params)
        if (folder / CONFIG_FILE).is_file():
            raise ValueError(
                f"expected one model in {folder}, got {ENSEMBLE_FILE} and {CONFIG_FILE}; save each "
                "to a folder of its own"
            )
        return MuraEnsemble.load(folder, **params)


def best_valid_loss(net: Any) -> float | None:
    """Return the lowest finite validation loss in a classifier's history, or None."""
    losses = [row["valid_loss"] for row in net.history if "valid_loss" in row]
    return min(filter(np.isfinite, losses), default=None)
