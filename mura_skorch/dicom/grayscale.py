"""Convert stored values of a DICOM file to grey values from 0 to 255."""

from typing import Any

import numpy as np
from PIL import Image

from mura_skorch.dicom.display import Display, Table, Window, read_display
from mura_skorch.utils.intensity import Note, luma, stretch

__all__ = ["check_display", "grey_values"]


def grey_values(stored: np.ndarray, found: Any, note: Note) -> np.ndarray:
    """Convert the pixels of a DICOM file to grey values as its header prescribes.

    Parameters
    ----------
    stored : ndarray of shape (H, W) or (H, W, 3), integer
        Decoded pixels; three samples are red, green and blue.
    found : pydicom.Dataset
        The checked elements that describe them.
    note : callable
        Called with a sentence if the window of the header is not used.

    Returns
    -------
    ndarray of shape (H, W), uint8
        0 is black, also for files whose 0 is white.

    Raises
    ------
    ValueError
        The pixels are not integers, or an element has no usable value.

    Notes
    -----
    The elements of the header are applied in the order of the standard [1]_:

    - the modality LUT, or rescale slope and intercept;
    - the first VOI LUT, or else the first window with its function. The range of the window, or the
      smallest and largest entry of the table, is mapped to 0 and 255;
    - without either, or with a window of zero width, the smallest value of the image is mapped to 0
      and the largest to 255, as in most viewers. Scaling by the number of bits would leave 37 of
      256 grey values for a 12-bit image with values from 300 to 900. The same is done, with a note,
      if the window or table maps an image of several values to one grey value, since some devices
      write windows in other units;
    - MONOCHROME1 and the presentation LUT shape INVERSE, which are synonyms, are inverted.

    Padding is excluded from the range and becomes black. Colour becomes ITU-R 601 luma; with more
    than 8 bits stored, it is also scaled from the smallest to the largest value. An image of one
    value becomes zeros. Display shutters and overlays are not applied, so regions that a viewer
    would cover are visible.

    References
    ----------
    .. [1] DICOM PS3.4, N.2: Pixel transformation sequence.
    """
    if found.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        stored = apply_color_lut(stored, found)
        return _luma_of_bytes(stored >> 8 * (stored.dtype.itemsize - 1))
    if stored.ndim == 3:
        return stretch(luma(stored)) if found.BitsStored > 8 else _luma_of_bytes(stored)
    if stored.dtype.kind not in "iu":
        raise ValueError(f"its pixels are {stored.dtype}, not integers")
    display = read_display(found)
    padding = _padding(stored, display)
    if display.modality is not None:
        stored = display.modality.look_up(stored).astype(np.uint16)
    seen = stored if padding is None else stored[~padding]
    if seen.size == 0:
        return np.zeros(stored.shape, np.uint8)
    low, high = int(seen.min()), int(seen.max())
    view = _displayed(stored, (low, high), display)
    if display.voi is not None and low < high:
        shown = view if padding is None else view[~padding]
        if shown.min() == shown.max():
            note(
                f"{_name(display.voi)} of its DICOM header leaves one grey value; it is shown from "
                "its smallest to its largest value instead. Check the units of the window"
            )
            view = _displayed(stored, (low, high), display, with_voi=False)
    if padding is not None:
        view[padding] = 0
    return view


def check_display(found: Any) -> None:
    """Raise `UnsuitableImageError` if a checked header cannot be displayed."""
    if found.PhotometricInterpretation.startswith("MONOCHROME"):
        read_display(found)


def _padding(stored: np.ndarray, display: Display) -> np.ndarray | None:
    """Return a mask of the padding, None without padding."""
    if display.padding is None:
        return None
    low, high = display.padding
    padding = (stored >= low) & (stored <= high)
    return padding if padding.any() else None


def _displayed(
    stored: np.ndarray, ends: tuple[int, int], display: Display, *, with_voi: bool = True
) -> np.ndarray:
    """Convert stored values to grey values from 0 to 255, inverted if the header says so."""
    voi = display.voi if with_voi else None
    if stored.dtype.itemsize > 2:
        return _grey(stored.astype(np.int64), ends, display, voi)
    # Converting each possible value once is ten times as fast as converting each pixel.
    native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    places = np.arange(256**native.itemsize, dtype=f"u{native.itemsize}")
    table = _grey(places.view(native.dtype).astype(np.int64), ends, display, voi)
    return table[native.view(places.dtype)]


def _grey(
    values: np.ndarray, ends: tuple[int, int], display: Display, voi: Table | Window | None
) -> np.ndarray:
    """Convert values; `ends` are the smallest and the largest stored value of the image."""
    if voi is None:
        low, high = ends
        if low == high:
            return np.zeros(values.shape, np.uint8)
        grey = (values - low) * 255 / (high - low)
        if display.slope < 0:
            grey = 255 - grey
    else:
        with np.errstate(over="ignore"):  # far from the centre of a sigmoid
            values = values * display.slope + display.intercept
            if isinstance(voi, Table):
                low, high = int(voi.entries.min()), int(voi.entries.max())
                grey = (voi.look_up(values) - low) * 255 / max(high - low, 1)
            else:
                grey = voi.apply(values) * 255
    grey = np.rint(grey).clip(0, 255).astype(np.uint8)
    return 255 - grey if display.is_inverse else grey


def _name(voi: Table | Window) -> str:
    """Name a VOI LUT or a window in a message."""
    if isinstance(voi, Table):
        return "the VOILUTSequence"
    return f"the window (WindowCenter {voi.center:g}, WindowWidth {voi.width:g})"


def _luma_of_bytes(colours: np.ndarray) -> np.ndarray:
    """Return the luma of colours of 8 bits."""
    return np.array(Image.fromarray(colours.astype(np.uint8)).convert("L"))
