"""Sizes: the bytes of an image file go in; its pixels, counted from its header alone, come out."""

import io

from PIL import Image

from mura_skorch.data.images import MAX_SCANS, START_OF_SCAN
from mura_skorch.dicom.headers import number, read_header

__all__ = ["count_pixels"]


def count_pixels(data: bytes, kind: str) -> int:
    """Return height times width of an image that is not decoded.

    Parameters
    ----------
    data : bytes
        Of the whole file.
    kind : {"PNG", "JPEG", "DICOM"}

    Raises
    ------
    ValueError
        It is a JPEG of very many scans.
    ImportError
        It is DICOM and what reads it is not installed.
    Exception
        Whatever the reader raises of a damaged header.
    """
    if kind == "DICOM":
        # Compressed pixels of another size than the header tells are refused before decoding.
        found = read_header(io.BytesIO(data), ["Rows", "Columns"])
        return (number(found, "Rows") or 0) * (number(found, "Columns") or 0)
    n_scans = data.count(START_OF_SCAN) if kind == "JPEG" else 0
    if n_scans > MAX_SCANS:
        raise ValueError(f"{n_scans:,} scans, more than {MAX_SCANS}")
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        return image.width * image.height
