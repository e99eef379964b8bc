"""Write PNG and TIFF files of samples that Pillow does not write."""

import itertools
import struct
import zlib

import numpy as np


def write_deep_png(path, samples, kind, *chunks, interlace=0):
    """Write 16-bit samples of shape (H, W, n_samples), each row with the next of PNG's filters."""
    height, width, n_samples = samples.shape
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, interlace)
    raw = samples.astype(">u2").view(np.uint8).reshape(height, -1).astype(int)
    left = np.pad(raw, ((0, 0), (2 * n_samples, 0)))[:, : raw.shape[1]]
    above = np.pad(raw, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(above, ((0, 0), (2 * n_samples, 0)))[:, : raw.shape[1]]
    guess = left + above - corner
    options = np.stack([left, above, corner])
    paeth = np.take_along_axis(options, np.abs(options - guess).argmin(0)[None], 0)[0]
    filters = [0 * raw, left, above, (left + above) // 2, paeth]
    rows = [bytes([n % 5, *((raw - filters[n % 5])[n] % 256)]) for n in range(height)]
    data = zlib.compress(b"".join(rows))
    parts = [(b"IHDR", head), *chunks, (b"IDAT", data[:50]), (b"IDAT", data[50:]), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(itertools.starmap(_chunk, parts)))
    return path


def _chunk(kind, data):
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + checksum


def write_tiff(
    path, samples, *, order="<", planar=False, compression=1, predictor=1, tile=None, **tags
):
    """Write samples of shape (H, W, n_samples); further tags are named by `t` and their number."""
    height, width, n_samples = samples.shape
    bits, kind = 8 * samples.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    planes = np.split(samples, n_samples, axis=-1) if planar else [samples]
    parts = []
    for plane in planes:
        if tile:
            padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
            corners = itertools.product(range(0, height, tile), range(0, width, tile))
            blocks = [padded[y : y + tile, x : x + tile] for y, x in corners]
        else:
            blocks = [plane[y : y + 7] for y in range(0, height, 7)]
        for block in blocks:
            if predictor == 2:
                block = np.concatenate([block[:, :1], np.diff(block, axis=1)], axis=1)
            data = block.astype(block.dtype.newbyteorder(order)).tobytes()
            parts.append(zlib.compress(data) if compression == 8 else data)
    sizes = [len(part) for part in parts]
    places = [8 + sum(sizes[:n]) for n in range(len(parts))]
    found = {256: [width], 257: [height], 258: [bits] * n_samples, 259: [compression]}
    found |= {262: [2 if n_samples > 2 else 1], 277: [n_samples], 284: [1 + planar]}
    found |= {317: [predictor], 339: [kind] * n_samples}
    if tile:
        found |= {322: [tile], 323: [tile], 324: places, 325: sizes}
    else:
        found |= {273: places, 278: [7], 279: sizes}
    found |= {int(name[1:]): values for name, values in tags.items()}
    start = 8 + sum(sizes)
    entries, rest = b"", b""
    for tag in sorted(found):
        values = struct.pack(f"{order}{len(found[tag])}I", *found[tag])
        if len(values) > 4:
            place = start + 2 + 12 * len(found) + 4 + len(rest)
            values, rest = struct.pack(f"{order}I", place), rest + values
        entries += struct.pack(f"{order}HHI", tag, 4, len(found[tag])) + values
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HI", 42, start)
    count = struct.pack(f"{order}H", len(found))
    path.write_bytes(head + b"".join(parts) + count + entries + bytes(4) + rest)
    return path
