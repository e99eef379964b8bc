"""Read image files whose samples are signed or have more than 8 bits."""

import struct
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

from mura_skorch.utils.intensity import UnsuitableImageError, luma

__all__ = ["check_deep", "check_size", "read_deep"]

Load = Callable[[bytes, str], Image.Image]

PNG_START = b"\x89PNG\r\n\x1a\n"
# Raw modes of Pillow's zip decoder for the upper and the lower byte of each sample of a PNG, by
# colour type. It has none for grey with alpha. Its two samples have as many bytes as RGBA of 8
# bits, and the same filters.
_PNG_RAW_MODES = {
    2: ("RGB", ["RGB;16B", "RGB;16L"]),
    4: ("RGBA", ["RGBA"]),
    6: ("RGBA", ["RGBA;16B", "RGBA;16L"]),
}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Tags of TIFF 6.0.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS_PER_STRIP, _BYTE_COUNTS = 273, 274, 277, 278, 279
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT = 284, 317, 322, 323
_TILE_OFFSETS, _TILE_BYTE_COUNTS, _EXTRA, _FORMAT = 324, 325, 338, 339
_PARTS = (_OFFSETS, _BYTE_COUNTS, _TILE_OFFSETS, _TILE_BYTE_COUNTS)
_KEPT = (
    *(_WIDTH, _HEIGHT, _COMPRESSION, _FILL_ORDER, _ROWS_PER_STRIP, _PREDICTOR),
    *(_TILE_WIDTH, _TILE_HEIGHT, *_PARTS),
)
_OTHERS = (_BITS, _PHOTOMETRIC, _ORIENTATION, _SAMPLES, _PLANAR, _EXTRA, _FORMAT)
_UNSIGNED, _UNDEFINED = 1, 4  # values of _FORMAT
_KINDS = {_UNSIGNED: "u", 2: "i", 3: "f", _UNDEFINED: "u"}
_DTYPES = {(8, "i"), (16, "f"), *((n, kind) for n in (16, 32, 64) for kind in "ui"), (32, "f")}
_DTYPES |= {(64, "f")}
# None, LZW, deflate (two numbers), PackBits, LZMA and Zstandard, which compress bytes.
_LOSSLESS = (1, 5, 8, 32946, 32773, 34925, 50000)
_ALPHA = 2  # of _EXTRA, not multiplied into the colours
# Start of a JPEG 2000 codestream, whose SIZ segment gives the depth of each component.
_SIZ = b"\xff\x4f\xff\x51"
_REMEDY = "Save it as greyscale of 16 bits or less, or drop its study from the table."


def read_deep(file: BinaryIO, load: Load) -> tuple[np.ndarray, int] | None:
    """Return the grey values of a file in full depth, or None if Pillow reads them all.

    Parameters
    ----------
    file : binary file
        At its start, also afterwards.
    load : callable
        Decodes the bytes of a file, given Pillow's name of its format.

    Returns
    -------
    values : ndarray of shape (H, W), integer or float
        On any scale; transparent pixels are laid over black.
    orientation : int
        As in EXIF; 1 is upright.

    Raises
    ------
    UnsuitableImageError
        The file has an unsupported layout.
    ValueError, OSError
        It is truncated or damaged.

    Notes
    -----
    Pillow decodes the same compressed bytes under a different header. A TIFF of three 16-bit
    samples, for example, becomes one of a single 8-bit sample that is six times as wide.
    """
    start = _start(file)
    if start.startswith(PNG_START) and len(start) == 32:
        return _read_png(file) if start[24] == 16 and start[25] in _PNG_RAW_MODES else None
    if start.startswith(_TIFF_STARTS):
        tags = _deep_tags(file)
        return None if tags is None else _read_tiff(file, tags, load)
    if start[:2] in (b"P3", b"P6"):
        return _read_ppm(file, load)
    check_deep(file)
    return None


