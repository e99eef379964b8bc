"""Class activation maps: where a network looks in each view."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mura_skorch.data.dataset import split_by_study

__all__ = ["localize", "peak_in_box", "peak_of", "resize_map"]


def localize(clf: Any, studies: pd.DataFrame) -> list[np.ndarray]:
    """Return one class activation map per view: where its logit comes from.

    Parameters
    ----------
    clf : MuraClassifier
        Fitted or loaded. Its network must have a method ``activation_maps``, as `StudyNetwork`.
    studies : DataFrame of n_studies rows
        A study table; ``study_type`` and ``views`` are read.

    Returns
    -------
    list of ndarray of shape (n_views, h, w), float32
        One array per study, in the order of the table and of its ``views``. h and w are the size of
        the network's last feature maps, a 32nd of the prepared view for DenseNet-169. The units
        are logits, positive for abnormal. `resize_map` resizes a map to the size of its view.

    Raises
    ------
    TypeError
        The network has no activation maps.
    ValueError
        `studies` is not a study table.
    FileNotFoundError, ValueError
        An image cannot be read.

    See Also
    --------
    mura_skorch.StudyNetwork.activation_maps : Definition of the maps.

    Notes
    -----
    The mean of a map plus the bias of the network's last layer is the view's logit, up to rounding
    in the network's precision. Studies are computed in the estimator's own batches, one at a time
    in memory. Several threads may call this, and predict, with one estimator.

    With ``flip_average=True`` a map is the mean of the view's and of its mirror image's, mirrored
    back. Mean and bias still add up to the view's logit, which is then a mean, too.

    Examples
    --------
    >>> maps = clf.localize(studies)  # doctest: +SKIP
    >>> maps[0].mean(axis=(1, 2))  # doctest: +SKIP
    """
    clf.check_is_fitted()
    if not hasattr(clf.module_, "activation_maps"):
        raise TypeError(
            "expected a network with activation maps, such as StudyNetwork, got "
            f"{type(clf.module_).__name__}; give it a method activation_maps(views, view_mask)"
        )
    dataset = clf.get_dataset(studies)
    return split_by_study(clf.pass_through("activation_maps", dataset), dataset, studies)


def resize_map(cam: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize a map bilinearly to the size of its view.

    Parameters
    ----------
    cam : ndarray of shape (h, w), float32
        The map at its own resolution.
    size : sequence of 2 int
        Height and width of the result in pixels, such as ``view.shape``.

    Returns
    -------
    ndarray of shape (height, width), float32

    Notes
    -----
    This is torch's ``align_corners=False``: pixels are areas, not points. Beyond the centres of the
    border cells the map is constant.

    Examples
    --------
    >>> resize_map(np.array([[0.0, 1.0]], dtype=np.float32), (1, 4))
    array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    height, width = size
    image = Image.fromarray(np.asarray(cam, dtype=np.float32))
    return np.asarray(image.resize((int(width), int(height)), Image.Resampling.BILINEAR))


def peak_of(cam: np.ndarray, size: Sequence[int]) -> tuple[float, float]:
    """Return the position of a map's maximum, in pixels of its view.

    Parameters
    ----------
    cam : ndarray of shape (h, w)
        The map at any resolution.
    size : sequence of 2 int
        Height and width of the view, in pixels.

    Returns
    -------
    x, y : float
        Distance from the left and the top edge, in pixels, of the centre of the highest cell. If
        several are equally high, the first in reading order.

    Notes
    -----
    A bilinearly resized map has its maximum at the centre of a cell. Its first largest *pixel*
    would be biased: the value of a cell at the left or upper border extends to the edge.

    Examples
    --------
    >>> peak_of(np.array([[0, 1], [0, 0]]), size=(100, 300))
    (225.0, 25.0)
    """
    row, column = np.unravel_index(np.argmax(cam), cam.shape)
    (h, w), (height, width) = cam.shape, size
    return float((column + 0.5) * width / w), float((row + 0.5) * height / h)


def peak_in_box(cam: np.ndarray, box: Sequence[float], size: Sequence[int]) -> bool:
    """Return whether a map's maximum is inside a box: a hit of the pointing game.

    Parameters
    ----------
    cam : ndarray of shape (h, w)
        The map at any resolution.
    box : sequence of 4 numbers
        x0, y0, x1, y1 in pixels of the view, x1 and y1 exclusive.
    size : sequence of 2 int
        Height and width of the view, in pixels.

    Returns
    -------
    bool

    References
    ----------
    .. [1] Zhang et al., "Top-down Neural Attention by Excitation Backprop", ECCV 2016, section 4.1;
       with a tolerance of 15 pixels. Here there is none.

    Examples
    --------
    >>> peak_in_box(np.eye(1, 4), box=(0, 0, 50, 100), size=(100, 100))
    True
    """
    x, y = peak_of(cam, size)
    x0, y0, x1, y1 = box
    return bool(x0 <= x < x1 and y0 <= y < y1)
