"""Views: the path of an image file goes in, one greyscale uint8 array (H, W) comes out."""

import errno
import os
import warnings
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from mura_skorch.dicom.files import check_dicom, dicom_mode, is_dicom, read_dicom_view
from mura_skorch.texts import printable

__all__ = ["check_views", "decode_view", "image_format", "read_view"]

# Pillow knows many more formats, some of which start other programs (EPS) or are read by code that
# hardly anybody looks at.
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "DIB", "PPM", "WEBP", "GIF")
# Each scan of a progressive JPEG costs a pass over all pixels and may be a few bytes long; writers
# make about ten.
MAX_SCANS = 100
START_OF_SCAN = b"\xff\xda"
# Pillow warns of each damaged field of a TIFF's or EXIF's header, of which there may be thousands.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
# Bytes that close a complete file, looked for in its tail; some writers pad a few bytes after them.
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
_TAIL = 64
# Bits per pixel that detectors and converters deliver, whatever the width of the file's integers.
_DEPTHS = (8, 10, 12, 14, 16)
# Enough to hide the delay of a network disk; on a local disk the number makes no difference.
_N_THREADS = 8
_PATHS_PER_TASK = 256


def read_view(path: str | os.PathLike[str]) -> np.ndarray:
    """Read one radiograph as greyscale, whatever the mode of its file.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, JPEG 2000, TIFF, BMP, PNM, WebP or GIF file, or a DICOM file, known by its
        content or its suffix. Of a file with several frames, the first is read.

    Returns
    -------
    view : ndarray of shape (H, W), uint8
        Grey values from 0 to 255, upright: an EXIF orientation is applied. A new, writable array.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If it is DICOM and what reads it is not installed.
    ValueError
        If the path is a folder, or the file is empty, no image, truncated, damaged, larger than
        ``PIL.Image.MAX_IMAGE_PIXELS``, or holds NaN or infinite pixels.

    Notes
    -----
    - 8-bit grey is taken as it is, 1-bit becomes 0 and 255. Colour (RGB, palette, CMYK) becomes
      ITU-R 601 luma, which is exact where red, green and blue are equal.
    - Transparent pixels are laid over black, the background of a radiograph.
    - Integers in 0..65535 keep their zero and are never clipped: v becomes
      ``v * 255 / (2**depth - 1)``, rounded, where depth is the smallest of 8, 10, 12, 14 and
      16 bits that holds the largest v of the file, since 12-bit data are often stored in 16.
    - Other integers, and floats, have no nominal range: their minimum becomes 0 and their maximum
      255. A constant image of this kind carries no contrast and becomes zeros.
    - A TIFF of more than 8 bits that counts white as zero is inverted, as Pillow does for 8 bits.
    - Of DICOM, `mura_skorch.dicom.read_dicom_view` says how its values become grey values.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "image1.png")
    ...     Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16)).save(path)
    ...     read_view(path)
    array([[  0, 128, 255]], dtype=uint8)
    """
    try:
        with open(path, "rb") as file:
            return decode_view(file)
    except Exception as error:
        raise _explained(path, error) from error


def decode_view(file: BinaryIO) -> np.ndarray:
    """Read one radiograph from an open file or from memory, as `read_view` does.

    Parameters
    ----------
    file : binary file
        Such as ``io.BytesIO(data)``; it can be read and searched.

    Returns
    -------
    view : ndarray of shape (H, W), uint8

    Raises
    ------
    Exception
        Whatever the decoder raises: who calls knows what the file is called.
    """
    if is_dicom(file):
        return read_dicom_view(file)
    with _open_image(file) as image:
        if image.format == "PNG":
            _check_sums(file)
        if image.format in ("JPEG", "MPO"):
            _check_scans(file)
        return _to_grey(image)


def check_views(paths: Iterable[str | os.PathLike[str]], *, max_named: int = 5) -> None:
    """Find bad image files without decoding the good ones, before an epoch is spent on them.

    Each path must be a file with a header of a format that is read. A PNG or JPEG without its end
    mark is decoded, to see whether it is truncated. Pixels of the other files are not looked at. Of
    DICOM files, the header is checked, and whether all pixels are there.

    Parameters
    ----------
    paths : iterable of str or path-like
        Image files; a path that occurs several times is checked once.
    max_named : int, default=5
        How many bad files the message names; it counts all of them.

    Raises
    ------
    FileNotFoundError
        If the only problem is that files are missing.
    ImportError
        If the only problem is that DICOM files need a package.
    ValueError
        If any file is a folder, empty, no image, truncated or larger than
        ``PIL.Image.MAX_IMAGE_PIXELS``.

    Examples
    --------
    >>> check_views(["no/such/image1.png"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    FileNotFoundError: expected 1 readable image file, got 1 bad file:
      no/such/image1.png: expected an image file, got no such file. ...
    """
    paths = list(dict.fromkeys(paths))
    tasks = [paths[i : i + _PATHS_PER_TASK] for i in range(0, len(paths), _PATHS_PER_TASK)]
    with ThreadPoolExecutor(_N_THREADS) as pool:
        bad = [error for errors in pool.map(_check_files, tasks) for error in errors]
    if not bad:
        return
    kinds = {type(error) for error in bad}
    kind = kinds.pop() if kinds in ({FileNotFoundError}, {ImportError}) else ValueError
    named = [f"\n  {error}" for error in bad[:max_named]]
    rest = [f"\n  ... and {len(bad) - max_named:,} more"] if len(bad) > max_named else []
    raise kind(
        f"expected {_count(len(paths), 'readable image file')}, "
        f"got {_count(len(bad), 'bad file')}:{''.join(named + rest)}"
    )


