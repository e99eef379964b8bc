"""Inflate deflated DICOM files, with a limit on their size."""

import io
import zlib
from typing import Any, BinaryIO

from PIL import Image

__all__ = ["inflated"]

HEADER = 16 * 2**20  # bytes; far more than the header of a radiograph
BYTES_PER_PIXEL = 4


def inflated(file: BinaryIO, pydicom: Any, *, header_only: bool = False) -> BinaryIO:
    """Return an open DICOM file, or its inflated data set in memory.

    Parameters
    ----------
    file : binary file
        At its start. It is reset to its start if it is not deflated.
    pydicom : module
        The imported package, which reads the transfer syntax.
    header_only : bool, default=False
        Inflate only the first 16 MiB.

    Returns
    -------
    binary file
        For a deflated file, the data set without the file meta information.

    Raises
    ------
    PIL.Image.DecompressionBombError
        More than 4 bytes for each of ``PIL.Image.MAX_IMAGE_PIXELS``, plus a header.
    ValueError, zlib.error
        The data are truncated or damaged.
    """
    if file.read(132)[128:] != b"DICM":
        file.seek(0)
    if file.read(2) != b"\x02\x00":  # no file meta information
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
        limit = 0 if pixels is None else HEADER + BYTES_PER_PIXEL * pixels  # 0: no limit
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    data = inflater.decompress(file.read(), limit)
    if limit and len(data) >= limit:
        if not header_only:
            raise Image.DecompressionBombError(f"more than {limit:,} bytes inflated")
    elif not inflater.eof:
        raise ValueError("its deflated data are incomplete")
    return io.BytesIO(data)
