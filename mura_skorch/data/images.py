"""Read an image file as a view: one greyscale uint8 array (H, W)."""

import errno
import io
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, ImageOps

from mura_skorch.data.bit_depth import check_deep, check_size, read_deep
from mura_skorch.dicom.decoder_process import check_image_apart
from mura_skorch.dicom.reader import check_dicom, dicom_mode, is_dicom, read_dicom_view
from mura_skorch.utils.intensity import Note, UnsuitableImageError, stretch
from mura_skorch.utils.library_warnings import ignore_warnings_of
from mura_skorch.utils.progress import map_in_threads
from mura_skorch.utils.remote import file_sizes, open_file
from mura_skorch.utils.text import printable

__all__ = ["check_views", "decode_view", "describe_view", "image_format", "read_view"]

# Pillow knows many more formats. Some start other programs (EPS), others are read by code that
# is rarely reviewed.
FORMATS = ("PNG", "JPEG", "JPEG2000", "TIFF", "BMP", "DIB", "PPM", "WEBP", "GIF")
# Raise it when the rules by which files become grey values change: caches are then filled again.
READING = 2
# Each scan of a progressive JPEG costs a pass over all pixels, and may be a few bytes long. Usual
# files have about ten.
MAX_SCANS = 100
START_OF_SCAN = b"\xff\xda"
# Bytes that end a complete file, searched for in its tail: some writers add padding.
_END_MARKS = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}
_TAIL = 64
# Also reads EXIF, and warns about each damaged field.
_TIFF_HEADERS = "PIL.TiffImagePlugin"
# Turns an array upright, by the orientation in EXIF.
_UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda view: view[::-1, ::-1],
    4: np.flipud,
    5: np.transpose,
    6: lambda view: np.rot90(view, -1),
    7: lambda view: view[::-1, ::-1].T,
    8: np.rot90,
}
# Enough to hide the delay of a network disk; on a local disk the number makes no difference.
_N_THREADS = 8
_N_TOGETHER = 256  # files that a thread checks at a time


def read_view(path: str | os.PathLike[str], *, note: Note | None = None) -> np.ndarray:
    """Read one radiograph as greyscale, whatever the mode of its file.

    Parameters
    ----------
    path : str or path-like
        A PNG, JPEG, JPEG 2000, TIFF, BMP, PNM, WebP or GIF file, or a DICOM file, recognised by its
        content or its suffix. If it has several frames, the first is read. A str may be an address
        of s3://, gs:// or https://, which is read completely.
    note : callable, optional
        Called with a message about a file whose pixels are all equal, or whose DICOM window is not
        used. None warns. Pass a `mura_skorch.utils.intensity.ViewNotes` to read many files.

    Returns
    -------
    view : ndarray of shape (H, W), uint8
        Grey values from 0 to 255, upright: an EXIF orientation is applied. Writable.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImportError
        If it is DICOM or an address, and the packages that read it are not installed.
    OSError
        If access is denied, or a store does not answer.
    ValueError
        If the path is a folder, or the file is empty, no image, truncated, damaged, larger than
        ``PIL.Image.MAX_IMAGE_PIXELS``, holds NaN or infinite pixels, or has a layout or a DICOM
        header that cannot be shown.

    Warns
    -----
    UserWarning
        All pixels are equal, or the window of a DICOM file would make them so.

    Notes
    -----
    - 8-bit grey values are unchanged, 1-bit values become 0 and 255. Colour (RGB, palette, CMYK)
      becomes ITU-R 601 luma, which is exact where red, green and blue are equal.
    - Transparent pixels are laid over black, the background of a radiograph.
    - Samples of more than 8 bits, signed samples and floats are stretched: the smallest value of
      the image becomes 0 and the largest 255, as in a DICOM file without a window. A file does not
      say how many of its 16 bits the detector used. Guessing from the largest value would make an
      image four times darker when one pixel is 1024 instead of 1023. Stretched by its own values,
      an image is the same in training and prediction, whatever else is read. The price: one stray
      pixel of 65535 darkens all others.
    - A TIFF in which zero is white is inverted. JPEG 2000 in colour with more than 8 bits is
      refused, because Pillow drops the lower bits.
    - ``PIL.ImageFile.LOAD_TRUNCATED_IMAGES`` has no effect: if it is set, each file is first
      decoded in another process, in which it is not.
    - For DICOM, see `mura_skorch.dicom.read_dicom_view`.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "image1.png")
    ...     Image.fromarray(np.array([[0, 2048, 4095]], dtype=np.uint16)).save(path)
    ...     read_view(path)
    array([[  0, 128, 255]], dtype=uint8)
    """
    with _opened(path) as file:
        return decode_view(file, note=_named(path, note))


