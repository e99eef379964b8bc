import itertools
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import SECRET, write_dicom
from pydicom import uid
from pydicom.dataset import Dataset

from mura_skorch.data import check_views, read_view

RAMP = np.linspace(0, 4000, 64).astype(np.uint16).reshape(8, 8)
SYNTAXES = [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian]
# Words of Python, NumPy and pydicom, which say nothing of the file.
INTERNAL = re.compile(r"attribute|ufunc|NoneType|operand|__|callable|ambiguous|codec|dtype|struct")


def write(path, pixels=RAMP, *, replaced=None, elements=(), drop=(), **fields):
    """Write a 12-bit ramp; `elements` have a VR of their own, `replaced` are bytes of the file."""
    write_dicom(path, pixels, **{"BitsStored": 12, **fields})
    if elements or drop:
        found = pydicom.dcmread(path)
        for element in elements:
            found.add_new(*element)
        for name in drop:
            del found[name]
        found.save_as(path)
    if replaced:
        data = path.read_bytes()
        assert data.count(replaced[0]) == 1
        path.write_bytes(data.replace(*replaced))
    return path


def write_text(path, name, text, **fields):
    """Write an element of text that pydicom would not write."""
    new = text.encode().ljust(12)
    old = b"7" * len(new)
    return write(path, replaced=(old, new), **{**fields, name: old.decode()})


def table(first, vr, n_entries=4096):
    item = Dataset()
    item.add_new("LUTDescriptor", vr, [n_entries, first, 16])
    item.add_new("LUTData", "OW", np.arange(n_entries, dtype="<u2").tobytes())
    return [item]


