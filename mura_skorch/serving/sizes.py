"""Sizes: the bytes of an image file go in; its pixels, counted from its header alone, come out."""

import io
import re
from typing import Any

from PIL import Image

from mura_skorch.dicom.files import import_pydicom

__all__ = ["count_pixels"]

# Each scan of a progressive JPEG costs a pass over all pixels and may be a few bytes long; writers
# make about ten.
MAX_SCANS = 100
START_OF_SCAN = b"\xff\xda"
# Compressed pixels in DICOM have sizes of their own, which decoders believe: ISO/IEC 10918-1 B.2.2,
# 14495-1 C.2.2 (start of frame) and 15444-1 A.5.1 (SIZ, with up to 16,384 components).
START_OF_FRAME = re.compile(
    rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7](..).(..)(..)(.)", re.DOTALL
)
SIZ = re.compile(rb"\xff\x4f\xff\x51.{4}(.{4})(.{4}).{24}(..)", re.DOTALL)
MAX_COMPONENTS = 4
PIXEL_DATA = b"\xe0\x7f\x10\x00"
# A few bytes of it inflate to a thousand times as many, before anything can be read.
DEFLATED = b"1.2.840.10008.1.2.1.99"


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
        It is a JPEG of very many scans, a JPEG 2000 of many components or a deflated DICOM file.
    ImportError
        It is DICOM and what reads it is not installed.
    Exception
        Whatever the reader raises of a damaged header.
    """
    if kind == "DICOM":
        return _of_dicom(data)
    if kind == "JPEG":
        _check_scans(data)
    with Image.open(io.BytesIO(data), formats=[kind]) as image:
        return image.width * image.height


def _of_dicom(data):
    if DEFLATED in data:
        raise ValueError("a deflated file, which is not taken")
    read: Any = import_pydicom().dcmread
    tags = ["Rows", "Columns"]
    found = read(io.BytesIO(data), stop_before_pixels=True, specific_tags=tags)
    sizes = [int(found.get("Rows") or 0) * int(found.get("Columns") or 0)]
    syntax = found.file_meta.get("TransferSyntaxUID", "")
    if syntax and syntax.is_encapsulated and not syntax.name.startswith("RLE"):
        pixels = data[max(data.find(PIXEL_DATA), 0) :]
        _check_scans(pixels)
        for x, y, n in SIZ.findall(pixels):
            if (n_components := _int(n)) > MAX_COMPONENTS:
                raise ValueError(f"{n_components:,} components, more than {MAX_COMPONENTS}")
            sizes.append(_int(x) * _int(y))
        sizes += _frame_sizes(pixels)
    return max(sizes)


def _frame_sizes(data):
    """Return the pixels of each frame of JPEG or JPEG-LS, known by the length of its header."""
    found = START_OF_FRAME.findall(data)
    return [_int(y) * _int(x) for length, y, x, n in found if _int(length) == 8 + 3 * _int(n)]


def _check_scans(data):
    n_scans = data.count(START_OF_SCAN) // max(len(_frame_sizes(data)), 1)
    if n_scans > MAX_SCANS:
        raise ValueError(f"{n_scans:,} scans, more than {MAX_SCANS}")


def _int(text):
    return int.from_bytes(text, "big")
