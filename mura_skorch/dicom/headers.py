"""Read, complete and validate the headers of DICOM files."""

import logging
import math
import re
from typing import Any, BinaryIO

from PIL import Image

from mura_skorch.dicom.deflate import inflated
from mura_skorch.utils.intensity import UnsuitableImageError
from mura_skorch.utils.library_warnings import ignore_warnings_of

__all__ = ["check_image", "decimal", "import_pydicom", "number", "read_header", "unsuitable"]

_INSTALL = (
    "Install what reads DICOM, the extra [dicom]: pip install pydicom python-gdcm pylibjpeg "
    "pylibjpeg-openjpeg"
)
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_COLOURS = ("RGB", "YBR_")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# Three digits after a comma are ambiguous: 1,000 is one or a thousand.
_DECIMAL_COMMA = re.compile(r"[+-]?(\d+,(\d{1,2}|\d{4,})|0,\d+)([eE][+-]?\d+)?", re.ASCII)
# Values that a message may quote. Other text may be a patient's name, shifted by a damaged length.
_QUOTABLE = re.compile(r"[+-]?([\d.,eE+-]{1,16}|inf|nan|infinity)", re.ASCII | re.IGNORECASE)


def import_pydicom() -> Any:
    """Return pydicom, imported with the first DICOM file."""
    try:
        import pydicom
        import pydicom.pixels.utils
    except ImportError as error:
        raise ImportError(f"expected the package pydicom, got none. {_INSTALL}") from error
    # A damaged header may raise thousands of warnings, and they quote patients' data.
    ignore_warnings_of("pydicom")
    log = logging.getLogger("pydicom")
    if log.level == logging.WARNING:  # the default of pydicom, which also logs its warnings
        log.setLevel(logging.ERROR)
    return pydicom


def read_header(file: BinaryIO, names: list[str]) -> Any:
    """Return the elements of these names, without pixels."""
    pydicom = import_pydicom()
    file = inflated(file, pydicom, header_only=True)
    return pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=names)


def number(found: Any, name: str) -> int | None:
    """Return an element as an integer, None if it is none."""
    try:
        return int(found.get(name))
    except (TypeError, ValueError, OverflowError):  # missing, empty, several, or not an integer
        return None


def decimal(found: Any, name: str, *, nonzero: bool = False) -> float | None:
    """Return the first value of a decimal string (DS), None without that element.

    An unambiguous comma is read as the decimal point.

    Parameters
    ----------
    found : pydicom.Dataset
        Without empty elements.
    name : str
        Keyword of the element.
    nonzero : bool, default=False
        Raise for 0.

    Raises
    ------
    UnsuitableImageError
        The value is not a finite number, or is 0 with `nonzero`.
    """
    value = found.get(name)
    if value is None:
        return None
    if not isinstance(value, str | bytes | int | float):
        value = next(iter(value), "")
    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
    text = text.split("\\")[0].strip(" \0")
    plain = text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text
    result = float(plain) if _NUMBER.fullmatch(plain) else float("nan")
    if not math.isfinite(result) or (nonzero and result == 0):
        kind = "a finite number other than 0" if nonzero else "a finite number"
        raise unsuitable(name, kind, text)
    return result


def unsuitable(name: str, kind: str, got: Any = None) -> UnsuitableImageError:
    """Return the error for an element whose value cannot be used.

    Parameters
    ----------
    name : str
        Keyword of the element, such as "RescaleSlope".
    kind : str
        Description of a valid value.
    got : object, default=None
        Its value; None means that it is missing. Text is quoted only if it is a number.

    Returns
    -------
    UnsuitableImageError
    """
    if got is None:
        text = "none"
    elif isinstance(got, str) and not _QUOTABLE.fullmatch(got):
        text = "another text" if got else "an empty value"
    else:
        text = str(got)
    return UnsuitableImageError(
        f"expected the DICOM element {name} to be {kind}, got {text}. "
        "Correct the header, or drop the study from the table."
    )


