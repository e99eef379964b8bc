"""Sets of parameters to try: none is called better without a record of its comparison."""

from typing import Any

from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import OneCycleLR

from mura_skorch.data.transforms import Augment

__all__ = ["beyond_paper"]


def beyond_paper(
    max_epochs: int = 10, lr: float = 1e-4, image_size: int = 512, decay: float = 0.999
) -> dict[str, Any]:
    """Return a recipe of what the field has added to the paper's, as parameters of the classifier.

    Larger views, random scale, AdamW with a warm-up and a cosine, a moving average of the weights,
    and predictions averaged over flips. It is a recipe to test, not one that is known to be better:
    compare it on your data with ``mura-skorch ablate defaults beyond_paper``.

    Parameters
    ----------
    max_epochs : int, default=10
        Epochs, which the schedule is made for: the rate rises from a quarter of `lr` in the first
        fifth of them, and falls to a hundredth. `partial_fit` afterwards needs another schedule.
    lr : float, default=1e-4
        Highest learning rate.
    image_size : int, default=512
        Height and width of a prepared view in pixels. 512 takes five times the time of 224.
    decay : float, default=0.999
        See `mura_skorch.callbacks.WeightAverage`.

    Returns
    -------
    dict of str to object
        New objects in each call.

    Notes
    -----
    On chest radiographs, 512 pixels were better than 224, most of all for small findings [1]_.
    Several scales in training helped in the detection of calcaneal fractures [2]_. For the other
    parts there is no clean comparison on radiographs; averaging over flips can also change right
    predictions into wrong ones [3]_. On phantoms the recipe had a lower AUROC than the defaults:
    ``experiments/records/2026-11-29_ablations``.

    References
    ----------
    .. [1] arXiv:2510.07191.
    .. [2] medRxiv 2025.09.04.25334786.
    .. [3] Shanmugam et al., "Better Aggregation in Test-Time Augmentation", arXiv:2011.11156.

    Examples
    --------
    >>> from mura_skorch import MuraClassifier
    >>> MuraClassifier(**beyond_paper(max_epochs=20)).fit(train)  # doctest: +SKIP
    """
    schedule = LRScheduler(
        OneCycleLR,
        max_lr=lr,
        total_steps=max_epochs,
        pct_start=0.2,
        div_factor=4,
        final_div_factor=25,
        cycle_momentum=False,
    )
    return {
        "dataset__image_size": image_size,
        "module__augment": Augment(scale=(0.8, 1.25)),
        "optimizer": "AdamW",
        "lr": lr,
        "max_epochs": max_epochs,
        "callbacks__plateau": schedule,
        "callbacks__ema__decay": decay,
        "flip_average": True,
    }
