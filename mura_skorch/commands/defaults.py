"""Defaults of the commands that depend on the data; importing this module is fast."""

from typing import Any

__all__ = [
    "ABLATE",
    "FEATURES",
    "REPRODUCE_PAPER",
    "REVIEW_LABELS",
    "SWEEP",
    "TRAIN",
    "default_text",
]

# Default of an argument for radiographs, as in the paper, and for phantoms, small enough for
# minutes on two cores.
Defaults = dict[str, tuple[Any, Any]]

_FIT: Defaults = {
    "weights": ("IMAGENET1K_V1", "none"),
    "image_size": (224, 64),  # pixels
    "max_epochs": (10, 4),
    "batch_size": (8, 8),  # studies
    "lr": (1e-4, 5e-4),
    "valid_share": (0.1, 0.2),
}
# Maps of the report and of the page of suspects have 7 x 7 cells.
TRAIN: Defaults = _FIT | {"image_size": (224, 224), "max_epochs": (10, 3), "lr": (1e-4, 3e-4)}
REVIEW_LABELS: Defaults = _FIT | {"image_size": (224, 224)}
ABLATE: Defaults = _FIT
SWEEP: Defaults = _FIT | {"max_epochs": (10, 3)}
FEATURES: Defaults = {name: _FIT[name] for name in ("weights", "image_size")}
REPRODUCE_PAPER: Defaults = {
    "weights": _FIT["weights"],
    "max_epochs": (10, 2),
    "lr": _FIT["lr"],
    "valid_share": _FIT["valid_share"],
}


def default_text(radiographs: Any, phantoms: Any) -> str:
    """Return how the help shows a default that depends on the data.

    Parameters
    ----------
    radiographs, phantoms
        The default for each.

    Examples
    --------
    >>> default_text(224, 64), default_text(8, 8)
    ('224, phantoms: 64', '8')
    """
    return str(radiographs) if radiographs == phantoms else f"{radiographs}, phantoms: {phantoms}"
