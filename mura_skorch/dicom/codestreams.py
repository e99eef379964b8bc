"""Check that compressed pixels have the size their DICOM header states."""

import struct
from typing import Any

__all__ = ["check_codestream"]

# ITU-T T.81, table B.1, and T.87: frame headers are SOF0 to SOF15, except DHT, JPG and DAC, and
# SOF55 of JPEG-LS.
_SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_RLE = "1.2.840.10008.1.2.5"
_JPEG, _SIZ = b"\xff\xd8", b"\xff\x4f\xff\x51"  # T.800, A.5.1: SIZ directly follows the start


def check_codestream(frame: bytes, found: Any) -> int:
    """Raise if compressed pixels and their DICOM header differ in size.

    Decoders allocate memory by the size in the pixels, before the result can be checked.

    Parameters
    ----------
    frame : bytes
        One frame: JPEG, JPEG-LS, JPEG 2000 or RLE.
    found : pydicom.Dataset
        The elements that describe the pixels, and ``file_meta``.

    Returns
    -------
    int
        Bits per value in the codestream; with RLE, the bits allocated.

    Raises
    ------
    ValueError
        The sizes differ, or the frame has no header.
    """
    expected = found.Rows, found.Columns, found.SamplesPerPixel
    try:
        if found.file_meta.TransferSyntaxUID == _RLE:
            n_segments = struct.unpack_from("<I", frame)[0]
            needed = found.SamplesPerPixel * found.BitsAllocated / 8
            if n_segments != needed:
                raise ValueError(f"{n_segments:,} RLE segments, not {needed:g}")
            return found.BitsAllocated
        rows, columns, samples, bits = _jpeg(frame) if frame[:2] == _JPEG else _jpeg2000(frame)
    except (struct.error, IndexError):
        raise ValueError("its compressed pixels have no header") from None
    if (rows, columns, samples) != expected:
        raise ValueError(
            f"its compressed pixels are {columns} x {rows} with {samples} samples, but its header "
            f"says {found.Columns} x {found.Rows} with {found.SamplesPerPixel}"
        )
    return bits


def _jpeg(frame: bytes) -> tuple[int, int, int, int]:
    """Return rows, columns, samples and bits."""
    place = 2
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1  # fill byte
        elif marker in _SOF:
            bits, rows, columns, samples = struct.unpack_from(">BHHB", frame, place + 4)
            return rows, columns, samples, bits
        else:
            place += 2 + struct.unpack_from(">H", frame, place + 2)[0]
    raise IndexError


def _jpeg2000(frame: bytes) -> tuple[int, int, int, int]:
    """Return rows, columns, samples and bits, also of a codestream in a JP2 file."""
    start = frame.find(_SIZ)
    if start < 0:
        raise IndexError
    right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
    samples, depth = struct.unpack_from(">HB", frame, start + 40)
    return bottom - top, right - left, samples, (depth & 0x7F) + 1
