"""Read a DICOM file: its greyscale view, or the few header elements that identify it."""

import contextlib
import io
import os
import unicodedata
import warnings
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from mura_skorch.dicom.deflate import inflated
from mura_skorch.dicom.grayscale import check_display, grey_values
from mura_skorch.dicom.headers import check_image, import_pydicom, number, read_header
from mura_skorch.dicom.pixel_data import stored_values
from mura_skorch.dicom.signature import START, begins_with_elements
from mura_skorch.utils.intensity import Note, UnsuitableImageError

__all__ = [
    "check_dicom",
    "dicom_mode",
    "is_dicom",
    "read_dicom_fields",
    "read_dicom_view",
    "read_stored_values",
]

SUFFIXES = (".dcm", ".dicom")
# Only these elements are read; pydicom skips all others, such as names and dates.
IDENTITY = ["SOPInstanceUID", "StudyInstanceUID", "PatientID"]
KIND = [
    "Modality",
    "SOPClassUID",
    "BodyPartExamined",
    "PresentationIntentType",
    "Rows",
    "Laterality",
    "ImageLaterality",
]
NUMBERS = ["SeriesNumber", "InstanceNumber", "NumberOfFrames"]
# Without segmented palettes: radiographs have none, and a few bytes can expand to gigabytes.
IMAGE = [
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "PixelPaddingValue",
    "PixelPaddingRangeLimit",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "VOILUTFunction",
    "WindowCenter",
    "WindowWidth",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "PresentationLUTShape",
]
PIXELS = ["ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"]
_PIXEL_TAG, _UNDEFINED = 0x7FE00010, 0xFFFFFFFF
_END_MARK, _TAIL = b"\xfe\xff\xdd\xe0", 64  # ends compressed pixels; a few elements may follow


def is_dicom(file: BinaryIO) -> bool:
    """Return whether an open file is DICOM, by its content or by its name.

    Parameters
    ----------
    file : binary file
        At its start, to which it is reset.

    Examples
    --------
    >>> is_dicom(io.BytesIO(bytes(128) + b"DICM"))
    True
    """
    start = file.read(START)
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    name = str(getattr(file, "name", "")).lower()
    return (
        start[128:132] == b"DICM"
        or (bool(start) and name.endswith(SUFFIXES))
        or begins_with_elements(start, size)
    )


def read_dicom_view(file: BinaryIO, note: Note = warnings.warn) -> np.ndarray:
    """Decode an open DICOM file as greyscale; `mura_skorch.data.read_view` calls it.

    Parameters
    ----------
    file : binary file
        At its start. The first of several frames is read.
    note : callable, default=warnings.warn
        Called with a sentence if the window of the header would leave one grey value.

    Returns
    -------
    view : ndarray of shape (H, W), uint8
        Grey values from 0 to 255; 0 is black, also for files whose 0 is white.

    Raises
    ------
    ImportError
        pydicom, or a decoder of the file's compression, is not installed.
    PIL.Image.DecompressionBombError
        The header states more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, or deflated data are
        larger than that.
    ValueError
        The file is damaged or holds no image. An `UnsuitableImageError` names the element of the
        header that is missing or invalid.

    Notes
    -----
    Compressed pixels are decoded in another process, see `mura_skorch.dicom.decoder_process`.
    """
    with _without_pydicom():
        found = _image_of(file)
        check_display(found)  # before pixels are decoded
        return grey_values(stored_values(found), found, note)


def read_stored_values(file: BinaryIO) -> np.ndarray:
    """Decode an open DICOM file to its stored integers, without display settings.

    Parameters
    ----------
    file : binary file
        At its start. The first of several frames is read.

    Returns
    -------
    ndarray of shape (H, W) or (H, W, 3), integer

    Raises
    ------
    ImportError, PIL.Image.DecompressionBombError, ValueError
        As in `read_dicom_view`.
    """
    with _without_pydicom():
        return stored_values(_image_of(file))


