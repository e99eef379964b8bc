"""Localisation: a fitted estimator and studies go in, one class activation map per view comes out.

Torchvision is imported by the function that needs it, so that what only resizes maps costs nothing.
"""

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from mura_skorch.data.images import read_view
from mura_skorch.data.unreadable import insert_nan

__all__ = ["localize", "peak_in_box", "peak_of", "resize_map", "view_map"]


def localize(clf: Any, studies: pd.DataFrame) -> list[np.ndarray]:
    r"""Return one class activation map per view: where its logit comes from.

    Parameters
    ----------
    clf : MuraClassifier
        Fitted or loaded. Its network must be one of torchvision's DenseNets.
    studies : DataFrame of n_studies rows
        A study table; ``study_type`` and ``views`` are read.

    Returns
    -------
    list of ndarray of shape (n_views, h, w), float32
        One array per study, in the order of the table and of its ``views``. h and w are those of
        the network's last feature maps, a 32nd of the prepared view for DenseNet-169; the units
        are logits, positive for abnormal. `resize_map` brings a map to its view's own size.

    Raises
    ------
    TypeError
        The network is no DenseNet with one output.
    ValueError
        The table is no study table.
    FileNotFoundError, ValueError
        An image cannot be read.

    Notes
    -----
    A DenseNet averages its last feature maps :math:`f_k` and weighs them, so that

    .. math:: z = b + \sum_k w_k \frac{1}{hw} \sum_{xy} \max(f_k(x, y), 0)
                = b + \frac{1}{hw} \sum_{xy} M(x, y), \quad
              M(x, y) = \sum_k w_k \max(f_k(x, y), 0).

    M is the map [1]_. It is no approximation: its mean plus the bias b is the view's logit, to
    rounding in float32, and to the network's own rounding in bfloat16. The studies run through
    a copy of the network in the estimator's own batches, one batch in memory at a time, so that
    several threads may call this, and predict, with one estimator.

    References
    ----------
    .. [1] Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.

    Examples
    --------
    >>> maps = clf.localize(studies)  # doctest: +SKIP
    >>> maps[0].mean(axis=(1, 2))  # doctest: +SKIP
    """
    clf.check_is_fitted()
    # A copy of its own, in eval mode: other threads may predict with the network, or localize.
    # It is as it was written: what torch.compile makes of a module calls no new hooks.
    module = deepcopy(getattr(clf.module_, "_orig_mod", clf.module_)).eval()
    network = _densenet(module)
    dataset = clf.get_dataset(studies)
    weight = network.classifier.weight.detach()[0, :, None, None]
    caught: list[Any] = []  # of the current batch
    maps: list[np.ndarray] = []  # of single views
    network.features.register_forward_hook(lambda *hooked: caught.append(hooked[-1]))
    for _ in clf.pass_through(module, dataset):
        while caught:
            # The features end in batch norm; the network's own ReLU comes after them.
            features = caught.pop(0).float().relu()
            maps.extend((features * weight).sum(dim=1).cpu().numpy())
    parts = np.split(np.stack(maps), np.cumsum(dataset.n_views)[:-1])
    return insert_nan(parts, None if dataset is studies else getattr(dataset, "bad_views", None))


def view_map(clf: Any, study: pd.Series, number: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a view and its map, both in the view's own pixels.

    Parameters
    ----------
    clf : object with a method ``localize``
        A fitted `MuraClassifier`.
    study : Series
        A row of a study table.
    number : int, default=1
        Which view, counted from 1.

    Returns
    -------
    view : ndarray of shape (H, W), uint8
        The radiograph.
    cam : ndarray of shape (H, W), float32
        Its map, in logits.

    Raises
    ------
    ValueError
        The study has no view of that number, or its file cannot be read.
    """
    paths = study["views"]
    if not 1 <= number <= len(paths):
        raise ValueError(
            f"expected a view from 1 to {len(paths)}, got {number}; views count from 1"
        )
    path = paths[number - 1]
    view = read_view(path)
    table = pd.DataFrame({"study_type": [study["study_type"]], "views": [(path,)]})
    return view, resize_map(clf.localize(table)[0][0], view.shape)


def resize_map(cam: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Return a map resized bilinearly, which undoes the squeeze of its view to a square.

    Parameters
    ----------
    cam : ndarray of shape (h, w), float32
        A map at its own resolution.
    size : sequence of 2 int
        Height and width wanted, in pixels, such as ``view.shape``.

    Returns
    -------
    ndarray of shape (height, width), float32

    Notes
    -----
    Pixels are areas, not points: what torch calls ``align_corners=False``. Outside the centres of
    the border's cells the map stays constant.

    Examples
    --------
    >>> resize_map(np.array([[0.0, 1.0]], dtype=np.float32), (1, 4))
    array([[0.  , 0.25, 0.75, 1.  ]], dtype=float32)
    """
    height, width = size
    image = Image.fromarray(np.asarray(cam, dtype=np.float32))
    return np.asarray(image.resize((int(width), int(height)), Image.Resampling.BILINEAR))


def peak_of(cam: np.ndarray, size: Sequence[int]) -> tuple[float, float]:
    """Return where a map peaks, in the pixels of its view.

    Parameters
    ----------
    cam : ndarray of shape (h, w)
        A map at its own resolution or any other.
    size : sequence of 2 int
        Height and width of the view, in pixels.

    Returns
    -------
    x, y : float
        Distance from the left and from the top edge, in pixels: the centre of the highest cell,
        the first one in reading order where several are equally high.

    Notes
    -----
    A bilinearly resized map nowhere exceeds its cells and reaches them at their centres. Its
    first largest *pixel* would be biased: a cell at the left or upper border is a plateau that
    reaches to the very edge.

    Examples
    --------
    >>> peak_of(np.array([[0, 1], [0, 0]]), size=(100, 300))
    (225.0, 25.0)
    """
    row, column = np.unravel_index(np.argmax(cam), cam.shape)
    (h, w), (height, width) = cam.shape, size
    return float((column + 0.5) * width / w), float((row + 0.5) * height / h)


def peak_in_box(cam: np.ndarray, box: Sequence[float], size: Sequence[int]) -> bool:
    """Return whether a map peaks inside a box, without tolerance: a hit of the pointing game.

    Parameters
    ----------
    cam : ndarray of shape (h, w)
        A map at its own resolution or any other.
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
       there a tolerance of 15 pixels, here none.

    Examples
    --------
    >>> peak_in_box(np.eye(1, 4), box=(0, 0, 50, 100), size=(100, 100))
    True
    """
    x, y = peak_of(cam, size)
    x0, y0, x1, y1 = box
    return bool(x0 <= x < x1 and y0 <= y < y1)


def _densenet(module: Any) -> Any:
    """Return the DenseNet in a study network, for whose last layers the maps are exact."""
    from torchvision.models import DenseNet

    network = getattr(module, "network", None)
    if not isinstance(network, DenseNet) or network.classifier.out_features != 1:
        got = type(module if network is None else network).__name__
        raise TypeError(
            "expected a network of torchvision's DenseNets with one output, whose features and "
            f"classifier a class activation map needs, got {got}; localise with StudyDenseNet"
        )
    return network
