"""Convert samples of any depth to grey values from 0 to 255."""

import warnings
from collections.abc import Callable

import numpy as np

__all__ = ["UnsuitableImageError", "ViewNotes", "luma", "stretch"]

Note = Callable[[str], None]  # called with a message about an image


class UnsuitableImageError(ValueError):
    """A complete file whose content cannot be shown; the message includes a remedy."""


class ViewNotes:
    """Warn about the first few of many views.

    Parameters
    ----------
    max_named : int, default=5
        How many views to name. One more warning says that further views are not named.

    Notes
    -----
    A repeated message is passed to `warnings.warn` again, whose filters decide whether to show it.
    Instances can be pickled: each loader worker has its own.
    """

    def __init__(self, max_named: int = 5) -> None:
        self.max_named = max_named
        self.named: set[str] = set()

    def __call__(self, text: str) -> None:
        """Warn about a view, unless enough other views were named."""
        if len(self.named) < self.max_named:
            self.named.add(text)
        elif text not in self.named:
            text = f"more than {self.max_named} views have such notes; further ones are not named"
        warnings.warn(text, stacklevel=2)


def stretch(values: np.ndarray) -> np.ndarray:
    """Map the smallest value to 0 and the largest to 255.

    Parameters
    ----------
    values : ndarray
        Finite numbers.

    Returns
    -------
    ndarray of the same shape, uint8
        Zeros where all values are equal.

    Examples
    --------
    >>> stretch(np.array([-1000, 0, 1000]))
    array([  0, 128, 255], dtype=uint8)
    """
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, np.uint8)
    if values.dtype.kind in "iu" and int(high) - int(low) < 65536:
        # Stretch each possible value once instead of each pixel: ten times as fast.
        places = values.astype(np.int32) if values.dtype.itemsize <= 2 else values
        return _stretched(np.arange(int(high) - int(low) + 1))[places - low]
    return _stretched(values.astype(np.float64))


def luma(colours: np.ndarray) -> np.ndarray:
    """Return ITU-R 601 luma, which is exact where red, green and blue are equal.

    Parameters
    ----------
    colours : ndarray of shape (H, W, 3)
        Red, green and blue; integers below 2**46, or floats.

    Returns
    -------
    ndarray of shape (H, W), uint32, int64 or float64

    Examples
    --------
    >>> luma(np.array([[[4095, 4095, 4095], [65535, 0, 0]]]))
    array([[ 4095, 19595]])
    """
    if colours.dtype.kind == "f":
        colours = colours.astype(np.float64)
        with np.errstate(invalid="ignore"):  # infinite pixels
            grey = colours @ [0.299, 0.587, 0.114]
        is_grey = (colours == colours[..., :1]).all(axis=-1)
        return np.where(is_grey, colours[..., 0], grey)
    # Pillow's arithmetic, in units of 1 / 65536.
    is_short = colours.dtype.kind == "u" and colours.dtype.itemsize <= 2
    kind = np.dtype(np.uint32 if is_short else np.int64)
    grey = np.full(colours.shape[:2], 0x8000, kind)
    for band, weight in enumerate((19595, 38470, 7471)):
        grey += colours[..., band].astype(kind) * weight
    return grey >> 16


def _stretched(values: np.ndarray) -> np.ndarray:
    low, high = values.min(), values.max()
    if values.dtype.kind == "f":
        # Scaling by a power of two is exact. It keeps products of very large or very small floats
        # from becoming infinite or zero.
        exponent = -np.frexp(max(abs(low), abs(high)))[1]
        values, low, high = (np.ldexp(part, exponent) for part in (values, low, high))
    return np.rint((values - low) * 255 / (high - low)).astype(np.uint8)