def _image_of(file: BinaryIO) -> Any:
    """Return the checked elements that define the view."""
    pydicom = import_pydicom()
    # From memory, so that pydicom's warnings do not name the file.
    memory = inflated(io.BytesIO(file.read()), pydicom)
    found = pydicom.dcmread(memory, force=True, specific_tags=IMAGE + PIXELS)
    check_image(found)
    if "PixelData" not in found:
        raise ValueError("it holds no pixels")
    return found


def check_dicom(file: BinaryIO) -> None:
    """Raise if an open DICOM file cannot be read; valid pixels are not decoded.

    Parameters
    ----------
    file : binary file
        At its start. Uncompressed pixels must have the size that the header states. Compressed
        pixels are decoded only if their end mark is missing.

    Raises
    ------
    ImportError, PIL.Image.DecompressionBombError, ValueError
        As in `read_dicom_view`.
    """
    with _without_pydicom():
        _check_length(inflated(file, import_pydicom()))


def _check_length(file: BinaryIO) -> None:
    """Raise if the header is invalid or pixels are missing."""
    pydicom = import_pydicom()
    lengths = []

    def at_pixels(tag, _, length):
        if tag == _PIXEL_TAG:
            lengths.append(length)
        return tag >= _PIXEL_TAG

    tags = [pydicom.tag.Tag(name) for name in IMAGE]
    found = pydicom.filereader.read_partial(file, at_pixels, force=True, specific_tags=tags)
    if not lengths:
        raise ValueError("it holds no pixels")
    check_image(found)
    check_display(found)
    syntax = found.file_meta.TransferSyntaxUID
    start = file.tell() + (8 if syntax.is_implicit_VR else 12)
    size = file.seek(0, os.SEEK_END)
    if lengths[0] == _UNDEFINED:
        file.seek(max(size - _TAIL, 0))
        complete = _END_MARK in file.read()
        file.seek(0)
        if not complete:
            read_dicom_view(file)
        return
    needed, got = pydicom.pixels.utils.get_expected_length(found), min(lengths[0], size - start)
    if got < needed:
        raise ValueError(f"{got:,} of {needed:,} bytes of pixels")


def dicom_mode(file: BinaryIO) -> str:
    """Return the photometric interpretation of an open DICOM file, such as MONOCHROME1."""
    name = "PhotometricInterpretation"
    return str(read_header(file, [name]).get(name, "")).strip().upper()


def read_dicom_fields(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read the header elements that identify the study of a file and its place in it.

    Parameters
    ----------
    path : str or path-like
        Any file.

    Returns
    -------
    dict or None
        The elements of ``IDENTITY`` and ``KIND`` as str, "" if missing or empty, and ``NUMBERS`` as
        int, None if missing. None for a file that is not DICOM. A missing body part is taken from
        AnatomicRegionSequence. Pixels and all other elements are not read.

    Raises
    ------
    ImportError
        pydicom is not installed.
    Exception
        As raised by pydicom for a damaged header.
    """
    with open(path, "rb") as file:
        if not is_dicom(file):
            return None
        found = read_header(file, [*IDENTITY, *KIND, *NUMBERS, "AnatomicRegionSequence"])
    fields = {name: str(found.get(name) or "").strip() for name in (*IDENTITY, *KIND)}
    if not fields["BodyPartExamined"] and (regions := found.get("AnatomicRegionSequence")):
        fields["BodyPartExamined"] = str(regions[0].get("CodeMeaning") or "").strip()
    # A damaged length merges an element with the following ones, such as names: discard it.
    fields = {name: value if _is_text(value) else "" for name, value in fields.items()}
    return fields | {name: number(found, name) for name in NUMBERS}


def _is_text(value: str) -> bool:
    """Return whether a text has only printable characters and blanks of any width."""
    return value.isprintable() or all(
        c.isprintable() or unicodedata.category(c) in ("Zs", "Cf") for c in value
    )


@contextlib.contextmanager
def _without_pydicom() -> Iterator[None]:
    """Turn errors of pydicom about a damaged file into a ValueError without its traceback."""
    try:
        yield
    except (ImportError, OSError, MemoryError, Image.DecompressionBombError, UnsuitableImageError):
        raise
    except (ValueError, EOFError, zlib.error) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    except Exception:  # such as AttributeError, whose text does not describe the file
        raise ValueError("its header or its pixels are damaged") from None