def describe_view(
    path: str | os.PathLike[str], *, note: Note | None = None
) -> tuple[np.ndarray, str | None, str]:
    """Read one radiograph, and format and mode of its file, which is opened once.

    Parameters
    ----------
    path, note
        As for `read_view`, whose errors and warnings these are.

    Returns
    -------
    view : ndarray of shape (H, W), uint8
    kind : str or None
    mode : str
        As `image_format` returns them.
    """
    with _opened(path) as file:
        view = decode_view(file, note=_named(path, note))
        file.seek(0)
        return view, *_format_of(file)


def decode_view(file: BinaryIO, *, note: Note = warnings.warn) -> np.ndarray:
    """Read one radiograph from an open file or from memory, as `read_view` does.

    Parameters
    ----------
    file : binary file
        Readable and seekable, such as ``io.BytesIO(data)``.
    note : callable, default=warnings.warn
        Called with a message about an image whose pixels are all equal, or whose window is not
        used.

    Returns
    -------
    view : ndarray of shape (H, W), uint8

    Raises
    ------
    Exception
        Whatever the decoder raises. The caller knows the name of the file.
    """
    view = _decoded(file, note)
    low = view.min()
    if low == view.max():
        note(f"all of its {view.size:,} pixels have the grey value {low}. Check the image")
    return view


def _decoded(file: BinaryIO, note: Note) -> np.ndarray:
    if is_dicom(file):
        return read_dicom_view(file, note)
    ignore_warnings_of(_TIFF_HEADERS)
    deep = read_deep(file, _load)
    if deep is not None:
        values, orientation = deep
        view = _to_8_bits(values)
        return np.array(_UPRIGHT[orientation](view) if orientation in _UPRIGHT else view)
    with _open_image(file) as image:
        if image.format == "PNG":
            _check_sums(file)
        if image.format in ("JPEG", "MPO"):
            _check_scans(file)
        _check_complete(file)
        return _to_grey(image)


def check_views(paths: Iterable[str | os.PathLike[str]], *, max_named: int = 5) -> None:
    """Find bad image files before training, without decoding the good ones.

    Each path must be a file with a valid header of a supported format. A PNG or JPEG without its
    end mark is decoded, to see whether it is truncated. The pixels of other files are not checked.
    A DICOM file must have a valid header and all its pixels.

    Parameters
    ----------
    paths : iterable of str or path-like
        Image files; a path that occurs several times is checked once.
    max_named : int, default=5
        How many bad files the message names. It counts all of them.

    Raises
    ------
    FileNotFoundError
        If the only problem is that files are missing.
    ImportError
        If the only problem is that a package for DICOM is missing.
    ValueError
        If any file is a folder, empty, no image, truncated, larger than
        ``PIL.Image.MAX_IMAGE_PIXELS``, or of a layout or DICOM header that cannot be shown.

    Examples
    --------
    >>> check_views(["no/such/image1.png"])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    ...
    FileNotFoundError: expected 1 readable image file, got 1 bad file:
      no/such/image1.png: expected an image file, got no such file. ...
    """
    paths = list(dict.fromkeys(paths))
    ignore_warnings_of(_TIFF_HEADERS)
    errors = map_in_threads(
        _check_file,
        paths,
        desc="check files",
        unit="file",
        n_threads=_N_THREADS,
        chunksize=_N_TOGETHER,
        leave=False,
        delay=1.0,
    )
    bad = [error for error in errors if error is not None]
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
    """Return format and mode of a readable image, such as PNG and L, or DICOM and MONOCHROME1."""
    with open_file(path) as file:
        return _format_of(file)


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a file; errors name it."""
    path = os.fspath(path)
    try:
        with open_file(path) as file:
            yield file
    except Exception as error:
        raise _explained(path, error) from error


def _named(path: str | os.PathLike[str], note: Note | None) -> Note:
    """Return what takes a message about a file, and names the file."""
    name = printable(os.fspath(path))

    def named(text: str) -> None:
        text = f"{name}: {text}"
        if note is None:
            warnings.warn(text, stacklevel=4)  # where read_view is called
        else:
            note(text)

    return named


def _format_of(file: BinaryIO) -> tuple[str | None, str]:
    ignore_warnings_of(_TIFF_HEADERS)
    if is_dicom(file):
        return "DICOM", dicom_mode(file)
    try:
        with Image.open(file, formats=FORMATS) as image:
            return image.format, image.mode
    except Image.UnidentifiedImageError:
        file.seek(0)
        if check_deep(file):
            return "TIFF", "deep"
        raise


def _check_file(path: str | os.PathLike[str]) -> Exception | None:
    """Return what is wrong with a file, or None."""
    try:
        with open_file(path) as file:
            if is_dicom(file):
                check_dicom(file)
            else:
                _check_end(file)
    except Exception as error:
        return _explained(path, error)
    return None


def _check_end(file: BinaryIO) -> None:
    if check_deep(file):
        return
    with _open_image(file) as image:
        mark = _END_MARKS.get(image.format or "")
        if mark is not None:
            position = file.tell()
            file.seek(max(file.seek(0, os.SEEK_END) - _TAIL, 0))
            complete = mark in file.read(_TAIL)
            file.seek(position)
            if not complete:
                _check_complete(file)
                image.load()


def _check_complete(file: BinaryIO) -> None:
    """Decode in another process if Pillow would not raise here."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        position = file.tell()
        file.seek(0)
        check_image_apart(file.read(), FORMATS)
        file.seek(position)