def check_image(found: Any) -> None:
    """Complete optional elements of a header, and raise if it cannot be decoded.

    Parameters
    ----------
    found : pydicom.Dataset
        Changed in place: empty elements are deleted, and missing ones with a clear value are set.

    Raises
    ------
    UnsuitableImageError
        An element that describes the pixels is missing or invalid; the message names it.
    ImportError, ValueError, PIL.Image.DecompressionBombError
        The decoder is not installed; there is no image; it has too many pixels.
    """
    pydicom = import_pydicom()
    # First, because the values of other elements depend on the PixelRepresentation.
    _set_pixel_representation(found)
    _delete_empty(found)
    missing = [name for name in ("Rows", "Columns") if name not in found]
    if missing:
        raise ValueError(f"it holds no image: its header has no {' and no '.join(missing)}")
    rows, columns = (_integer(found, name, range(1, 65536)) for name in ("Rows", "Columns"))
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and rows * columns > limit:
        raise Image.DecompressionBombError(f"{columns} x {rows} pixels")
    _set_photometric(found)
    allocated = _integer(found, "BitsAllocated", (1, 8, 16, 32, 64))
    if "BitsStored" not in found:
        highest = number(found, "HighBit")
        fits = highest is not None and 0 <= highest < allocated
        found.BitsStored = highest + 1 if highest is not None and fits else allocated
    _integer(found, "BitsStored", range(1, allocated + 1))
    if "NumberOfFrames" in found:
        found.NumberOfFrames = max(_integer(found, "NumberOfFrames", range(2**31)), 1)
    if "TransferSyntaxUID" not in found.file_meta:
        found.file_meta.TransferSyntaxUID = {
            (True, True): pydicom.uid.ImplicitVRLittleEndian,
            (False, True): pydicom.uid.ExplicitVRLittleEndian,
            (False, False): pydicom.uid.ExplicitVRBigEndian,
        }[found.original_encoding]
    _check_decoder(found, pydicom)
    if found.SamplesPerPixel == 3:
        if found.file_meta.TransferSyntaxUID.is_encapsulated:
            found.setdefault("PlanarConfiguration", 0)
        _integer(found, "PlanarConfiguration", (0, 1))


def _set_pixel_representation(found: Any) -> None:
    """Set PixelRepresentation to 0 if it is missing."""
    name = "PixelRepresentation"
    if name in found and found[name].is_empty:
        del found[name]
    found.setdefault(name, 0)
    _integer(found, name, (0, 1))


def _delete_empty(found: Any) -> None:
    """Delete empty elements, which mean the same as missing ones."""
    from pydicom.datadict import keyword_for_tag

    for tag in list(found.keys()):
        try:
            is_empty = found[tag].is_empty
        except Exception:
            kind = "values of its type (VR)"
            raise unsuitable(keyword_for_tag(tag) or str(tag), kind, "another") from None
        if is_empty:
            del found[tag]


def _set_photometric(found: Any) -> None:
    """Set SamplesPerPixel and PhotometricInterpretation, or raise."""
    colours = str(found.get("PhotometricInterpretation") or "").strip(" \0").upper()
    if not colours and number(found, "SamplesPerPixel") in (None, 1):
        # PS3.3, C.8.11.3.1.2: IDENTITY goes with MONOCHROME2, INVERSE with MONOCHROME1.
        shape = str(found.get("PresentationLUTShape") or "").strip(" \0").upper()
        colours = {"IDENTITY": "MONOCHROME2", "INVERSE": "MONOCHROME1"}.get(shape, "")
    kind = "MONOCHROME1, MONOCHROME2, PALETTE COLOR, RGB or a kind of YBR"
    if not colours:
        raise unsuitable("PhotometricInterpretation", kind)
    if colours not in _GREY and not colours.startswith(_COLOURS):
        raise unsuitable("PhotometricInterpretation", kind, "another text")
    found.PhotometricInterpretation = colours
    n_colours = 1 if colours in _GREY else 3
    found.setdefault("SamplesPerPixel", n_colours)
    if _integer(found, "SamplesPerPixel", (1, 3)) != n_colours:
        kind = f"{n_colours}, to match the PhotometricInterpretation"
        raise unsuitable("SamplesPerPixel", kind, found.SamplesPerPixel)
    if colours == "PALETTE COLOR":
        for colour in ("Red", "Green", "Blue"):
            for part in ("Descriptor", "Data"):
                name = f"{colour}PaletteColorLookupTable{part}"
                if name not in found:
                    raise unsuitable(name, "a table that is not segmented")


def _check_decoder(found: Any, pydicom: Any) -> None:
    """Raise if the compression is not supported or its decoder is not installed."""
    syntax = found.file_meta.TransferSyntaxUID
    try:
        decoder = pydicom.pixels.get_decoder(syntax)
    except NotImplementedError:
        raise unsuitable("TransferSyntaxUID", "a supported compression", "another") from None
    if not decoder.is_available:
        raise ImportError(f"expected a decoder of {syntax.name}, got none. {_INSTALL}")
    is_deep = syntax == pydicom.uid.JPEGExtended12Bit and found.BitsStored > 8
    if is_deep and "pylibjpeg" not in decoder.available_plugins:
        raise ImportError(
            f"expected a decoder of {syntax.name} with {found.BitsStored} bits, got none. Install "
            "the only one, which is under the GPL: pip install pylibjpeg-libjpeg"
        )


def _integer(found: Any, name: str, allowed: range | tuple[int, ...]) -> int:
    """Return an element as an integer, or raise if it is not among the allowed ones."""
    value = number(found, name)
    if value is None or value not in allowed:
        if isinstance(allowed, range):
            kind = f"a whole number from {allowed.start:,} to {allowed.stop - 1:,}"
        else:
            kind = " or ".join(map(str, allowed))
        got: int | str | None = value
        if value is None and name in found:
            got = "another"
        raise unsuitable(name, kind, got)
    return value
