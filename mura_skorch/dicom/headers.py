"""DICOM headers: an open file goes in, its fields come out, or an error if it is no image."""

import logging
import warnings
from typing import Any, BinaryIO

from PIL import Image

from mura_skorch.dicom.deflated import inflated

__all__ = ["check_image", "import_pydicom", "number", "read_header"]

# A damaged header may raise thousands, and they quote what should be read by nobody.
warnings.filterwarnings("ignore", module=r"pydicom\.")
_INSTALL = "Install what reads DICOM: pip install pydicom python-gdcm pylibjpeg pylibjpeg-openjpeg"


def import_pydicom() -> Any:
    """Return pydicom, which is imported with the first DICOM file only."""
    try:
        import pydicom
        import pydicom.pixels.utils
    except ImportError as error:
        raise ImportError(f"expected the package pydicom, got none. {_INSTALL}") from error
    log = logging.getLogger("pydicom")
    if log.level == logging.WARNING:  # as pydicom sets it: its warnings go there, too
        log.setLevel(logging.ERROR)
    return pydicom


def read_header(file: BinaryIO, names: list[str]) -> Any:
    """Return the fields of these names, without what follows them."""
    pydicom = import_pydicom()
    file = inflated(file, pydicom, header_only=True)
    return pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=names)


def number(found: Any, name: str) -> int | None:
    """Return a field as an integer, None where it holds none."""
    try:
        return int(found.get(name))
    except (TypeError, ValueError, OverflowError):  # missing, empty, several, or no integer
        return None


def check_image(found: Any) -> None:
    """Mend what may be left out of a header, and refuse what cannot be decoded."""
    pydicom = import_pydicom()
    colours = str(found.get("PhotometricInterpretation") or "").strip().upper()
    if colours:
        found.PhotometricInterpretation = colours
    # Before any other field: what some of them hold hangs on the PixelRepresentation.
    found.PixelRepresentation = found.get("PixelRepresentation") or 0
    n_colours = 3 if colours.startswith(("RGB", "YBR")) else 1
    found.SamplesPerPixel = found.get("SamplesPerPixel") or n_colours
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
