"""Codestreams: a compressed frame and its header go in, an error comes out where they disagree."""

import struct
from typing import Any

__all__ = ["check_codestream"]

# ITU-T T.81, table B.1, and T.87: a frame's header is SOF0 to SOF15 without DHT, JPG and DAC, or
# SOF55 of JPEG-LS.
_SOF = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_RLE = "1.2.840.10008.1.2.5"
_JPEG, _SIZ = b"\xff\xd8", b"\xff\x4f\xff\x51"  # T.800, A.5.1: SIZ follows the start at once


def check_codestream(frame: bytes, found: Any) -> int:
    """Compare the size that compressed pixels give themselves with that of their header.

    Decoders take memory for the former, before anybody can look at what came out.

    Parameters
    ----------
    frame : bytes
        One frame: JPEG, JPEG-LS, JPEG 2000 or RLE.
    found : pydicom.Dataset
        What describes the pixels, and its ``file_meta``.

    Returns
    -------
    int
        Bits of a value, as the codestream tells; with RLE, the bits allocated.

    Raises
    ------
    ValueError
        They differ, or the frame has no header.
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
            f"its compressed pixels are {columns} x {rows} with {samples} samples, its header "
            f"tells of {found.Columns} x {found.Rows} with {found.SamplesPerPixel}"
        )
    return bits


def _jpeg(frame: bytes) -> tuple[int, int, int, int]:
    """Return rows, columns, samples and bits."""
    place = 2
    while frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:
            place += 1  # filling
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
