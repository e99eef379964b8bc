"""DICOM files: one goes in, its greyscale uint8 view or the few fields that order it come out."""

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
# All that is ever read of a file: pydicom skips the other fields, names and dates among them.
IDENTITY = ["SOPInstanceUID", "StudyInstanceUID", "PatientID"]
KIND = [
    *["Modality", "SOPClassUID", "BodyPartExamined", "PresentationIntentType", "Rows"],
    *["Laterality", "ImageLaterality"],
]
NUMBERS = ["SeriesNumber", "InstanceNumber", "NumberOfFrames"]
# Without segmented palettes, a few bytes of which can unfold to gigabytes: no radiograph has one.
IMAGE = [
    *["SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"],
    *["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"],
    *["PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"],
    *["ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth"],
    *[f"{c}PaletteColorLookupTableDescriptor" for c in ("Red", "Green", "Blue")],
    *[f"{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")],
    "PresentationLUTShape",
]
PIXELS = ["ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"]
_PIXEL_TAG, _UNDEFINED = 0x7FE00010, 0xFFFFFFFF
_END_MARK, _TAIL = b"\xfe\xff\xdd\xe0", 64  # closes compressed pixels; a few fields may follow


def is_dicom(file: BinaryIO) -> bool:
    """Return whether an open file is DICOM, by its content or by its name.

    Parameters
    ----------
    file : binary file
        At its start, where it is left.

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
        At its start. Of several frames, the first is read.
    note : callable, default=warnings.warn
        Takes a sentence where the header's window is not used, because it leaves one grey value.

    Returns
    -------
    view : ndarray of shape (H, W), uint8
        Grey values from 0 to 255, where 0 is black whatever the file counts as zero.

    Raises
    ------
    ImportError
        pydicom, or a decoder of the file's compression, is not installed.
    PIL.Image.DecompressionBombError
        The header tells of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``, or deflated fields are
        larger than so many could be.
    ValueError
        The file is damaged, or what it holds is no image. An `UnsuitableImageError` names the
        element of the header that is missing or has no usable value.

    Notes
    -----
    Compressed pixels are decoded in another process, see `mura_skorch.dicom.decoder_process`.
    """
    with _without_pydicom():
        found = _image_of(file)
        check_display(found)  # before pixels are decoded
        return grey_values(stored_values(found), found, note)


def read_stored_values(file: BinaryIO) -> np.ndarray:
    """Decode an open DICOM file to the integers it holds, whatever they mean as grey values.

    Parameters
    ----------
    file : binary file
        At its start. Of several frames, the first is read.

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
    """Return the fields that make the view, checked."""
    pydicom = import_pydicom()
    # From memory: pydicom's warnings would name the file.
    memory = inflated(io.BytesIO(file.read()), pydicom)
    found = pydicom.dcmread(memory, force=True, specific_tags=IMAGE + PIXELS)
    check_image(found)
    if "PixelData" not in found:
        raise ValueError("it holds no pixels")
    return found


def check_dicom(file: BinaryIO) -> None:
    """Look for what would keep an open DICOM file from being read, without decoding a good one.

    Parameters
    ----------
    file : binary file
        At its start. Uncompressed pixels must be as many bytes as the header tells of; compressed
        ones without their end mark are decoded.

    Raises
    ------
    ImportError, PIL.Image.DecompressionBombError, ValueError
        As in `read_dicom_view`.
    """
    with _without_pydicom():
        _check_length(inflated(file, import_pydicom()))


def _check_length(file: BinaryIO) -> None:
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
    """Read the few fields of a file that say which study it is of and where in it.

    Parameters
    ----------
    path : str or path-like
        Any file.

    Returns
    -------
    dict or None
        The fields in ``IDENTITY`` and ``KIND`` as str, "" where they are missing or empty, and
        ``NUMBERS`` as int, None where there is none. None for a file that is no DICOM. A body part
        that is missing is taken from AnatomicRegionSequence. Pixels and all other fields are
        skipped, unread.

    Raises
    ------
    ImportError
        pydicom is not installed.
    Exception
        Whatever pydicom raises of a damaged header.
    """
    with open(path, "rb") as file:
        if not is_dicom(file):
            return None
        found = read_header(file, [*IDENTITY, *KIND, *NUMBERS, "AnatomicRegionSequence"])
    fields = {name: str(found.get(name) or "").strip() for name in (*IDENTITY, *KIND)}
    if not fields["BodyPartExamined"] and (regions := found.get("AnatomicRegionSequence")):
        fields["BodyPartExamined"] = str(regions[0].get("CodeMeaning") or "").strip()
    # A damaged length makes a field of those that follow, names among them, which nobody may see.
    fields = {name: value if _is_text(value) else "" for name, value in fields.items()}
    return fields | {name: number(found, name) for name in NUMBERS}


def _is_text(value: str) -> bool:
    """Return whether all of a text is letters, signs, or blanks of whatever width."""
    return value.isprintable() or all(
        c.isprintable() or unicodedata.category(c) in ("Zs", "Cf") for c in value
    )


@contextlib.contextmanager
def _without_pydicom() -> Iterator[None]:
    """Raise what pydicom has to say of a damaged file without the lines of pydicom that say it."""
    try:
        yield
    except (ImportError, OSError, MemoryError, Image.DecompressionBombError, UnsuitableImageError):
        raise
    except (ValueError, EOFError, zlib.error) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from None
    except Exception:  # such as AttributeError: Python's words, which say nothing of the file
        raise ValueError("its header or its pixels are damaged") from None
