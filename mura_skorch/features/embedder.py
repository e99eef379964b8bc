"""Turn studies into features of a frozen network: a transformer of scikit-learn."""

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Literal, Self

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from mura_skorch.classifier import MuraClassifier
from mura_skorch.features.store import stored_features
from mura_skorch.studies.validation import check_studies
from mura_skorch.tracking.artifacts import ModelSource
from mura_skorch.utils.progress import progress_bar
from mura_skorch.utils.remote import is_remote
from mura_skorch.utils.text import printable

__all__ = ["StudyEmbedder"]

# Parts of a network that features do not pass.
NOT_OF_FEATURES = ("head.", "attention.")


class StudyEmbedder(TransformerMixin, BaseEstimator):
    """Turn each study into the features that a network's last layer reads.

    The network is not trained. A model of scikit-learn on these features is fitted in seconds. It
    is the fast way, not the accurate one: training the network itself is usually better.

    Parameters
    ----------
    model : MuraClassifier, FrozenEstimator, path, str, mlflow.entities.Run or None, default=None
        The network: a fitted classifier, the folder of a saved one, or an MLflow run or its id. A
        fitted classifier keeps its weights in clones of the embedder, and its own batch size,
        device and precision. As a value in the grid of a search, wrap it in scikit-learn's
        ``FrozenEstimator``. None makes a network of the following parameters.
    backbone : str or callable, default="densenet169"
        Without a model, the network, see `StudyNetwork`.
    weights : str, path or None, default="IMAGENET1K_V1"
        Without a model, the weights of the network, see `StudyNetwork`. None means random ones.
    image_size : int, default=224
        Without a model, height and width of a prepared view in pixels.
    cache : path or None, default=None
        Folder that stores the features of each view, so that none is computed twice. It may be the
        folder of prepared views; ``mura-skorch cache`` lists and removes both. Views that are not
        on a disk are stored there, too, unless `model` is a classifier, which needs
        ``dataset__cache`` for them. None stores none.
    batch_size : int, default=8
        Studies that are computed at a time, with all their views.
    device : str, torch.device or None, default="auto"
        As for `MuraClassifier`.
    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Without a model, arithmetic of the network, as for `MuraClassifier`.
    random_state : int, default=0
        Seed of random weights.

    Attributes
    ----------
    model_ : MuraClassifier
        The classifier whose network computes the features.
    study_types_ : list of str
        The study types that `fit` saw, sorted.
    n_features_in_, feature_names_in_ : int, ndarray of str
        Number and names of the columns of the table passed to `fit`.

    See Also
    --------
    MuraClassifier.embed : The features of a table, without a pipeline.

    Notes
    -----
    The features of a study are the mean over its views. A cache knows views by path, size and time
    of change, and networks by a digest of their weights: folds, subsets and repeated calls find
    what any earlier call has computed.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from mura_skorch.scoring import kappa
    >>> model = make_pipeline(
    ...     StudyEmbedder(cache="cache"), StandardScaler(), LogisticRegression(C=0.01)
    ... )
    >>> cross_val_score(  # doctest: +SKIP
    ...     model, train, train.label, groups=train.patient, cv=GroupKFold(5), scoring=kappa
    ... )
    """

    def __init__(
        self,
        model: MuraClassifier | FrozenEstimator | ModelSource | None = None,
        *,
        backbone: str | Callable[[], torch.nn.Module] = "densenet169",
        weights: str | os.PathLike[str] | None = "IMAGENET1K_V1",
        image_size: int = 224,
        cache: str | os.PathLike[str] | None = None,
        batch_size: int = 8,
        device: str | torch.device | None = "auto",
        precision: Literal["auto", "float32", "bfloat16"] = "auto",
        random_state: int = 0,
    ) -> None:
        self.model = model
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.cache = cache
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.random_state = random_state

    def fit(self, X: pd.DataFrame, y: ArrayLike | None = None) -> Self:
        """Open the network; no image is read.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.
        y : ignored
            Labels; features do not depend on them.

        Returns
        -------
        self

        Raises
        ------
        FileNotFoundError
            There is no saved model.
        TypeError, ValueError
            The table, the model or a parameter is wrong, or the model is not fitted.
        """
        check_studies(X)
        self.model_ = self._open_model(self._view_cache(X))
        self.network_ = _describe(self.model_)
        self.study_types_ = sorted(X["study_type"].unique())
        self.feature_names_in_ = X.columns.to_numpy(dtype=object)
        self.n_features_in_ = len(self.feature_names_in_)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        """Return the features of every study.

        Parameters
        ----------
        X : DataFrame of n_studies rows
            A study table; ``study_type`` and ``views`` are read.

        Returns
        -------
        ndarray of shape (n_studies, n_features), float32
            The mean over the views of a study. A DataFrame after ``set_output``.

        Raises
        ------
        ValueError
            A view cannot be read.
        OSError
            The disk of the cache is full.
        """
        check_is_fitted(self)
        table, _ = check_studies(X)
        if self.cache is None:
            n_views = int(table["views"].map(len).sum())
            with progress_bar(n_views, desc="embed", unit="view") as bar:
                views = self.model_.embed_views(table, bar=bar)
        else:
            views = stored_features(self.cache, self.network_, table, self.model_.embed_views)
        return np.stack([np.nanmean(own, axis=0) for own in views])

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        """Return the names of the columns of `transform`.

        Parameters
        ----------
        input_features : object
            Ignored.

        Returns
        -------
        ndarray of shape (n_features,), object
        """
        check_is_fitted(self)
        n_features = self.model_.module_.head.in_features
        return np.array([f"feature{i}" for i in range(n_features)], dtype=object)

    def _view_cache(self, X):
        """Return a folder for prepared views if some are remote, which are read only into one."""
        if self.cache is None or not any(map(is_remote, chain.from_iterable(X["views"]))):
            return None
        return os.fspath(self.cache)

    def _open_model(self, view_cache):
        """Return the classifier to embed with."""
        model = self.model.estimator if isinstance(self.model, FrozenEstimator) else self.model
        if model is None:
            return _made(
                self.backbone,
                None if self.weights is None else os.fspath(self.weights),
                _changed(self.weights),
                self.image_size,
                self.batch_size,
                self.device,
                self.precision,
                self.random_state,
                view_cache,
            )
        if isinstance(model, str | os.PathLike):
            return _loaded(
                os.fspath(model), _changed(model), self.batch_size, self.device, view_cache
            )
        if hasattr(model, "info"):
            return _loaded(model.info.run_id, (), self.batch_size, self.device, view_cache)
        if not hasattr(model, "embed_views"):
            raise TypeError(
                "expected model to be a fitted MuraClassifier, a folder, a run or None, got "
                f"{type(model).__name__}; pass a member of an ensemble"
            )
        if not getattr(model, "initialized_", False):
            raise ValueError(
                "expected a fitted model, got one that is not; fit it first. In the grid of a "
                "search, which clones values without their weights, pass FrozenEstimator(model)"
            )
        return model

    def __sklearn_clone__(self):
        """Return a clone with the same model: a clone of a classifier would lose its weights."""
        clone = super().__sklearn_clone__()
        clone.model = self.model
        return clone

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


