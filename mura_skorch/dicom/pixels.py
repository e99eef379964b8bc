"""DICOM pixels: stored values and their header go in, grey values from 0 to 255 come out."""

from typing import Any

import numpy as np
from PIL import Image

__all__ = ["grey_values"]


def grey_values(stored: np.ndarray, found: Any) -> np.ndarray:
    """Return the pixels of a DICOM file as its header wants them shown.

    Parameters
    ----------
    stored : ndarray of shape (H, W) or (H, W, 3), integer
        Pixels as decoded; with three samples, red, green and blue.
    found : pydicom.Dataset
        The fields that describe them, without empty ones.

    Returns
    -------
    ndarray of shape (H, W), uint8
        0 is black whatever the file counts as zero.

    Raises
    ------
    ValueError
        The pixels are no integers.

    Notes
    -----
    Stored values pass what the header says, in the standard's order [1]_:

    - the modality LUT, or rescale slope and intercept;
    - the first VOI LUT, or else the first window with its function. The window's range, or the
      smallest and largest entry of the table, becomes 0 and 255;
    - without either, or with a window of no width, the smallest value of the image becomes 0 and
      its largest 255, as in most viewers. By the number of bits instead, a 12-bit image that uses
      300 to 900 would keep 37 grey values of 256; and the range found is never the wider one.
    - MONOCHROME1 and the presentation LUT shape INVERSE, which mean the same, are inverted.

    Padding takes no part in the range and becomes black. Colour becomes ITU-R 601 luma, from the
    upper 8 bits. An image of one value carries no contrast and becomes zeros. Display shutters and
    overlays are not applied: what a viewer would cover stays to be seen.

    References
    ----------
    .. [1] DICOM PS3.4, N.2: Pixel transformation sequence.
    """
    if found.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        stored = apply_color_lut(stored, found)
        return _luma(stored, 8 * stored.dtype.itemsize)
    if stored.ndim == 3:
        return _luma(stored, found.BitsStored)
    if stored.dtype.kind not in "iu":
        raise ValueError(f"its pixels are {stored.dtype}, not integers")
    padding = _padding(stored, found)
    seen = stored if padding is None else stored[~padding]
    if seen.size == 0:
        return np.zeros(stored.shape, np.uint8)
    low, high = int(seen.min()), int(seen.max())
    if stored.dtype.itemsize <= 2:
        # Each value there may be once, instead of each pixel: ten times as fast.
        native = stored.astype(stored.dtype.newbyteorder("="), copy=False)
        places = np.arange(256**native.itemsize, dtype=f"u{native.itemsize}")
        table = _displayed(places.view(native.dtype).astype(np.int64), (low, high), found)
        view = table[native.view(places.dtype)]
    else:
        view = _displayed(stored.astype(np.int64), (low, high), found)
    if padding is not None:
        view[padding] = 0
    return view


def _padding(stored: np.ndarray, found: Any) -> np.ndarray | None:
    """Return where the image is padded, None where it is not."""
    if "PixelPaddingValue" not in found:
        return None
    ends = found.PixelPaddingValue, found.get("PixelPaddingRangeLimit", found.PixelPaddingValue)
    padding = (stored >= min(ends)) & (stored <= max(ends))
    return padding if padding.any() else None


def _displayed(values: np.ndarray, ends: tuple[int, int], found: Any) -> np.ndarray:
    """Return stored values as grey values from 0 to 255, inverted where the header says so."""
    from pydicom import pixels

    both = [values, np.array(ends)]
    if found.get("ModalityLUTSequence"):
        table = _table(found.ModalityLUTSequence[0], found)
        values, extremes = (_look_up(v, *table) for v in both)
    else:
        values, extremes = (pixels.apply_rescale(v, found) for v in both)
    if found.get("VOILUTSequence"):
        table = _table(found.VOILUTSequence[0], found)
        values, extremes = _look_up(values, *table), np.array([table[0].min(), table[0].max()])
    elif _has_window(found):
        with np.errstate(over="ignore"):  # far from the centre of a sigmoid
            values = pixels.apply_windowing(values, found)
            extremes = pixels.apply_windowing(np.array([-np.inf, np.inf]), found)
    else:
        extremes = np.sort(extremes)
    low, high = map(float, extremes)
    if low == high:
        return np.zeros(values.shape, np.uint8)
    grey = np.rint((values.astype(np.float64) - low) * 255 / (high - low))
    grey = grey.clip(0, 255).astype(np.uint8)
    is_inverse = found.get("PresentationLUTShape", "").upper() == "INVERSE"
    return 255 - grey if is_inverse or found.PhotometricInterpretation == "MONOCHROME1" else grey


def _table(item: Any, found: Any) -> tuple[np.ndarray, int]:
    """Return the entries of a lookup table, and the value that the first of them is for.

    Writers disagree on how many bits there are and on whether entries of 8 bits lie two in a word,
    so only the number of words tells. What lies behind the last entry is padding.
    """
    n_entries, first, _ = item.LUTDescriptor
    n_entries = n_entries % 65536 or 65536
    if isinstance(data := item.LUTData, bytes):
        order = "<" if found.file_meta.TransferSyntaxUID.is_little_endian else ">"
        words = np.frombuffer(data[: len(data) // 2 * 2], f"{order}u2")
    else:
        words = np.atleast_1d(data).astype(np.uint16)
    if len(words) < n_entries:
        words = words.astype("<u2").view(np.uint8)
    if len(words) < n_entries:
        raise ValueError(f"a lookup table of {len(words):,} of {n_entries:,} entries")
    return words[:n_entries].astype(np.int64), first


def _look_up(values: np.ndarray, entries: np.ndarray, first: int) -> np.ndarray:
    """Return the entries for the values; those beside the table take its ends."""
    return entries[np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.int64)]


def _has_window(found: Any) -> bool:
    if "WindowCenter" not in found or "WindowWidth" not in found:
        return False
    width = found.WindowWidth if found["WindowWidth"].VM == 1 else found.WindowWidth[0]
    return width >= (1 if found.get("VOILUTFunction", "LINEAR").upper() == "LINEAR" else 1e-9)


def _luma(colours: np.ndarray, depth: int) -> np.ndarray:
    return np.array(Image.fromarray((colours >> max(depth - 8, 0)).astype(np.uint8)).convert("L"))