def read_quietly(path):
    """Read a view; a note is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_views([path])
        return read_view(path)


# --------------------------------------------------- numbers that may have a sign


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_padding_has_the_sign_of_the_pixels(tmp_path, syntax):
    pixels = RAMP.astype(np.int16)
    pixels[0, :2] = -2000, -1990
    names = "PixelPaddingValue", "PixelPaddingRangeLimit"
    is_padding = pixels < 0
    low = pixels[~is_padding].min()
    expected = np.where(is_padding, 0, np.rint((pixels - low) / (4000.0 - low) * 255))
    for vr, shift in (("SS", 0), ("US", 65536)):
        elements = [(names[0], vr, -2000 + shift), (names[1], vr, -1990 + shift)]
        path = write(tmp_path / "v", pixels, BitsStored=16, syntax=syntax, elements=elements)
        np.testing.assert_array_equal(read_quietly(path), expected)


def test_padding_of_unsigned_pixels_may_be_written_signed(tmp_path):
    pixels = RAMP.copy()
    pixels[0, 0] = 63536
    elements = [("PixelPaddingValue", "SS", -2000)]
    view = read_quietly(write(tmp_path / "v", pixels, BitsStored=16, elements=elements))
    assert view[0, 0] == 0
    assert view.max() == view[-1, -1] == 255
    assert len(np.unique(view)) > 60


def test_padding_of_12_signed_bits_may_lack_the_upper_bits(tmp_path):
    pixels = (RAMP // 4).astype(np.int16)
    pixels[0, 0] = -2000
    plain = read_quietly(
        write(tmp_path / "v", pixels, elements=[("PixelPaddingValue", "SS", -2000)])
    )
    for value in (63536, 0x830):
        elements = [("PixelPaddingValue", "US", value)]
        np.testing.assert_array_equal(
            read_quietly(write(tmp_path / "v", pixels, elements=elements)), plain
        )


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("kind", ["uint16", "int16"])
@pytest.mark.parametrize("vr", ["SS", "US"])
def test_voi_table_starts_within_the_modality_output(tmp_path, kind, vr, syntax):
    first = -1024 if vr == "SS" else 64512  # the same 16 bits
    if kind == "uint16":
        pixels, rescale = RAMP, {"RescaleSlope": 1, "RescaleIntercept": -1024}
    else:
        pixels, rescale = RAMP.astype(np.int16) - 1024, {}
    fields = {**rescale, "VOILUTSequence": table(first, vr), "BitsStored": 16, "syntax": syntax}
    view = read_quietly(write(tmp_path / "v", pixels, **fields))
    np.testing.assert_array_equal(view, np.rint(RAMP / 4095 * 255))


def test_voi_table_may_start_at_large_unsigned_values(tmp_path):
    pixels = RAMP + np.uint16(50_000)
    fields = {"VOILUTSequence": table(50_000, "US"), "BitsStored": 16}
    view = read_quietly(write(tmp_path / "v", pixels, **fields))
    np.testing.assert_array_equal(view, np.rint(RAMP / 4095 * 255))
    signed = {"VOILUTSequence": table(50_000 - 65536, "SS"), "BitsStored": 16}
    np.testing.assert_array_equal(read_quietly(write(tmp_path / "v", pixels, **signed)), view)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("vr", ["SS", "US"])
def test_modality_table_has_the_sign_of_the_pixels(tmp_path, vr, syntax):
    pixels = RAMP.astype(np.int16) - 2000
    first = -2000 if vr == "SS" else 63536
    fields = {"ModalityLUTSequence": table(first, vr), "BitsStored": 16, "syntax": syntax}
    view = read_quietly(write(tmp_path / "v", pixels, **fields))
    np.testing.assert_array_equal(view, np.rint(RAMP / 4000 * 255))


# ------------------------------------------------------------- slopes and windows


def test_negative_slope_inverts_before_the_window(tmp_path):
    fields = {"RescaleSlope": -10, "RescaleIntercept": 40_000, "VOILUTFunction": "LINEAR_EXACT"}
    path = write(tmp_path / "v", **fields, WindowCenter=20_000, WindowWidth=40_000)
    np.testing.assert_array_equal(read_quietly(path), np.rint((4000.0 - RAMP) / 4000 * 255))


@pytest.mark.parametrize("drop", ["RescaleIntercept", "RescaleSlope"])
def test_slope_and_intercept_have_defaults(tmp_path, drop):
    fields = {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 2000, "WindowWidth": 3000}
    expected = read_quietly(write(tmp_path / "v", **fields))
    np.testing.assert_array_equal(
        read_quietly(write(tmp_path / "v", **fields, drop=[drop])), expected
    )


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
    "fields",
    [
        {"RescaleSlope": -1, "RescaleIntercept": 0, "WindowCenter": 2000, "WindowWidth": 4000},
        {"WindowCenter": 9000, "WindowWidth": 100},
        {"WindowCenter": -9000, "WindowWidth": 100, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": -5000, "WindowWidth": "1e9"},
        {"VOILUTSequence": table(20_000, "US")},
    ],
)
def test_window_that_leaves_one_grey_value_is_ignored_with_a_warning(tmp_path, fields, photometric):
    voi = {"WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence"}
    plain = {name: value for name, value in fields.items() if name not in voi}
    expected = read_quietly(write(tmp_path / "v", **plain, PhotometricInterpretation=photometric))
    path = write(tmp_path / "IM1", **fields, PhotometricInterpretation=photometric)
    with pytest.warns(UserWarning, match=r"IM1: the (window|VOILUTSequence).*leaves one grey"):
        view = read_view(path)
    np.testing.assert_array_equal(view, expected)
    assert np.ptp(view) == 255


def test_window_of_a_blank_picture_is_used_with_a_warning(tmp_path):
    path = write(tmp_path / "IM1", RAMP * 0 + 7, WindowCenter=2000, WindowWidth=10)
    with pytest.warns(UserWarning, match="IM1: all of its 64 pixels have the grey value 0"):
        assert (read_view(path) == 0).all()


# --------------------------------------------------------- values that mean nothing


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    ("name", "text"),
    [
        *itertools.product(
            ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"],
            ["nan", "inf", "-inf", "1e999", "1,000", "1.0,5", "1_0", "abc", SECRET, "\\5"],
        ),
        *[("RescaleSlope", "0"), ("RescaleSlope", "0,0"), ("WindowWidth", "-400")],
    ],
)
def test_invalid_number_is_named_before_training(tmp_path, name, text, syntax):
    fields = {"RescaleSlope": 1, "RescaleIntercept": 0, "WindowCenter": 2000, "WindowWidth": 3000}
    path = write_text(tmp_path / "IM1", name, text, syntax=syntax, **fields)
    for read in (lambda path: check_views([path]), read_view):
        message = rf"IM1: expected the DICOM element {name} to"
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert "Copy the file again" not in str(caught.value)
        assert SECRET not in str(caught.value)
        assert not INTERNAL.search(str(caught.value))


@pytest.mark.parametrize("text", ["1,5", "0,125", "-1,25", "1,5e1", "12,3456"])
def test_unambiguous_decimal_comma_is_accepted(tmp_path, text):
    fields = {"RescaleIntercept": 0, "WindowCenter": 0, "WindowWidth": 9000}
    plain = write(tmp_path / "v", **fields, RescaleSlope=text.replace(",", "."))
    comma = write_text(tmp_path / "w", "RescaleSlope", text, **fields)
    np.testing.assert_array_equal(read_quietly(comma), read_quietly(plain))


@pytest.mark.parametrize(
    "fields",
    [
        *[{"BitsAllocated": 12}, {"BitsStored": 0}, {"BitsStored": 17}, {"SamplesPerPixel": 2}],
        *[{"SamplesPerPixel": 3}, {"PixelRepresentation": 2}, {"Rows": 0}],
        *[{"PhotometricInterpretation": "HSV"}, {"PhotometricInterpretation": SECRET}],
        *[{"PhotometricInterpretation": "PALETTE COLOR"}, {"VOILUTFunction": "GAMMA"}],
        *[{"VOILUTSequence": [Dataset()]}],
        *[{"BitsAllocated": None}, {"PhotometricInterpretation": None}],
    ],
)
def test_invalid_pixel_description_is_named_before_training(tmp_path, fields):
    window = {"WindowCenter": 2000, "WindowWidth": 3000}
    path = write(tmp_path / "IM1", **{"HighBit": 11, **window, **fields})
    for read in (lambda path: check_views([path]), read_view):
        with pytest.raises(ValueError, match="IM1: expected the DICOM element ") as caught:
            read(path)
        text = str(caught.value)
        assert next(iter(fields)) in text or "SamplesPerPixel" in text or "Palette" in text
        assert "Copy the file again" not in text
        assert SECRET not in text
        assert not INTERNAL.search(text)


def test_value_of_a_wrong_length_is_named(tmp_path):
    old = b"\x28\x00\x01\x01US\x02\x00" + struct.pack("<H", 12)
    path = write(tmp_path / "IM1", replaced=(old, old[:6] + b"\x01\x00\x0c"))
    for read in (lambda path: check_views([path]), read_view):
        with pytest.raises(ValueError, match="IM1: expected the DICOM element BitsStored"):
            read(path)


# ----------------------------------------------------------- what may be missing


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_bits_stored_may_be_missing(tmp_path, syntax):
    expected = read_quietly(write(tmp_path / "v", syntax=syntax))
    for drop in (["BitsStored"], ["BitsStored", "HighBit"]):
        path = write(tmp_path / "v", syntax=syntax, drop=drop)
        np.testing.assert_array_equal(read_quietly(path), expected)


def test_bits_stored_follow_the_high_bit(tmp_path):
    pixels = RAMP | np.uint16(0xF000)  # four bits that are no part of the values
    path = write(tmp_path / "v", pixels, HighBit=11, drop=["BitsStored"])
    np.testing.assert_array_equal(read_quietly(path), read_quietly(write(tmp_path / "w")))


@pytest.mark.parametrize(("shape", "name"), [("IDENTITY", 2), ("INVERSE", 1)])
def test_presentation_shape_replaces_missing_photometric_interpretation(tmp_path, shape, name):
    expected = read_quietly(write(tmp_path / "v", PhotometricInterpretation=f"MONOCHROME{name}"))
    fields = {"PresentationLUTShape": shape, "PhotometricInterpretation": None}
    np.testing.assert_array_equal(read_quietly(write(tmp_path / "v", **fields)), expected)


# ------------------------------------------------------------------------ the law


def test_lost_contrast_is_never_silent(tmp_path):
    rng = np.random.default_rng(0)
    numbers = ["0", "1", "-1", "1e-30", "1e30", "-10", "2000", "65536", "0.5", "nan", ""]
    names = ["RescaleSlope", "RescaleIntercept", "WindowCenter", "WindowWidth"]
    n_read = 0
    for _ in range(120):
        fields = {name: str(rng.choice(numbers)) for name in names if rng.random() < 0.7}
        fields["VOILUTFunction"] = str(rng.choice(["", "LINEAR", "LINEAR_EXACT", "SIGMOID"]))
        if rng.random() < 0.2:
            fields["VOILUTSequence"] = table(int(rng.integers(65536)), "US", 256)
        path = write(Path(tmp_path / "v"), **fields)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                check_views([path])
            except ValueError:
                continue
            view = read_view(path)
        assert view.min() < view.max() or any("v: " in str(w.message) for w in caught), fields
        assert not any(issubclass(w.category, RuntimeWarning) for w in caught), fields
        n_read += 1
    assert n_read > 20
