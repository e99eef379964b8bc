"""Read the display settings of a DICOM header: lookup tables, window, padding."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mura_skorch.dicom.headers import decimal, unsuitable

__all__ = ["Display", "Table", "Window", "read_display"]

_FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
_PADDING = ("PixelPaddingValue", "PixelPaddingRangeLimit")


@dataclass(frozen=True)
class Table:
    """A lookup table.

    Attributes
    ----------
    entries : ndarray of shape (n_entries,), int64
        From 0 to 65535.
    first : int
        Input value of the first entry.
    """

    entries: np.ndarray
    first: int

    def look_up(self, values: np.ndarray) -> np.ndarray:
        """Return the entries for the values; outside the table, its first or last entry."""
        places = np.clip(np.rint(values) - self.first, 0, len(self.entries) - 1)
        return self.entries[places.astype(np.int64)]


@dataclass(frozen=True)
class Window:
    """A window, in units of the modality such as Hounsfield units.

    Attributes
    ----------
    center, width : float
        Finite; the width is positive, with LINEAR at least 1.
    function : {"LINEAR", "LINEAR_EXACT", "SIGMOID"}
    """

    center: float
    width: float
    function: Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Map values to 0 (black) to 1 (white), see PS3.3, C.11.2.1.2 and C.11.2.1.3."""
        center, width = self.center, self.width
        if self.function == "SIGMOID":
            return 1 / (1 + np.exp(-4 * ((values - center) / width)))
        if self.function == "LINEAR":
            center, width = center - 0.5, width - 1
        if width == 0:
            return (values > center).astype(np.float64)
        return ((values - center) / width + 0.5).clip(0, 1)


@dataclass(frozen=True)
class Display:
    """Mapping from the stored values of a greyscale image to grey values.

    Attributes
    ----------
    modality : Table or None
        Modality LUT. If there is one, `slope` is 1 and `intercept` is 0.
    slope, intercept : float
        Finite, the slope is not 0.
    voi : Table, Window or None
        VOI LUT or window.
    padding : tuple of int or None
        Smallest and largest stored value of padding.
    is_inverse : bool
        Whether small values are shown white.
    """

    modality: Table | None
    slope: float
    intercept: float
    voi: Table | Window | None
    padding: tuple[int, int] | None
    is_inverse: bool


def read_display(found: Any) -> Display:
    """Read how the stored values are to be displayed.

    Parameters
    ----------
    found : pydicom.Dataset
        Checked by `mura_skorch.dicom.headers.check_image`.

    Raises
    ------
    UnsuitableImageError
        An element has no usable value; the message names it.

    Notes
    -----
    Elements of VR "US or SS" are read as 16 bits. Their sign follows from the data, since the VR in
    the file is often wrong: padding and the modality LUT follow the PixelRepresentation [1]_; the
    VOI LUT is signed if the modality's output can be negative [2]_. If a table would then lie
    outside all possible values, the other sign is used.

    References
    ----------
    .. [1] DICOM PS3.3, C.11.1.1.1 and C.7.5.1.1.2.
    .. [2] DICOM PS3.3, C.11.2.1.1.
    """
    n_bits, is_signed = found.BitsStored, found.PixelRepresentation == 1
    ends = (-(2 ** (n_bits - 1)), 2 ** (n_bits - 1) - 1) if is_signed else (0, 2**n_bits - 1)
    slope, intercept, modality = 1.0, 0.0, None
    outputs: tuple[float, float]
    if found.get("ModalityLUTSequence"):
        modality = _table(found, "ModalityLUTSequence", ends)
        outputs = int(modality.entries.min()), int(modality.entries.max())
    else:
        slope = _or(decimal(found, "RescaleSlope", nonzero=True), 1.0)
        intercept = _or(decimal(found, "RescaleIntercept"), 0.0)
        rescaled = sorted(slope * end + intercept for end in ends)
        outputs = rescaled[0], rescaled[1]
    if found.get("VOILUTSequence"):
        voi: Table | Window | None = _table(found, "VOILUTSequence", outputs)
    else:
        voi = _window(found)
    shape = str(found.get("PresentationLUTShape", "")).strip(" \0").upper()
    is_inverse = shape == "INVERSE" or found.PhotometricInterpretation == "MONOCHROME1"
    return Display(modality, slope, intercept, voi, _padding(found, is_signed), is_inverse)


