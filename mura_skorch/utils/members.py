"""The classifiers that a model consists of, whether it is one or an ensemble."""

from typing import Any

from sklearn.frozen import FrozenEstimator

__all__ = ["members_of", "trained_patients_of", "trained_types"]


def members_of(model: Any) -> list[Any]:
    """Return the classifiers that an ensemble averages, or the classifier itself."""
    members = getattr(model, "estimators_", [model])
    return [m.estimator if isinstance(m, FrozenEstimator) else m for m in members]


def trained_patients_of(model: Any) -> set[str]:
    """Return the patients that fits of this process trained on: a saved model holds no ids."""
    return set().union(*(net.trained_patients_ for net in members_of(model)))


def trained_types(model: Any) -> set[str]:
    """Return the study types that a model, or any member of an ensemble, was trained on."""
    return {name for net in members_of(model) for name in net.study_types_}
