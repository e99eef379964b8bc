"""View transforms: `Prepare` resizes a view to a square, `Augment` varies training views."""

import math
from numbers import Real

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

__all__ = ["Augment", "Prepare"]


class Prepare:
    """Resize a view to a square, without keeping the aspect ratio, as in the paper.

    Parameters
    ----------
    image_size : int, default=224
        Height and width of the result in pixels.

    Examples
    --------
    >>> import numpy as np
    >>> Prepare(image_size=64)(np.zeros((512, 400), dtype=np.uint8)).shape
    (64, 64)
    """

    def __init__(self, image_size: int = 224) -> None:
        self.image_size = image_size

    def __call__(self, view: np.ndarray) -> np.ndarray:
        """Return the resized view.

        Parameters
        ----------
        view : ndarray of shape (H, W), uint8
            One greyscale view.

        Returns
        -------
        ndarray of shape (image_size, image_size), uint8
        """
        size = (self.image_size, self.image_size)
        return np.asarray(Image.fromarray(view).resize(size, Image.Resampling.BILINEAR))

    def __repr__(self):
        return f"Prepare(image_size={self.image_size})"


class Augment:
    """Flip, rotate and, if asked, scale views at random, each on its own.

    The module applies it to training batches only, on its device. It draws on the CPU in the main
    process, so that the result is the same for any number of loader workers and any device. A fit
    passes a generator of its own; an augmentation of your own gets one, too, if it takes an
    argument ``generator``.

    Parameters
    ----------
    degrees : float, default=10
        Rotations are uniform in [-degrees, degrees]. Version 4 of the paper uses 30. Version 3
        gives no number; its known reimplementations use 10.
    flip : float, default=0.5
        Probability of a left-right flip, between 0 and 1.
    scale : tuple of (float, float) or None, default=None
        Smallest and largest factor by which a view is magnified about its centre, such as
        (0.8, 1.25), to train for hospitals that show the same bone smaller or larger. The factor's
        logarithm is uniform, so that (1 / s, s) enlarges as often as it reduces. Below 1 a black
        border appears, above 1 the border of the view is cut off. None scales nothing, as in the
        paper.

    Raises
    ------
    ValueError
        `scale` is no pair of finite numbers above 0 in ascending order.

    Notes
    -----
    torchvision's ``RandomRotation`` draws one angle for the whole batch. Here a single
    `grid_sample` rotates and scales each view by its own angle and factor. Pixels from outside the
    view are black.

    Training at several scales gave the best results over views of 128 to 900 pixels in a study of
    calcaneal fractures [1]_. Nobody has measured it on MURA: ``mura-skorch ablate`` does.

    References
    ----------
    .. [1] medRxiv 2025.09.04.25334786, on the size of images in fracture detection, 2025.

    Examples
    --------
    >>> import torch
    >>> views = torch.rand(5, 1, 32, 32)
    >>> Augment(degrees=30)(views).shape
    torch.Size([5, 1, 32, 32])
    >>> Augment(scale=(0.8, 1.25))
    Augment(degrees=10, flip=0.5, scale=(0.8, 1.25))
    """

    def __init__(
        self, degrees: float = 10, flip: float = 0.5, scale: tuple[float, float] | None = None
    ) -> None:
        self.degrees = degrees
        self.flip = flip
        self.scale = scale
        if scale is not None and not _is_range(scale):
            raise ValueError(
                "expected scale as two numbers above 0, the smaller one first, such as "
                f"(0.8, 1.25), or None, got {scale!r}"
            )

    def __call__(
        self, views: torch.Tensor, generator: torch.Generator | None = None
    ) -> torch.Tensor:
        """Return the views varied.

        Parameters
        ----------
        views : Tensor of shape (N, C, H, W), float
            Square views.
        generator : torch.Generator, optional
            On the CPU. None draws from torch's global random state.

        Returns
        -------
        Tensor of shape (N, C, H, W), float
        """
        n_views = len(views)
        angle = torch.empty(n_views).uniform_(-self.degrees, self.degrees, generator=generator)
        angle = angle * (math.pi / 180)
        mirror = torch.where(torch.rand(n_views, generator=generator) < self.flip, -1.0, 1.0)
        rows = [mirror * angle.cos(), -mirror * angle.sin(), angle.sin(), angle.cos()]
        turn = torch.stack(rows, dim=1).view(n_views, 2, 2)
        if self.scale is not None:  # drawn last: angles and flips are those without it
            low, high = map(math.log, self.scale)
            factor = torch.empty(n_views).uniform_(low, high, generator=generator).exp()
            turn = turn / factor[:, None, None]  # from the result's pixels to the view's
        theta = functional.pad(turn, (0, 1))  # no translation
        if views.is_cuda:
            theta = theta.pin_memory()  # or the host would wait for the GPU
        theta = theta.to(views.device, views.dtype, non_blocking=views.is_cuda)
        grid = functional.affine_grid(theta, list(views.shape), align_corners=False)
        return functional.grid_sample(views, grid, align_corners=False)

    def __repr__(self):
        scale = "" if self.scale is None else f", scale={self.scale}"
        return f"Augment(degrees={self.degrees}, flip={self.flip}{scale})"


def _is_range(scale):
    """Return whether a value is a pair of finite numbers above 0 in ascending order."""
    if not isinstance(scale, tuple | list) or len(scale) != 2:
        return False
    if not all(isinstance(end, Real) and not isinstance(end, bool) for end in scale):
        return False
    return 0 < scale[0] <= scale[1] < math.inf
