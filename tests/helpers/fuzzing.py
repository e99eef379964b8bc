"""What fuzz tests draw and allow: files of ours with damage, texts, rows of tables, and errors."""

import io
import os
import struct
import zlib

import numpy as np
from hypothesis import HealthCheck, event, settings
from hypothesis import strategies as st
from PIL import Image

# Cases of all targets together. A machine that is busy still ends them in a minute.
N_CASES = int(os.environ.get("MURA_SKORCH_FUZZ", "2400"))
SLOWEST = 30_000  # milliseconds of a case, after which it counts as a hang
ERRORS = (ValueError, OSError)
ODD = ["", " ", "\n", "\0", "\x1b[31m", "é", "\u202e", "骨", "../..", "C:\\", "=1+1", '"', ",", "#"]


def cases(share):
    """Settings that give a target its share of the cases, the same ones in each run."""
    return settings(
        max_examples=max(1, round(N_CASES * share)),
        derandomize=True,
        database=None,
        deadline=SLOWEST,
        suppress_health_check=list(HealthCheck),
    )


def right_or_told(action, *, errors=ERRORS):
    """Return what an action gives, or None if it ends in an error of ours that says what to do."""
    told = None
    try:
        found = action()
    except errors as error:
        told = error
    if told is None:
        event("answer")
        return found
    message = str(told)
    assert not isinstance(told, UnicodeError), message
    assert "expected" in message, f"{type(told).__name__}: {message}"
    assert len(message) < 5000, message[:200]
    assert message.replace("\n", "").isprintable(), ascii(message)
    event(type(told).__name__)
    return None


@st.composite
def damaged(draw, files):
    """Draw one of the files, cut, overwritten, doubled or swollen in a few places."""
    data = bytearray(draw(st.sampled_from(files)))
    is_png = data.startswith(b"\x89PNG")
    for _ in range(draw(st.integers(1, 5))):
        end = max(len(data) - 1, 0)
        place = draw(st.integers(0, end) | st.integers(0, min(end, 200)))
        kind = draw(st.sampled_from(["byte", "byte", "number", "cut", "remove", "insert"]))
        if kind == "byte":
            data[place : place + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "number":
            large = draw(st.sampled_from([0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**32 - 1]))
            data[place : place + 4] = struct.pack(draw(st.sampled_from("<>")) + "I", large)
        elif kind == "cut":
            del data[place:]
        elif kind == "remove":
            del data[place : place + draw(st.integers(1, 64))]
        else:
            data[place:place] = draw(st.binary(min_size=1, max_size=32))
    if is_png and draw(st.booleans()):
        data = with_checksums(data)
    return bytes(data)


PNG_START = b"\x89PNG\r\n\x1a\n"


def png_chunk(kind, body):
    """Return a chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_checksums(data):
    """Return a PNG whose chunks are right again by their checksums, so that they are looked at."""
    out, place = bytearray(data[:8]), 8
    while place + 12 <= len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        body = bytes(data[place + 4 : place + 8 + length])
        out += data[place : place + 4] + body + struct.pack(">I", zlib.crc32(body))
        place += 12 + length
    return bytes(out)


def pictures():
    """Return small files of each format and mode that views come in."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (12, 17), dtype=np.uint8)
    deep = rng.integers(0, 4096, (12, 17), dtype=np.uint16)
    image, colour = Image.fromarray(grey), Image.fromarray(grey).convert("RGB")
    exif = Image.Exif()
    exif[274] = 6
    made = [
        (image, "PNG", {"exif": exif}),
        (colour, "PNG", {}),
        (Image.fromarray(deep), "PNG", {}),
        (image.convert("P"), "PNG", {"transparency": 0}),
        (colour.convert("RGBA"), "PNG", {}),
        (image, "JPEG", {"exif": exif}),
        (colour, "JPEG", {"progressive": True}),
        (Image.fromarray(deep), "TIFF", {}),
        (Image.fromarray(grey.astype(np.float32)), "TIFF", {}),
        (colour, "TIFF", {"compression": "tiff_lzw"}),
        (image, "BMP", {}),
        (image, "PPM", {}),
        (colour, "WEBP", {}),
        (image, "GIF", {}),
        (image, "JPEG2000", {}),
    ]
    files = []
    for picture, name, options in made:
        buffer = io.BytesIO()
        picture.save(buffer, name, **options)
        files.append(buffer.getvalue())
    return files


def words(alphabet=None):
    """Return a strategy of texts as they stand in cells: harmless, odd, and anything at all."""
    return st.sampled_from(ODD) | st.text(alphabet or st.characters(), max_size=12)