def image_format(path: str | os.PathLike[str]) -> tuple[str | None, str]:
    """Return format and mode of a readable image, as PNG and L, or DICOM and MONOCHROME1."""
    with open(path, "rb") as file:
        if is_dicom(file):
            return "DICOM", dicom_mode(file)
        with Image.open(file, formats=FORMATS) as image:
            return image.format, image.mode


def _check_files(paths: list[str | os.PathLike[str]]) -> list[Exception]:
    """Return one error for each bad file."""
    return [error for error in map(_check_file, paths) if error is not None]


def _check_file(path: str | os.PathLike[str]) -> Exception | None:
    try:
        with open(path, "rb") as file:
            if is_dicom(file):
                check_dicom(file)
            else:
                _check_end(file)
    except Exception as error:
        return _explained(path, error)
    return None


def _check_end(file: BinaryIO) -> None:
    with _open_image(file) as image:
        mark = _END_MARKS.get(image.format or "")
        if mark is not None:
            position = file.tell()
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            complete = mark in file.read(_TAIL)
            file.seek(position)
            if not complete:
                image.load()


def _check_sums(file: BinaryIO) -> None:
    """Raise where a PNG's pixels have changed since; Pillow decodes lost sectors as black."""
    position = file.tell()
    file.seek(8)
    while len(head := file.read(8)) == 8:
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if kind == b"IDAT":
            found = zlib.crc32(file.read(size), zlib.crc32(kind))
            stored = file.read(4)
            if len(stored) == 4 and found != int.from_bytes(stored, "big"):
                raise ValueError("the checksum of its pixels is wrong")
        else:
            file.seek(size + 4, os.SEEK_CUR)
    file.seek(position)


def _open_image(file: BinaryIO) -> ImageFile.ImageFile:
    """Read the header; Pillow only warns of sizes between its limit and twice its limit."""
    try:
        image = Image.open(file, formats=FORMATS)
    except MemoryError as error:  # Pillow believes what a part of a JPEG 2000 says of its length
        raise ValueError("its header tells of more bytes than memory holds") from error
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and image.width * image.height > limit:
        raise Image.DecompressionBombError(f"{image.width} x {image.height} pixels")
    return image


def _check_scans(file: BinaryIO) -> None:
    position = file.tell()
    file.seek(0)
    n_scans = file.read().count(START_OF_SCAN)
    file.seek(position)
    if n_scans > MAX_SCANS:
        raise ValueError(f"{n_scans:,} scans, more than {MAX_SCANS}")


def _to_grey(image: ImageFile.ImageFile) -> np.ndarray:
    white_is_zero = image.format == "TIFF" and image.tag_v2.get(262) == 0  # type: ignore[attr-defined]
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        view = _to_8_bits(np.asarray(image))
        return 255 - view if white_is_zero else view
    grey: Image.Image = image
    if image.has_transparency_data:
        # Pillow converts the premultiplied modes only to their plain ones.
        grey = image.convert({"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode))
        grey = grey.convert("RGBA")
        grey = Image.alpha_composite(Image.new("RGBA", grey.size, "black"), grey)
    if grey.mode == "LAB":
        grey = grey.getchannel("L")
    elif grey.mode not in ("L", "1", "YCbCr"):
        grey = grey.convert("RGB")
    return np.array(grey.convert("L"))


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{n_bad:,} of its {values.size:,} pixels are NaN or infinite")
    low, high = values.min(), values.max()
    if values.dtype.kind in "iu" and low >= 0 and high <= 65535:
        top = next(2**depth - 1 for depth in _DEPTHS if high < 2**depth)
        return ((values.astype(np.uint32) * 255 + top // 2) // top).astype(np.uint8)
    span = float(high) - float(low)
    scale = 255 / span if span > 0 else 0.0
    return np.rint((values.astype(np.float64) - low) * scale).astype(np.uint8)


def _explained(path: str | os.PathLike[str], error: Exception) -> Exception:
    """Turn what Python or Pillow raised into an error that names the file."""
    if isinstance(error, MemoryError):
        raise error
    name, reason = printable(os.fspath(path)), printable(" ".join(str(error).split()))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return FileNotFoundError(
            f"{name}: expected an image file, got no such file. "
            "Check the path, or copy the file again."
        )
    if isinstance(error, ImportError):
        return ImportError(f"{name}: {reason}")
    if os.path.isdir(path):  # before OSError: Windows calls a folder a lack of permission
        return ValueError(f"{name}: expected an image file, got a folder. Pass the files in it.")
    # EINVAL: a damaged header tells of a place before the file's start.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return OSError(error.errno, error.strerror, os.fspath(path))
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ValueError(
            f"{name}: expected at most {Image.MAX_IMAGE_PIXELS:,} pixels, got more ({reason}). "
            "Shrink the image, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file."
        )
    if isinstance(error, Image.UnidentifiedImageError):
        got = "a file that is no image Pillow knows" if os.path.getsize(path) else "zero bytes"
    else:
        got = f"a truncated or damaged file ({reason or type(error).__name__})"
    return ValueError(
        f"{name}: expected a readable image, got {got}. "
        "Copy the file again, or drop its study from the table."
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
