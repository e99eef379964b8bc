"""Count the pixels of an image from its header, without decoding it."""

import io

from PIL import Image

from mura_skorch.data.images import MAX_SCANS, START_OF_SCAN
from mura_skorch.dicom.headers import number, read_header
from mura_skorch.utils.library_warnings import ignore_warnings_of

__all__ = ["count_pixels"]


def count_pixels(data: bytes, kind: str) -> int:
    """Return height times width of an image.

    Parameters
    ----------
    data : bytes
        The complete file.
    kind : {"PNG", "JPEG", "DICOM"}

    Raises
    ------
    ValueError
        It is a JPEG with too many scans.
    ImportError
        It is DICOM and pydicom is not installed.
    Exception
        Whatever the reader raises for a damaged header.
    """
    if kind == "DICOM":
        # Compressed pixels of a size other than in the header are refused before decoding.
        found = read_header(io.BytesIO(data), ["Rows", "Columns"])
        return (number(found, "Rows") or 0) * (number(found, "Columns") or 0)
    n_scans = data.count(START_OF_SCAN) if kind == "JPEG" else 0
    if n_scans > MAX_SCANS:
        raise ValueError(f"{n_scans:,} scans, more than {MAX_SCANS}")
    ignore_warnings_of("PIL.TiffImagePlugin")
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        return image.width * image.height
