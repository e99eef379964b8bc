"""Measure how unlike the training studies a study is, from its features."""

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold

from mura_skorch.utils.identity import patient_codes

__all__ = ["UNLIKE_PERCENTILE", "TrainingDistance"]

UNLIKE_PERCENTILE = 99.0
MOST_COMPONENTS = 16
N_FOLDS = 5
PERCENTS = np.arange(101.0)


class TrainingDistance:
    """Distance of features from those of the training studies.

    What is stored are means, directions and quantiles: no features of single studies, no patients.

    Attributes
    ----------
    mean : ndarray of shape (n_features,), float32
        Mean of the features.
    components : ndarray of shape (n_components, n_features), float32
        Directions in which they vary most.
    variance : ndarray of shape (n_components,), float32
        Variance in these directions.
    noise : float
        Mean variance in all other directions.
    quantiles : ndarray of shape (101,), float64
        Distances of training studies that were left out of the fit, at 0, 1, ... 100 percent.

    Notes
    -----
    The distance is that of probabilistic principal components [1]_: the squared Mahalanobis
    distance, with the variance outside of the first 16 components taken as equal in all directions.
    The quantiles are of studies of other patients than the components were fitted on: of studies
    like these, about 1 % are beyond the 99th percentile. With less than a few hundred studies the
    99th percentile is coarse.

    References
    ----------
    .. [1] Tipping and Bishop, "Probabilistic principal component analysis", JRSS B 61, 1999.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> found = TrainingDistance.fit(rng.normal(size=(200, 5)), np.arange(200))
    >>> bool(found.percentile(np.full((1, 5), 9.0))[0] > UNLIKE_PERCENTILE)
    True
    """

    def __init__(
        self,
        mean: np.ndarray,
        components: np.ndarray,
        variance: np.ndarray,
        noise: float,
        quantiles: np.ndarray,
    ) -> None:
        self.mean = mean
        self.components = components
        self.variance = variance
        self.noise = noise
        self.quantiles = quantiles

    @classmethod
    def fit(cls, features: np.ndarray, patients: ArrayLike) -> Self:
        """Return the distance from the features of training studies.

        Parameters
        ----------
        features : ndarray of shape (n_studies, n_features), float32
            As `MuraClassifier.embed` returns them.
        patients : array-like of shape (n_studies,)
            Their patients.

        Raises
        ------
        ValueError
            There are too few studies or patients, or features are not finite.
        """
        patients = patient_codes(patients)
        n_patients = len(set(patients))
        if len(features) < 2 * N_FOLDS or n_patients < N_FOLDS:
            raise ValueError(
                f"expected {2 * N_FOLDS} training studies of {N_FOLDS} patients or more, got "
                f"{len(features)} of {n_patients}"
            )
        left_out = np.empty(len(features))
        for rows, others in GroupKFold(N_FOLDS).split(features, groups=patients):
            left_out[others] = cls._fit(features[rows]).distance(features[others])
        found = cls._fit(features)
        found.quantiles = np.percentile(left_out, PERCENTS)
        return found

    @classmethod
    def _fit(cls, features):
        # Half of the studies at most: with as many directions as studies, nothing is left outside.
        n_components = min(MOST_COMPONENTS, len(features) // 2, features.shape[1] - 1)
        pca = PCA(n_components, svd_solver="randomized", random_state=0).fit(features)
        spread = float(features.var(axis=0).mean()) or 1.0
        return cls(
            pca.mean_.astype(np.float32),
            pca.components_.astype(np.float32),
            np.maximum(pca.explained_variance_, 1e-6 * spread).astype(np.float32),
            max(float(pca.noise_variance_), 1e-6 * spread),
            PERCENTS,
        )

    def distance(self, features: np.ndarray) -> np.ndarray:
        """Return the squared distances of studies, of shape (n_studies,), float64."""
        centred = np.asarray(features, dtype=np.float64) - self.mean
        within = centred @ self.components.T.astype(np.float64)
        outside = np.maximum((centred**2).sum(axis=1) - (within**2).sum(axis=1), 0)
        return (within**2 / self.variance).sum(axis=1) + outside / self.noise

    def percentile(self, features: np.ndarray) -> np.ndarray:
        """Return the share of training studies that are nearer, of shape (n_studies,), in percent.

        Parameters
        ----------
        features : ndarray of shape (n_studies, n_features), float32
            Features of the same network.
        """
        return np.interp(self.distance(features), self.quantiles, PERCENTS)

    def to_tensors(self) -> dict[str, torch.Tensor]:
        """Return tensors by name, about 130 kB for DenseNet-169."""
        return {name: torch.as_tensor(value) for name, value in vars(self).items()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Return the distance that `to_tensors` gave.

        Raises
        ------
        ValueError
            Tensors are missing or do not fit each other.
        """
        try:
            arrays: dict[str, Any] = {name: value.numpy() for name, value in tensors.items()}
            found = cls(**arrays)
            n_components, n_features = found.components.shape
            fits = found.mean.shape == (n_features,) and found.variance.shape == (n_components,)
            fits &= found.quantiles.shape == PERCENTS.shape
        except (TypeError, ValueError) as error:
            raise ValueError(f"its training distance is damaged ({error})") from error
        if not fits:
            raise ValueError("its training distance has tensors that do not fit each other")
        found.noise = float(found.noise)
        return found
