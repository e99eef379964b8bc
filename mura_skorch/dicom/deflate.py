"""Deflated DICOM: an open file goes in, one that is not deflated comes out, and never a bomb."""

import io
import zlib
from typing import Any, BinaryIO

from PIL import Image

__all__ = ["inflated"]

HEADER = 16 * 2**20  # bytes: far more than the fields of a radiograph before its pixels take
BYTES_PER_PIXEL = 4


def inflated(file: BinaryIO, pydicom: Any, *, header_only: bool = False) -> BinaryIO:
    """Return an open DICOM file, or its fields in memory if they are deflated.

    Parameters
    ----------
    file : binary file
        At its start, where it is left if it is not deflated.
    pydicom : module
        Which reads the transfer syntax.
    header_only : bool, default=False
        Whether what lies behind the first 16 MiB is of no interest.

    Returns
    -------
    binary file
        Of deflated fields, those that follow the file's own, which said that they are deflated.

    Raises
    ------
    PIL.Image.DecompressionBombError
        They are more than 4 bytes for each of ``PIL.Image.MAX_IMAGE_PIXELS``, and a header.
    ValueError, zlib.error
        They are truncated or damaged.
    """
    if file.read(132)[128:] != b"DICM":
        file.seek(0)
    if file.read(2) != b"\x02\x00":  # no group of the file's own
        file.seek(0)
        return file
    file.seek(-2, 1)
    own = pydicom.filereader.read_dataset(
        file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag >> 16 != 2
    )
    if own.get("TransferSyntaxUID") != pydicom.uid.DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return file
    limit = HEADER
    if not header_only:
        pixels = Image.MAX_IMAGE_PIXELS
        limit = 0 if pixels is None else HEADER + BYTES_PER_PIXEL * pixels  # 0 is none to zlib
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(file.read(), limit)
    if limit and len(data) >= limit:
        if not header_only:
            raise Image.DecompressionBombError(f"more than {limit:,} bytes inflated")
    elif not inflater.eof:
        raise ValueError("its deflated fields are not complete")
    return io.BytesIO(data)
