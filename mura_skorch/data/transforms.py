"""View transforms: `Prepare` resizes a view to a square, `Augment` varies training views."""

import math

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
    """Flip and rotate views at random, each on its own.

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

    Notes
    -----
    torchvision's ``RandomRotation`` draws one angle for the whole batch. Here a single
    `grid_sample` rotates each view by its own angle. Pixels from outside the view are black.

    Examples
    --------
    >>> import torch
    >>> views = torch.rand(5, 1, 32, 32)
    >>> Augment(degrees=30)(views).shape
    torch.Size([5, 1, 32, 32])
    """

    def __init__(self, degrees: float = 10, flip: float = 0.5) -> None:
        self.degrees = degrees
        self.flip = flip

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
        theta = functional.pad(turn, (0, 1)).to(views)  # no translation
        grid = functional.affine_grid(theta, list(views.shape), align_corners=False)
        return functional.grid_sample(views, grid, align_corners=False)

    def __repr__(self):
        return f"Augment(degrees={self.degrees}, flip={self.flip})"
