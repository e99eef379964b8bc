"""Decode the stored values of the first frame of a DICOM file."""

from typing import Any

import numpy as np

from mura_skorch.dicom.codestreams import check_codestream
from mura_skorch.dicom.decoder_process import decode_apart

__all__ = ["stored_values"]

# In order of preference. All decode the same values, but gdcm may crash instead of raising.
PLUGINS = ("pydicom", "pylibjpeg", "pillow", "gdcm")


def stored_values(found: Any) -> np.ndarray:
    """Return the stored pixels of a DICOM file; the first frame, if there are several.

    Parameters
    ----------
    found : pydicom.Dataset
        ``PixelData`` and the checked elements that describe it.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, 3), integer
        Three samples are red, green and blue.

    Raises
    ------
    Exception
        As raised by pydicom for damaged pixels.

    Notes
    -----
    Values need not occupy the lowest bits. Their highest bit is HighBit, and other bits than the
    BitsStored below it are ignored [1]_. Compressed pixels are decoded in another process.

    References
    ----------
    .. [1] DICOM PS3.5, 8.1.1: Pixel data encoding of related data elements.
    """
    from pydicom import pixels

    highest = found.get("HighBit", found.BitsStored - 1)
    is_shifted = found.BitsStored - 1 < highest < found.BitsAllocated
    corrects = not is_shifted  # pydicom supports values in the lowest bits only
    if not found.file_meta.TransferSyntaxUID.is_encapsulated:
        values = pixels.pixel_array(found, index=0, correct_unused_bits=corrects)
    else:
        frame = _first_frame(found)
        # Most codestreams hold values without unused bits.
        n_bits = check_codestream(frame, found)
        is_shifted = is_shifted and n_bits > found.BitsStored
        values = decode_apart(frame, correct_unused_bits=corrects, **_description(found))
    if not is_shifted:
        return values
    width = 8 * values.dtype.itemsize
    return values << (width - 1 - highest) >> (width - found.BitsStored)


def _first_frame(found: Any) -> bytes:
    """Return the compressed bytes of the first frame."""
    from pydicom import encaps

    tables = [found.get(f"ExtendedOffsetTable{name}") for name in ("", "Lengths")]
    return encaps.get_frame(
        found.PixelData,
        0,
        number_of_frames=int(found.get("NumberOfFrames", 1)),
        extended_offsets=tuple(tables) if all(tables) else None,
    )


def _description(found: Any) -> dict[str, Any]:
    """Return the description of the pixels for a decoder, in plain types."""
    from pydicom import pixels

    syntax = found.file_meta.TransferSyntaxUID
    available = pixels.get_decoder(syntax).available_plugins
    return {
        "syntax": str(syntax),
        "plugin": next((name for name in PLUGINS if name in available), ""),
        "pixel_keyword": "PixelData",
        "number_of_frames": 1,
        "rows": found.Rows,
        "columns": found.Columns,
        "samples_per_pixel": found.SamplesPerPixel,
        "photometric_interpretation": found.PhotometricInterpretation,
        "planar_configuration": found.get("PlanarConfiguration", 0),
        "pixel_representation": found.PixelRepresentation,
        "bits_allocated": found.BitsAllocated,
        "bits_stored": found.BitsStored,
    }
