"""Facts about the last fit that a saved model and a checkpoint carry besides weights."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Self

__all__ = ["FitRecord", "recorded"]


@dataclass(frozen=True)
class FitRecord:
    """Facts about the last fit; only `MuraClassifier.update_record` replaces it.

    Attributes
    ----------
    seed : int or None
        The seed in use.
    study_types : list of str
        The study types that `fit` saw, sorted.
    note : str or None
        Caveat of the data, such as that they are phantoms.
    run_id : str or None
        The MLflow run.
    interrupted : bool
        Whether Ctrl-C or SIGTERM ended the fit.
    pruned : bool
        Whether `Pruning` ended the fit.
    digests : dict of str to str
        Digest of the studies of the ``validation`` part, and of the ``training`` part if the fit
        had a checkpoint.
    arithmetic : dict of str to object
        How the network was computed, see `mura_skorch.training.arithmetic.Arithmetic`; ``threads``
        is the number that was used.
    n_processes : int
        Processes that computed the fit together.
    settings : dict of str to str
        What was set for the fit, see `mura_skorch.tracking.params.settings_of`. Empty in models
        of versions that recorded none.
    fitted_on : dict of str to object
        Counts of the studies that were read, left out, trained and validated on, see
        `mura_skorch.training.fit_description.describe_fit`. Empty in older models.
    valid_scores : list of dict of str to object
        Rows of the scores of the validation part; None where a figure is not defined.
    """

    seed: int | None = None
    study_types: list[str] = field(default_factory=list)
    note: str | None = None
    run_id: str | None = None
    interrupted: bool = False
    pruned: bool = False
    digests: dict[str, str] = field(default_factory=dict)
    arithmetic: dict[str, Any] = field(default_factory=dict)
    n_processes: int = 1
    settings: dict[str, str] = field(default_factory=dict)
    fitted_on: dict[str, Any] = field(default_factory=dict)
    valid_scores: list[dict[str, Any]] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON can store it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Self:
        """Return the record of a dict that may hold other things and lack some of its own."""
        names = [item.name for item in fields(cls)]
        return cls(**{name: saved[name] for name in names if name in saved})


def recorded(name: str, doc: str) -> Any:
    """Return a property of an estimator that reads a field of its record, and updates it."""

    def read(net: Any) -> Any:
        return getattr(net.record_, name)

    def write(net: Any, value: Any) -> None:
        net.update_record(**{name: value})

    return property(read, write, doc=doc)
