"""Draw an activation map over a view."""

import numpy as np

from mura_skorch.inspection.activation_maps import resize_map

__all__ = ["map_limit", "overlay_map"]

# Okabe and Ito's colour-blind safe palette, as in plots. Its darker blue is hard to see on the
# black background of a radiograph; sky blue is not.
ABNORMAL, NORMAL, BOX = (213, 94, 0), (86, 180, 233), "#F0E442"  # vermillion, sky blue; yellow
OPACITY = 0.75  # of the colour at the limit of the scale


def map_limit(*cams: np.ndarray) -> float:
    """Return the largest absolute value of maps, for a symmetric scale; 1 if all are 0.

    Parameters
    ----------
    *cams : ndarray
        Maps in logits, of any shapes.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> map_limit(np.array([[1.0, -3.0]]), np.array([[2.0]]))
    3.0
    """
    return max((float(np.abs(cam).max()) for cam in cams), default=0.0) or 1.0


def overlay_map(view: np.ndarray, cam: np.ndarray, limit: float) -> np.ndarray:
    """Return a radiograph with a map drawn over it in colour.

    Parameters
    ----------
    view : ndarray of shape (H, W), uint8
        The radiograph.
    cam : ndarray of shape (h, w), float
        Its map in logits; it is resized to the view.
    limit : float
        End of the colour scale, in logits, above 0.

    Returns
    -------
    ndarray of shape (H, W, 3), uint8
        The radiograph is unchanged where the map is 0, three quarters vermillion at ``limit`` and
        above, and three quarters sky blue at ``-limit`` and below.

    Examples
    --------
    >>> import numpy as np
    >>> overlay_map(np.zeros((1, 3), dtype=np.uint8), np.array([[-2.0, 0.0, 2.0]]), 2.0).tolist()
    [[[64, 135, 175], [0, 0, 0], [160, 70, 0]]]
    """
    strength = np.clip(resize_map(cam, view.shape) / limit, -1, 1)[:, :, None]
    colour = np.where(strength > 0, ABNORMAL, NORMAL)
    opacity = OPACITY * np.abs(strength)
    return np.rint((1 - opacity) * view[:, :, None] + opacity * colour).astype(np.uint8)