# The folds of a cross-validation and the candidates of a search share one network; it is only read.
@lru_cache(maxsize=1)
def _made(
    backbone, weights, changed, image_size, batch_size, device, precision, random_state, view_cache
):
    """Return an untrained classifier; `changed` is when the file of the weights was written."""
    clf = MuraClassifier(
        module__backbone=backbone,
        module__weights=weights,
        module__augment=None,
        dataset__image_size=image_size,
        dataset__cache=view_cache,
        batch_size=batch_size,
        device=device,
        precision=precision,
        random_state=random_state,
        callbacks__mlflow=None,
        verbose=0,
    )
    return clf.initialize()


@lru_cache(maxsize=1)
def _loaded(source, changed, batch_size, device, view_cache):
    """Return a saved classifier; `changed` is when its files were written."""
    # A dataset of the user's own need not have the parameter.
    own = {} if view_cache is None else {"dataset__cache": view_cache}
    return MuraClassifier.load(source, batch_size=batch_size, device=device, **own)


def _changed(source):
    """Return when a file, or the weights in a folder, were written; nothing for other names."""
    path = Path(str(source))
    files = [path, *path.glob("*.safetensors")] if path.is_dir() else [path]
    return tuple(file.stat().st_mtime_ns for file in files if file.exists())


def _describe(model):
    """Return what the features of a view depend on, as JSON can store it."""
    digest = hashlib.sha256()
    for name, value in sorted(model.module_.state_dict().items()):
        if not name.startswith(NOT_OF_FEATURES):
            digest.update(name.encode())
            digest.update(value.detach().cpu().numpy().tobytes())
    settings = model.get_params_for("module")
    backbone = settings.get("backbone")
    return {
        "module": type(model.module_).__qualname__,
        "backbone": getattr(backbone, "__qualname__", printable(backbone)),
        "global_pool": settings.get("global_pool"),
        "weights": digest.hexdigest(),
        "engine": model.describe_engine(),
        "on_bad_view": model.on_bad_view,
        "dataset": getattr(model.dataset, "__qualname__", ""),
        "image_size": model.get_params_for("dataset").get("image_size"),
    }