def check_deep(file: BinaryIO) -> bool:
    """Refuse files with an unsupported layout, by their header.

    Parameters
    ----------
    file : binary file
        At its start, also afterwards.

    Returns
    -------
    bool
        Whether the file is a TIFF of signed or deep samples, which Pillow may not recognise.

    Raises
    ------
    UnsuitableImageError
        The file has an unsupported layout.
    PIL.Image.DecompressionBombError
        Such a TIFF has too many pixels.
    """
    start = _start(file)
    if start.startswith(_TIFF_STARTS):
        return _deep_tags(file) is not None
    if start[4:8] == b"jP  " or start.startswith(_SIZ):
        _check_jpeg_2000(file)
    return False


def check_size(width: int, height: int) -> None:
    """Raise `PIL.Image.DecompressionBombError` above ``PIL.Image.MAX_IMAGE_PIXELS``.

    Raise ValueError if there are no pixels at all.
    """
    if width < 1 or height < 1:
        raise ValueError("its header says that it has no pixels")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise Image.DecompressionBombError(f"{width} x {height} pixels")


def _start(file: BinaryIO) -> bytes:
    start = file.read(32)
    file.seek(0)
    return start


# ------------------------------------------------------------------------- PNG


def _read_png(file: BinaryIO) -> tuple[np.ndarray, int]:
    """Read colour or grey with alpha of 16 bits."""
    data = file.read()
    file.seek(0)
    width, height = struct.unpack_from(">II", data, 16)
    kind, interlace = data[25], data[28]
    check_size(width, height)
    chunks = _png_chunks(data)
    mode, raw_modes = _PNG_RAW_MODES[kind]
    pixels = chunks.get(b"IDAT", b"")
    halves = [
        np.asarray(Image.frombytes(mode, (width, height), pixels, "zip", raw, interlace))
        for raw in raw_modes
    ]
    if kind == 4:
        halves = [halves[0][..., ::2], halves[0][..., 1::2]]
    samples = halves[0].astype(np.uint16) << 8 | halves[1]
    if kind == 2:
        values = luma(samples)
        if len(chunks.get(b"tRNS", b"")) >= 6:  # the colour that is transparent
            transparent = np.array(struct.unpack(">HHH", chunks[b"tRNS"][:6]))
            values[(samples == transparent).all(axis=-1)] = 0
    else:
        grey = samples[..., 0] if kind == 4 else luma(samples[..., :3])
        values = _over_black(grey, samples[..., -1])
    exif = Image.Exif()
    if b"eXIf" in chunks:
        exif.load(chunks[b"eXIf"])
    return values, exif.get(_ORIENTATION, 1)


def _png_chunks(data: bytes) -> dict[bytes, bytes]:
    """Return the chunks of a PNG by type; those of one type are joined."""
    chunks: dict[bytes, bytearray] = {}
    place = len(PNG_START)
    while place + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, place)
        content = data[place + 8 : place + 8 + size]
        stored = data[place + 8 + size : place + 12 + size]
        is_whole = kind == b"IDAT" and len(stored) == 4
        if is_whole and zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(stored, "big"):
            raise ValueError("the checksum of its pixels is wrong")
        chunks.setdefault(kind, bytearray()).extend(content)
        place += size + 12
    return {kind: bytes(parts) for kind, parts in chunks.items()}


# ------------------------------------------------------------------------ TIFF