def _check_sums(file: BinaryIO) -> None:
    """Compare a PNG's pixels with their checksums; Pillow decodes lost sectors as black."""
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


def _open_image(file: BinaryIO, formats: tuple[str, ...] = FORMATS) -> ImageFile.ImageFile:
    """Read the header, and check the size: up to twice its limit, Pillow only warns."""
    try:
        image = Image.open(file, formats=formats)
    except MemoryError as error:  # Pillow trusts the lengths in a JPEG 2000
        raise ValueError("its header asks for more bytes than memory holds") from error
    check_size(image.width, image.height)
    return image


def _load(data: bytes, name: str) -> Image.Image:
    """Decode a file in memory."""
    file = io.BytesIO(data)
    image = _open_image(file, (name,))
    _check_complete(file)
    image.load()
    return image


def _check_scans(file: BinaryIO) -> None:
    position = file.tell()
    file.seek(0)
    n_scans = file.read().count(START_OF_SCAN)
    file.seek(position)
    if n_scans > MAX_SCANS:
        raise ValueError(f"{n_scans:,} scans, more than {MAX_SCANS}")


def _to_grey(image: ImageFile.ImageFile) -> np.ndarray:
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        transparent = image.info.get("transparency")  # in a PNG, the transparent value
        if isinstance(transparent, int):
            values = np.where(values == transparent, 0, values)
        return _to_8_bits(values)
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
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        n_bad = int((~np.isfinite(values)).sum())
        raise ValueError(f"{n_bad:,} of its {values.size:,} pixels are NaN or infinite")
    return stretch(values)


def _explained(path: str | os.PathLike[str], error: Exception) -> Exception:
    """Turn an error of Python or Pillow into one that names the file."""
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
    if isinstance(error, UnsuitableImageError):  # copying the file again would not help
        return ValueError(f"{name}: {reason}")
    if os.path.isdir(path):  # before OSError: Windows reports a missing permission
        return ValueError(f"{name}: expected an image file, got a folder. Pass the files in it.")
    # EINVAL: a damaged header points before the start of the file.
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return OSError(error.errno, error.strerror, os.fspath(path))
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ValueError(
            f"{name}: expected at most {Image.MAX_IMAGE_PIXELS:,} pixels, got more ({reason}). "
            "Shrink the image, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust the file."
        )
    if isinstance(error, Image.UnidentifiedImageError):
        got = "zero bytes" if file_sizes([path]) == [0] else "a file that is no image Pillow knows"
    else:
        got = f"a truncated or damaged file ({reason or type(error).__name__})"
    return ValueError(
        f"{name}: expected a readable image, got {got}. "
        "Copy the file again, or drop its study from the table."
    )


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
