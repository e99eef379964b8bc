"""DICOM files: one goes in, its greyscale uint8 view or the few fields that order it come out."""

import io
import os
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from mura_skorch.dicom.pixels import grey_values

__all__ = ["check_dicom", "dicom_mode", "is_dicom", "read_dicom_fields", "read_dicom_view"]

SUFFIXES = (".dcm", ".dicom")
# All that is ever read of a file: pydicom skips the other fields, names and dates among them.
IDENTITY = ["SOPInstanceUID", "StudyInstanceUID", "PatientID"]
KIND = ["Modality", "BodyPartExamined", "PresentationIntentType", "Rows"]
ORDER = ["SeriesNumber", "InstanceNumber"]
IMAGE = [
    *["SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"],
    *["Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"],
    *["PixelPaddingValue", "PixelPaddingRangeLimit", "RescaleSlope", "RescaleIntercept"],
    *["ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction", "WindowCenter", "WindowWidth"],
    *[f"{c}PaletteColorLookupTableDescriptor" for c in ("Red", "Green", "Blue")],
    *[f"{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")],
    *[f"Segmented{c}PaletteColorLookupTableData" for c in ("Red", "Green", "Blue")],
    "PresentationLUTShape",
]
PIXELS = ["ExtendedOffsetTable", "ExtendedOffsetTableLengths", "PixelData"]
_PIXEL_TAG, _UNDEFINED = 0x7FE00010, 0xFFFFFFFF
_END_MARK, _TAIL = b"\xfe\xff\xdd\xe0", 64  # closes compressed pixels; a few fields may follow
_INSTALL = "Install what reads DICOM: pip install 'mura_skorch[dicom]'"


def is_dicom(file: BinaryIO) -> bool:
    """Return whether an open file is DICOM, by its content or, without a preamble, by its name.

    Parameters
    ----------
    file : binary file
        At its start, where it is left.

    Examples
    --------
    >>> is_dicom(io.BytesIO(bytes(128) + b"DICM"))
    True
    """
    start = file.read(132)
    file.seek(0)
    name = str(getattr(file, "name", "")).lower()
    return start[128:] == b"DICM" or (bool(start) and name.endswith(SUFFIXES))


def read_dicom_view(file: BinaryIO) -> np.ndarray:
    """Decode an open DICOM file as greyscale; `mura_skorch.images.read_view` calls it.

    Parameters
    ----------
    file : binary file
        At its start. Of several frames, the first is read.

    Returns
    -------
    view : ndarray of shape (H, W), uint8
        Grey values from 0 to 255, where 0 is black whatever the file counts as zero.

    Raises
    ------
    ImportError
        pydicom, or a decoder of the file's compression, is not installed.
    PIL.Image.DecompressionBombError
        The header tells of more pixels than ``PIL.Image.MAX_IMAGE_PIXELS``.
    Exception
        Whatever pydicom raises of a damaged file.
    """
    pydicom = import_pydicom()
    # From memory: pydicom's warnings would name the file.
    found = pydicom.dcmread(io.BytesIO(file.read()), force=True, specific_tags=IMAGE + PIXELS)
    _check_image(found)
    if "PixelData" not in found:
        raise ValueError("it holds no pixels")
    plugin = _plugin(found.file_meta.TransferSyntaxUID)
    return grey_values(pydicom.pixels.pixel_array(found, index=0, decoding_plugin=plugin), found)


def check_dicom(file: BinaryIO) -> None:
    """Look for what would keep an open DICOM file from being read, without decoding a good one.

    Parameters
    ----------
    file : binary file
        At its start. Uncompressed pixels must be as many bytes as the header tells of; compressed
        ones without their end mark are decoded.

    Raises
    ------
    ImportError, PIL.Image.DecompressionBombError, Exception
        As in `read_dicom_view`.
    """
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
    _check_image(found)
    syntax = found.file_meta.TransferSyntaxUID
    if syntax.is_deflated:
        return  # its length was found out when it was inflated
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
    tags = ["PhotometricInterpretation"]
    read = import_pydicom().dcmread
    found = read(file, stop_before_pixels=True, force=True, specific_tags=tags)
    return str(found.get("PhotometricInterpretation", ""))


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
        those in ``ORDER`` as int, None where missing. None for a file that is no DICOM. Pixels
        and all other fields are skipped, unread.

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
        names = [*IDENTITY, *KIND, *ORDER]
        read = import_pydicom().dcmread
        found = read(file, stop_before_pixels=True, force=True, specific_tags=names)
    texts = {name: str(found.get(name) or "").strip() for name in (*IDENTITY, *KIND)}
    places = {name: found.get(name) for name in ORDER}
    return texts | {name: None if place is None else int(place) for name, place in places.items()}


# -------------------------------------------------------------------- the header


def import_pydicom() -> Any:
    """Return pydicom, which is imported with the first DICOM file only."""
    try:
        import pydicom
        import pydicom.pixels.utils
    except ImportError as error:
        raise ImportError(f"expected the package pydicom, got none. {_INSTALL}") from error
    return pydicom


def _plugin(syntax: Any) -> str:
    """Return which decoder to use: gdcm, which can end the process on damaged data, comes last."""
    available = import_pydicom().pixels.get_decoder(syntax).available_plugins
    return next((name for name in ("pydicom", "pylibjpeg", "pillow") if name in available), "")


def _check_image(found: Any) -> None:
    """Mend what may be left out of a header, and refuse what cannot be decoded."""
    pydicom = import_pydicom()
    for field in list(found):
        if field.is_empty:
            del found[field.tag]  # says no more than a missing one
    if "Rows" not in found or "Columns" not in found:
        raise ValueError("it holds no image")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and found.Rows * found.Columns > limit:
        raise Image.DecompressionBombError(f"{found.Columns} x {found.Rows} pixels")
    if "TransferSyntaxUID" not in found.file_meta:
        found.file_meta.TransferSyntaxUID = {
            (True, True): pydicom.uid.ImplicitVRLittleEndian,
            (False, True): pydicom.uid.ExplicitVRLittleEndian,
            (False, False): pydicom.uid.ExplicitVRBigEndian,
        }[found.original_encoding]
    syntax = found.file_meta.TransferSyntaxUID
    decoder = pydicom.pixels.get_decoder(syntax)
    if not decoder.is_available:
        raise ImportError(f"expected a decoder of {syntax.name}, got none. {_INSTALL}")
    is_deep = syntax == pydicom.uid.JPEGExtended12Bit and found.BitsStored > 8
    if is_deep and "pylibjpeg" not in decoder.available_plugins:
        raise ImportError(
            f"expected a decoder of {syntax.name} with {found.BitsStored} bits, got none. Install "
            "the one there is, under the GPL: pip install pylibjpeg-libjpeg"
        )
