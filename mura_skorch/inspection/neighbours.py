"""Find the training studies that are most similar to a study."""

from typing import Any

import numpy as np
import pandas as pd

from mura_skorch.utils.identity import patient_keys

__all__ = ["nearest_studies"]

CHUNK = 1024  # studies compared at a time: 60 MB with MURA's training studies


def nearest_studies(
    studies: pd.DataFrame,
    features: np.ndarray,
    train: pd.DataFrame,
    train_features: np.ndarray,
    *,
    n_nearest: int = 3,
) -> pd.DataFrame:
    """Return the training studies whose features are nearest, never of the same patient.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table with ``patient``.
    features : ndarray of shape (n_studies, n_features), float32
        What `MuraClassifier.embed` returns for it.
    train : DataFrame of n_train rows
        The training studies, with ``patient`` and ``views``.
    train_features : ndarray of shape (n_train, n_features), float32
        Their features, of the same network.
    n_nearest : int, default=3
        Number of training studies for each study.

    Returns
    -------
    DataFrame
        One row per pair, the studies in order and the nearest first: ``study``, the key of the
        study, or its index; ``rank``, from 1; ``nearest``, key of the training study;
        ``study_type``, ``label`` if known, and ``views`` of the training study; ``distance``, the
        cosine distance of the features, from 0 to 2. There are fewer rows for a study if other
        patients have fewer training studies.

    Raises
    ------
    ValueError
        A table has no patients, tables and features differ in length, or features are not finite.

    Examples
    --------
    >>> train = pd.DataFrame(
    ...     {"study": ["a", "b"], "patient": [1, 2], "study_type": "XR_HAND", "views": [(), ()]}
    ... )
    >>> studies = pd.DataFrame({"study": ["c"], "patient": [1]})
    >>> found = nearest_studies(studies, np.array([[1.0, 0.0]]), train, np.eye(2))
    >>> found[["study", "rank", "nearest", "distance"]]
      study  rank nearest  distance
    0     c     1       b       1.0
    """
    sides = [("studies", studies, features), ("train", train, train_features)]
    for name, table, own in sides:
        if "patient" not in table:
            raise ValueError(
                f"expected a column patient in {name}, got none: a study of the same patient must "
                "not count as similar; add it"
            )
        if len(table) != len(own) or not np.isfinite(own).all():
            raise ValueError(
                f"expected finite features for each of the {len(table):,} rows of {name}, got "
                f"{len(own):,} rows of features; pass what embed returns for the table"
            )
    patients, others = (patient_keys(table["patient"]) for _, table, _ in sides)
    unit = _unit(train_features)
    rows: list[dict[str, Any]] = []
    keys, train_keys = (table.get("study", table.index) for _, table, _ in sides)
    for start in range(0, len(studies), CHUNK):
        part = slice(start, start + CHUNK)
        distance = 1 - _unit(features[part]) @ unit.T
        distance[patients[part, None] == others] = np.inf
        order = np.argsort(distance, axis=1, kind="stable")[:, :n_nearest]
        for key, own, nearest in zip(keys[part], distance, order, strict=True):
            rows += [
                {"study": key, "rank": rank, "row": row, "distance": float(own[row])}
                for rank, row in enumerate(nearest, start=1)
                if np.isfinite(own[row])
            ]
    found = pd.DataFrame(rows, columns=["study", "rank", "row", "distance"])
    chosen = found.pop("row").to_numpy(dtype=int)
    found.insert(2, "nearest", np.asarray(train_keys)[chosen])
    for name in ("study_type", "label", "views"):
        if name in train:
            found[name] = train[name].iloc[chosen].to_numpy()
    return found


def _unit(features):
    """Return features of length 1; those of length 0 have the distance 1 to all others."""
    features = np.asarray(features, dtype=np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return np.divide(features, length, out=np.zeros_like(features), where=length > 0)
