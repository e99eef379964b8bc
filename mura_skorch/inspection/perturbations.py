"""Small changes of prepared views: rotation, shift, contrast, noise and others, in batches."""

import io
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from PIL import Image

__all__ = ["PERTURBATIONS", "perturb_views"]

# What two hospitals, or two exposures, differ in by more than this.
DEGREES = 5
SHIFT = 0.05  # of the side
WEAK, STRONG = 0.75, 4 / 3  # factors of the distance to the mean grey value
NOISE = 0.05  # standard deviation, as a share of the range of grey values
QUALITY = 30  # of JPEG; 75 is usual

Change = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def perturb_views(name: str, views: np.ndarray, *, random_state: int = 0) -> np.ndarray:
    """Return all views changed in the same way.

    Parameters
    ----------
    name : str
        A key of `PERTURBATIONS`.
    views : ndarray of shape (n_views, size, size), uint8
        Prepared views.
    random_state : int, default=0
        Seed of the noise. Torch's global random state is left alone.

    Returns
    -------
    ndarray of shape (n_views, size, size), uint8

    Raises
    ------
    ValueError
        There is no such change.

    Examples
    --------
    >>> perturb_views("inverted", np.full((1, 2, 2), 5, dtype=np.uint8))[0, 0]
    array([250, 250], dtype=uint8)
    """
    if name not in PERTURBATIONS:
        raise ValueError(
            f"expected one of {', '.join(PERTURBATIONS)} as the change of views, got {name!r}"
        )
    generator = torch.Generator().manual_seed(random_state)
    batch = torch.from_numpy(np.ascontiguousarray(views))[:, None]
    with torch.inference_mode():
        return PERTURBATIONS[name](batch, generator)[:, 0].numpy()


def _rotate(views, generator, degrees):
    from torchvision.transforms.v2 import InterpolationMode, functional

    return functional.rotate(views, degrees, interpolation=InterpolationMode.BILINEAR)


def _shift(views, generator, right, down):
    from torchvision.transforms.v2 import InterpolationMode, functional

    height, width = views.shape[-2:]
    return functional.affine(
        views,
        angle=0,
        translate=[right * width, down * height],
        scale=1,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
    )


def _contrast(views, generator, factor):
    from torchvision.transforms.v2 import functional

    return functional.adjust_contrast(views, factor)


def _noise(views, generator, share):
    # torchvision's gaussian_noise takes no generator.
    drawn = torch.randn(views.shape, generator=generator) * (255 * share)
    return (views + drawn).round().clamp(0, 255).to(torch.uint8)


def _compress(views, generator, quality):
    # One by one: torchvision's jpeg is a loop, too, and its encoders are deprecated.
    pictures = [_as_jpeg(view, quality) for view in views[:, 0].numpy()]
    return torch.from_numpy(np.stack(pictures))[:, None]


def _as_jpeg(view, quality):
    """Return a view of shape (H, W) encoded and decoded."""
    file = io.BytesIO()
    Image.fromarray(view).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def _halve(views, generator):
    from torchvision.transforms.v2 import functional

    size = list(views.shape[-2:])
    small = functional.resize(views, [max(1, side // 2) for side in size], antialias=True)
    return functional.resize(small, size, antialias=True)


def _invert(views, generator):
    return 255 - views


PERTURBATIONS: Mapping[str, Change] = MappingProxyType(
    {
        "rotated 5 degrees left": partial(_rotate, degrees=DEGREES),
        "rotated 5 degrees right": partial(_rotate, degrees=-DEGREES),
        "shifted 5 % right and down": partial(_shift, right=SHIFT, down=SHIFT),
        "shifted 5 % left and up": partial(_shift, right=-SHIFT, down=-SHIFT),
        "contrast x 0.75": partial(_contrast, factor=WEAK),
        "contrast x 1.33": partial(_contrast, factor=STRONG),
        "noise of 5 %": partial(_noise, share=NOISE),
        "JPEG of quality 30": partial(_compress, quality=QUALITY),
        "half resolution": _halve,
        "inverted": _invert,
    }
)