def _deep_tags(file: BinaryIO) -> dict[int, Any] | None:
    """Return the tags of a TIFF whose samples Pillow does not read exactly, else None."""
    start = file.read(16)
    try:
        found = TiffImagePlugin.ImageFileDirectory_v2(_tiff_header(start))
        file.seek(found.next)
        found.load(file)
        tags: dict[int, Any] = {tag: found[tag] for tag in (*_KEPT, *_OTHERS) if tag in found}
        bits, formats = tags.get(_BITS, (1,)), tags.get(_FORMAT, (_UNSIGNED,))
        n_samples, photometric = tags.setdefault(_SAMPLES, 1), tags.get(_PHOTOMETRIC, -1)
        predictor = tags.setdefault(_PREDICTOR, 1)
        is_unsigned = set(formats) <= {_UNSIGNED, _UNDEFINED}
        is_plain_grey = n_samples == photometric == tags.get(_PLANAR, 1) == 1
        if is_unsigned and max(bits) <= (16 if is_plain_grey else 8):
            return None
        if n_samples == 1 and predictor == 3 and start[:2] == b"II":
            return None
        width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
    except Exception:  # a damaged header: Pillow will say what is wrong
        return None
    finally:
        file.seek(0)
    check_size(width, height)
    kinds = {(n, _KINDS.get(kind)) for n in bits for kind in formats}
    n_colours = {0: 1, 1: 1, 2: 3}.get(photometric, 0)
    is_read = (
        len(kinds) == 1
        and kinds <= _DTYPES
        and 0 < n_colours <= n_samples
        and predictor in (1, 2)
        and tags.get(_COMPRESSION, 1) in _LOSSLESS
    )
    if not is_read:
        raise UnsuitableImageError(
            "expected a deep or signed TIFF in greyscale or RGB, its samples of one kind, "
            f"compressed without loss and with predictor 1 or 2, got photometric interpretation "
            f"{photometric}, {n_samples} samples of {max(bits)} bits and sample format "
            f"{max(formats)}, compression {tags.get(_COMPRESSION, 1)} and predictor {predictor}. "
            f"{_REMEDY}"
        )
    return tags | {_BITS: bits[0], _FORMAT: formats[0]}


def _read_tiff(file: BinaryIO, tags: dict[int, Any], load: Load) -> tuple[np.ndarray, int]:
    """Read deep samples, chunky or planar, in strips or tiles, however they are compressed."""
    data = file.read()
    file.seek(0)
    samples = _tiff_samples(data, tags, load)
    if samples.dtype.itemsize == 8:
        samples = samples.astype(np.float64)
    n_colours = 3 if tags[_PHOTOMETRIC] == 2 else 1
    grey = samples[..., 0] if n_colours == 1 else luma(samples[..., :3])
    if tags[_PHOTOMETRIC] == 0:  # white is zero
        grey = grey.max() - grey.astype(np.float64)
    # Like Pillow, treat an undescribed sample as alpha.
    if tags[_SAMPLES] > n_colours and (*tags.get(_EXTRA, ()), _ALPHA)[0] == _ALPHA:
        grey = _over_black(grey, samples[..., n_colours])
    return grey, tags.get(_ORIENTATION, 1)


def _tiff_samples(data: bytes, tags: dict[int, Any], load: Load) -> np.ndarray:
    """Return the samples in an array of shape (H, W, n_samples)."""
    n_samples, n_bytes = tags[_SAMPLES], tags[_BITS] // 8
    is_planar = n_samples > 1 and tags.get(_PLANAR, 1) == 2
    n_together = 1 if is_planar else n_samples
    new = {tag: tags[tag] for tag in _KEPT if tag in tags}
    new |= {_BITS: (8,), _SAMPLES: 1, _PLANAR: 1, _PHOTOMETRIC: 1, _PREDICTOR: 1}
    for tag in {_WIDTH, _TILE_WIDTH} & set(tags):
        new[tag] = tags[tag] * n_together * n_bytes
    order = "<" if data[:2] == b"II" else ">"
    dtype = np.dtype(f"{order}{_KINDS[tags[_FORMAT]]}{n_bytes}")
    n_planes = n_samples if is_planar else 1
    planes = []
    for plane in range(n_planes):
        for tag in set(_PARTS) & set(tags):
            n_parts = len(tags[tag]) // n_planes
            new[tag] = tags[tag][plane * n_parts : (plane + 1) * n_parts]
        pixels = np.asarray(load(_with_tags(data, new), "TIFF"))
        part = np.ascontiguousarray(pixels).view(dtype).astype(dtype.newbyteorder("="))
        planes.append(part.reshape(tags[_HEIGHT], tags[_WIDTH], n_together))
    samples = np.concatenate(planes, axis=-1)
    if tags[_PREDICTOR] == 2:  # samples are differences from their left neighbours in the tile
        step = tags.get(_TILE_WIDTH, tags[_WIDTH])
        for left in range(0, tags[_WIDTH], step):
            part = samples[:, left : left + step]
            np.cumsum(part, axis=1, dtype=part.dtype, out=part)
    return samples