def _or(value: float | None, default: float) -> float:
    """Return the value, or the default for None."""
    return default if value is None else value


def _window(found: Any) -> Window | None:
    """Return the first window of a header, None without a usable one."""
    center, width = decimal(found, "WindowCenter"), decimal(found, "WindowWidth")
    if center is None or width is None:
        return None
    if width < 0:
        raise unsuitable("WindowWidth", "positive", f"{width:g}")
    function = str(found.get("VOILUTFunction", "LINEAR")).strip(" \0").upper() or "LINEAR"
    if function not in _FUNCTIONS:
        raise unsuitable("VOILUTFunction", " or ".join(_FUNCTIONS), "another text")
    is_none = width < (1 if function == "LINEAR" else 1e-9)
    return None if is_none else Window(center, width, function)  # type: ignore[arg-type]


def _padding(found: Any, is_signed: bool) -> tuple[int, int] | None:
    """Return the smallest and the largest padding value, None without padding."""
    if _PADDING[0] not in found:
        return None
    ends = []
    for name in _PADDING:
        if name in found:
            value = _words(found, found[name].value, name)[0]
            if is_signed and value >= 2**15:
                value -= 2**16
            elif is_signed and 2 ** (found.BitsStored - 1) <= value < 2**found.BitsStored:
                value -= 2**found.BitsStored
            ends.append(value)
    return min(ends), max(ends)


def _table(found: Any, name: str, inputs: tuple[float, float]) -> Table:
    """Return the first lookup table of a sequence, for inputs within these limits.

    Files disagree about the number of bits, and about whether a word holds two entries of 8 bits,
    so this is decided by the number of words. Words after the last entry are padding.
    """
    try:
        item = found.get(name)[0]
        descriptor, data = item["LUTDescriptor"].value, item["LUTData"].value
    except Exception:  # not a sequence, or an incomplete item
        raise unsuitable(name, "a table with LUTDescriptor and LUTData", "another") from None
    numbers = _words(found, descriptor, f"{name} LUTDescriptor")
    if len(numbers) < 2:
        raise unsuitable(f"{name} LUTDescriptor", "three numbers", f"{len(numbers)}")
    n_entries, first = numbers[0] or 65536, numbers[1]
    words = _words(found, data, f"{name} LUTData")
    if len(words) < n_entries:
        words = words.astype("<u2").view(np.uint8)
    if len(words) < n_entries:
        raise ValueError(f"a lookup table of {len(words):,} of {n_entries:,} entries")
    entries = words[:n_entries].astype(np.int64)
    return Table(entries, _first_value(int(first), n_entries, inputs))


def _first_value(word: int, n_entries: int, inputs: tuple[float, float]) -> int:
    """Return the first input value of a table, from its 16 bits."""
    if word < 2**15:
        return word
    signed, unsigned = word - 2**16, word
    low, high = inputs
    if low < 0:
        return unsigned if signed + n_entries - 1 < low and unsigned <= high else signed
    return signed if unsigned > high and signed + n_entries - 1 >= low else unsigned


def _words(found: Any, value: Any, name: str) -> np.ndarray:
    """Return numbers of 16 bits as unsigned integers, whatever their VR."""
    if isinstance(value, bytes):
        order = "<" if found.file_meta.TransferSyntaxUID.is_little_endian else ">"
        words = np.frombuffer(value[: len(value) // 2 * 2], f"{order}u2")
    else:
        try:
            words = np.atleast_1d(np.asarray(value, dtype=np.int64)) % 65536
        except (TypeError, ValueError, OverflowError):
            words = np.array([])
    if words.size == 0:
        raise unsuitable(name, "a whole number", "another")
    return words.astype(np.int64)
