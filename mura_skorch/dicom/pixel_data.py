"""Stored values: the fields of a DICOM file go in, the integers of its first frame come out."""

from typing import Any

import numpy as np

from mura_skorch.dicom.codestreams import check_codestream
from mura_skorch.dicom.decoder_process import decode_apart

__all__ = ["stored_values"]

# In the order of preference: what decodes the same, and raises where gdcm would end its process.
PLUGINS = ("pydicom", "pylibjpeg", "pillow", "gdcm")


def stored_values(found: Any) -> np.ndarray:
    """Return the pixels of a DICOM file as they are stored, of several frames the first.

    Parameters
    ----------
    found : pydicom.Dataset
        ``PixelData`` and the fields that describe it, checked.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, 3), integer
        With three samples, red, green and blue.

    Raises
    ------
    Exception
        Whatever pydicom raises of damaged pixels.

    Notes
    -----
    Values need not lie in the lowest bits: the highest is bit HighBit, and those beside the
    BitsStored below it are no part of them [1]_. Compressed pixels are decoded in another process.

    References
    ----------
    .. [1] DICOM PS3.5, 8.1.1: Pixel data encoding of related data elements.
    """
    from pydicom import pixels

    highest = found.get("HighBit", found.BitsStored - 1)
    is_shifted = found.BitsStored - 1 < highest < found.BitsAllocated
    corrects = not is_shifted  # whether pydicom does, which knows of the BitsStored only
    if not found.file_meta.TransferSyntaxUID.is_encapsulated:
        values = pixels.pixel_array(found, index=0, correct_unused_bits=corrects)
    else:
        frame = _first_frame(found)
        # Most codestreams are of values without what is beside them.
        n_bits = check_codestream(frame, found)
        is_shifted = is_shifted and n_bits > found.BitsStored
        values = decode_apart(frame, correct_unused_bits=corrects, **_description(found))
    if not is_shifted:
        return values
    width = 8 * values.dtype.itemsize
    return values << (width - 1 - highest) >> (width - found.BitsStored)


def _first_frame(found: Any) -> bytes:
    from pydicom import encaps

    tables = [found.get(f"ExtendedOffsetTable{name}") for name in ("", "Lengths")]
    return encaps.get_frame(
        found.PixelData,
        0,
        number_of_frames=int(found.get("NumberOfFrames", 1)),
        extended_offsets=tuple(tables) if all(tables) else None,
    )


def _description(found: Any) -> dict[str, Any]:
    """Return what a decoder must know, in plain types."""
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