def _tiff_header(data: bytes) -> bytes:
    return data[: 16 if data[2:4] in (b"+\0", b"\0+") else 8]  # 16 in a BigTIFF


def _with_tags(data: bytes, tags: dict[int, Any]) -> bytes:
    """Return a TIFF of the same strips or tiles, with a new directory at its end."""
    order, is_big = "<" if data[:2] == b"II" else ">", len(_tiff_header(data)) == 16
    place, count, size = ("Q", "Q", 8) if is_big else ("I", "H", 4)
    data += bytes(-len(data) % 8)
    start = struct.pack(order + place, len(data))
    data = data[:size] + start + data[2 * size :]
    # Values that do not fit into their entry are stored after the directory.
    behind = len(data) + struct.calcsize(f"<{count}{place}") + len(tags) * (4 + 2 * size)
    entries, rest = b"", b""
    for tag in sorted(tags):
        values = tags[tag] if isinstance(tags[tag], tuple) else (tags[tag],)
        if not values or min(values) < 0:
            raise ValueError("its directory is damaged")
        kind, letter = (3, "H") if max(values) < 2**16 else (4, "I")
        if max(values) >= 2**32:
            kind, letter = 16, "Q"
        packed = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(packed) > size:
            packed, rest = (
                struct.pack(order + place, behind + len(rest)),
                rest + packed + bytes(-len(packed) % 8),
            )
        entries += struct.pack(f"{order}HH{place}", tag, kind, len(values))
        entries += packed.ljust(size, b"\0")
    return data + struct.pack(order + count, len(tags)) + entries + bytes(size) + rest


# ----------------------------------------------------------------- PNM, JPEG 2000


def _read_ppm(file: BinaryIO, load: Load) -> tuple[np.ndarray, int] | None:
    """Read colour of more than 8 bits."""
    data = file.read()
    file.seek(0)
    tokens: list[tuple[int, bytes]] = []  # place and text of width, height and maximum
    place = 2
    while len(tokens) < 3 and place < len(data):
        if data[place : place + 1] == b"#":
            place = data.find(b"\n", place) + 1 or len(data)
        elif data[place : place + 1].isspace():
            place += 1
        else:
            end = place
            while end < len(data) and data[end : end + 1].isdigit():
                end += 1
            if end == place or end - place > 9:
                return None  # damaged: Pillow will say so
            tokens.append((place, data[place:end]))
            place = end
    if len(tokens) < 3 or int(tokens[2][1]) <= 255:
        return None
    width, height = int(tokens[0][1]), int(tokens[1][1])
    (start, old_width), _, (end, old_maximum) = tokens
    # With this maximum, Pillow neither scales nor rounds.
    grey = b"%s%s%d%s65535%s" % (
        b"P2" if data[:2] == b"P3" else b"P5",
        data[2:start],
        3 * width,
        data[start + len(old_width) : end],
        data[end + len(old_maximum) :],
    )
    samples = np.asarray(load(grey, "PPM")).reshape(height, width, 3)
    return luma(samples), 1


def _check_jpeg_2000(file: BinaryIO) -> None:
    """Refuse several components of more than 8 bits: Pillow drops the lower bits."""
    data = file.read(2**20)
    file.seek(0)
    place = data.find(_SIZ)
    if place < 0 or len(data) < place + 45:
        return
    n_components, depth = struct.unpack_from(">HB", data, place + 40)
    n_bits = (depth & 0x7F) + 1
    if n_components > 1 and n_bits > 8:
        raise UnsuitableImageError(
            f"expected a JPEG 2000 file of one component or of 8 bits, got {n_components} "
            f"components of {n_bits} bits. {_REMEDY}"
        )


# ----------------------------------------------------------------------- alpha


def _over_black(grey: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Lay transparent pixels over black, by multiplying with alpha."""
    low, high = alpha.min(), alpha.max()
    if low == high and high > 0:
        return grey  # equally opaque everywhere: stretching removes the factor
    # The product of two 16-bit integers fits into int64, that of 32-bit integers may not.
    kind = np.int64 if alpha.dtype.kind == "u" and alpha.dtype.itemsize <= 2 else np.float64
    return grey.astype(kind) * alpha.astype(kind)
