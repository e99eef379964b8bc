import contextlib
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import write_dicom
from PIL import Image
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from mura_skorch.data import check_views, read_view, view_statistics
from mura_skorch.dicom import pixel_data as stored
from mura_skorch.exploration import read_image_files

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
DEEP = (np.arange(4096, dtype=np.uint16)).reshape(64, 64)  # every value of 12 bits
shipped = partial(get_testdata_file, download=False)


def lut(entries, *, first=0, bits=16):
    item = Dataset()
    item.LUTDescriptor = [len(entries), first, bits]
    item.add_new("LUTData", "US", list(entries))
    return [item]


@pytest.fixture
def view(tmp_path):
    """Return what a file of these pixels and header fields is read as, once it is checked."""

    def read(pixels, **fields):
        path = write_dicom(tmp_path / "v", pixels, **fields)
        check_views([path])
        found = read_view(path)
        assert found.dtype == np.uint8
        assert found.flags.writeable
        return found

    return read


# ------------------------------------------------------------------- grey values


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "RLELossless"])
def test_full_range_8_bit_values_are_unchanged(view, syntax):
    np.testing.assert_array_equal(view(RAMP, syntax=getattr(uid, syntax)), RAMP)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_values_without_a_window_are_scaled_to_the_grey_range(view, bits):
    values = np.array([[300, 300 + 2 ** (bits - 1) // 2, 300 + 2 ** (bits - 1)]], dtype=np.uint16)
    np.testing.assert_array_equal(view(values, BitsStored=bits), [[0, 128, 255]])


def test_monochrome1_is_the_negative_of_monochrome2(view):
    for fields in (
        {},
        {"WindowCenter": 2000, "WindowWidth": 999},
        {"VOILUTSequence": lut([9, 500, 4000])},
    ):
        plain = view(DEEP, BitsStored=12, **fields)
        negative = view(DEEP, BitsStored=12, PhotometricInterpretation="MONOCHROME1", **fields)
        np.testing.assert_array_equal(negative, 255 - plain)
        assert len(np.unique(plain)) > 2


def test_inverse_presentation_with_monochrome1_inverts_once(view):
    inverse = {"PresentationLUTShape": "INVERSE"}
    np.testing.assert_array_equal(view(RAMP, **inverse), 255 - RAMP)
    both = view(RAMP, PhotometricInterpretation="MONOCHROME1", **inverse)
    np.testing.assert_array_equal(both, 255 - RAMP)


def test_window_maps_its_ends_to_black_and_white_and_clips(view):
    values = np.array([[0, 1000, 1500, 2000, 4095]], dtype=np.uint16)
    window = {"WindowCenter": 1500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    expected = [[0, 0, 128, 255, 255]]
    for fields in ({"BitsStored": 12}, {"BitsStored": 16}, {"VOILUTFunction": "LINEAR"}):
        np.testing.assert_allclose(view(values, **{**window, **fields}), expected, atol=1)


def test_sigmoid_window_is_smooth_without_warnings(view):
    window = {"WindowCenter": 2048, "WindowWidth": 1, "VOILUTFunction": "SIGMOID"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hard = view(DEEP, BitsStored=12, **window)
        soft = view(DEEP, BitsStored=12, **{**window, "WindowWidth": 2000})
    assert len(np.unique(hard)) < 9 < 200 < len(np.unique(soft))
    assert (np.diff(soft.ravel().astype(int)) >= 0).all()


def test_first_of_several_windows_is_used(view):
    one = view(DEEP, WindowCenter=1000, WindowWidth=500)
    two = view(DEEP, WindowCenter=[1000, 3000], WindowWidth=[500, 10])
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("width", [0, None, ""])
@pytest.mark.parametrize("function", ["", "LINEAR"])
def test_window_of_zero_width_is_ignored(view, width, function):
    plain = view(DEEP)
    fields = {"WindowCenter": 100, "WindowWidth": width, "VOILUTFunction": function}
    np.testing.assert_array_equal(view(DEEP, **fields), plain)


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
@pytest.mark.parametrize(("bits", "top"), [(8, 255), (12, 4095), (16, 4095), (16, 65535)])
def test_lookup_table_takes_precedence_over_the_window(view, bits, top, syntax):
    entries = np.rint(np.linspace(0, 1, 4096) ** 2 * top).astype(
        int
    )  # 4,096 entries of 8 bits, too
    table = {"VOILUTSequence": lut(entries.tolist(), bits=bits)}
    window = {"WindowCenter": 1, "WindowWidth": 1}
    found = view(DEEP, BitsStored=12, syntax=getattr(uid, syntax), **table, **window)
    expected = 255 * (DEEP / 4095) ** 2
    np.testing.assert_allclose(found, expected, atol=1)


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ExplicitVRBigEndian"])
@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("vr", ["OW", "US"])
def test_lookup_table_of_8_bits_may_hold_two_entries_in_a_word(view, name, vr, syntax):
    entries = np.arange(255, -1, -1, dtype=np.uint8)
    plain = view(RAMP, **{name: lut(entries.tolist(), bits=8)})
    item = Dataset()
    item.LUTDescriptor = [256, 0, 8]
    words = entries.view("<u2")  # the first entry in the lower half
    order = ">" if "Big" in syntax else "<"
    data = words.astype(f"{order}u2").tobytes() if vr == "OW" else words.tolist()
    item.add_new("LUTData", vr, data)
    found = view(RAMP, syntax=getattr(uid, syntax), **{name: [item]})
    np.testing.assert_array_equal(found, plain)
    np.testing.assert_array_equal(found, 255 - RAMP)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
@pytest.mark.parametrize("name", ["VOILUTSequence", "ModalityLUTSequence"])
def test_lookup_table_may_be_of_any_depth(view, name, bits):
    entries = np.rint(np.linspace(0, 1, 256) * (2**bits - 1)).astype(int).tolist()
    np.testing.assert_array_equal(view(RAMP, **{name: lut(entries, bits=bits)}), RAMP)


def test_truncated_lookup_table_is_named(tmp_path):
    table = lut(list(range(100)))
    table[0].LUTDescriptor = [256, 0, 16]
    path = write_dicom(tmp_path / "IM1", RAMP, VOILUTSequence=table)
    with pytest.raises(ValueError, match="IM1.*a lookup table of 200 of 256 entries"):
        read_view(path)


def test_values_outside_the_lookup_table_get_its_ends(view):
    values = np.array([[0, 1000, 1100, 1200, 4000]], dtype=np.uint16)
    table = lut([0, *[50] * 99, 100, *[150] * 99, 200], first=1000)
    np.testing.assert_array_equal(view(values, VOILUTSequence=table), [[0, 0, 128, 255, 255]])


def test_window_applies_to_rescaled_values(view):
    values = np.array([[0, 512, 1024]], dtype=np.uint16)
    fields = {"RescaleSlope": 2, "RescaleIntercept": -1024, "VOILUTFunction": "LINEAR_EXACT"}
    found = view(values, WindowCenter=0, WindowWidth=2048, **fields)
    np.testing.assert_array_equal(found, [[0, 128, 255]])


def test_negative_slope_inverts_stored_values(view):
    np.testing.assert_array_equal(view(RAMP, RescaleSlope=-1, RescaleIntercept=255), 255 - RAMP)


def test_modality_lookup_table_is_applied(view):
    found = view(RAMP, ModalityLUTSequence=lut(list(range(510, -1, -2))))
    np.testing.assert_array_equal(found, 255 - RAMP)


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
def test_signed_values_keep_their_order(view, syntax):
    values = np.array([[-32768, 0, 32767]], dtype=np.int16)
    np.testing.assert_array_equal(view(values, syntax=getattr(uid, syntax)), [[0, 128, 255]])


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ExplicitVRBigEndian", "RLELossless"])
@pytest.mark.parametrize("kind", ["uint16", "int16"])
@pytest.mark.parametrize("high", [11, 12, 15])
def test_bits_outside_high_bit_and_bits_stored_are_ignored(view, kind, high, syntax):
    values = DEEP.astype(np.int16) - (2048 if kind == "int16" else 0)
    expected = view(values.astype(kind), BitsStored=12)
    noise = np.random.default_rng(0).integers(0, 65536, DEEP.shape)
    beside = noise & ~(0xFFF << high - 11)
    stored = (values.astype(np.uint16) & 0xFFF).astype(int) << high - 11 | beside
    fields = {"BitsStored": 12, "HighBit": high, "syntax": getattr(uid, syntax)}
    found = view(stored.astype(np.uint16).view(kind), **fields)
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(found)) == 256


@pytest.mark.parametrize("high", [10, 16, 99])
def test_impossible_high_bit_is_ignored(view, high):
    expected = view(DEEP, BitsStored=12)
    np.testing.assert_array_equal(view(DEEP, BitsStored=12, HighBit=high), expected)


def test_codestream_of_the_bits_stored_alone_is_not_shifted(tmp_path):
    data = Path(shipped("MR_small_jp2klossless.dcm"))
    found = pydicom.dcmread(data)
    assert (found.BitsStored, found.BitsAllocated) == (16, 16)
    expected = read_view(data)
    found.BitsAllocated, found.BitsStored, found.HighBit = 32, 16, 31
    found.save_as(tmp_path / "v")
    np.testing.assert_array_equal(read_view(tmp_path / "v"), expected)


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
@pytest.mark.parametrize("name", ["SamplesPerPixel", "PixelRepresentation", "HighBit"])
def test_elements_with_a_clear_default_may_be_missing(tmp_path, name, syntax):
    fields = {"PixelPaddingValue": 0, "VOILUTSequence": lut(list(range(256)))}
    path = write_dicom(tmp_path / "v", RAMP, syntax=getattr(uid, syntax), **fields)
    expected = read_view(path)
    tag = pydicom.tag.Tag(name)
    there = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    data = path.read_bytes()
    assert data.count(there) == 1
    path.write_bytes(data.replace(there, b"\x28\x00\x05\x01"))  # a field that means nothing
    assert name not in pydicom.dcmread(path)
    check_views([path])
    np.testing.assert_array_equal(read_view(path), expected)


@pytest.mark.parametrize("name", ["MONOCHROME1", "MONOCHROME2"])
def test_photometric_interpretation_may_be_written_in_any_case(view, name):
    expected = view(RAMP, PhotometricInterpretation=name)
    found = view(RAMP, PhotometricInterpretation=f"{name.capitalize()} ")
    np.testing.assert_array_equal(found, expected)


def test_32_bit_integers_are_read(view):
    values = np.array([[0, 2**20, 2**21]], dtype=np.uint32)
    np.testing.assert_array_equal(view(values), [[0, 128, 255]])


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "ImplicitVRLittleEndian"])
def test_padding_is_black_and_does_not_widen_the_range(view, syntax):
    values = np.array([[-2000, 100, 200, 300]], dtype=np.int16)
    for sign in ("MONOCHROME1", "MONOCHROME2"):
        fields = {"PhotometricInterpretation": sign, "syntax": getattr(uid, syntax)}
        found = view(values, PixelPaddingValue=-2000, **fields)
        expected = [0, 128, 255] if sign[-1] == "2" else [255, 127, 0]
        np.testing.assert_array_equal(found, [[0, *expected]])


def test_padding_may_be_a_range_or_the_complete_image(view):
    values = np.array([[0, 9, 100, 200]], dtype=np.uint16)
    fields = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 9}
    np.testing.assert_array_equal(view(values, **fields), [[0, 0, 0, 255]])
    np.testing.assert_array_equal(view(values[:, :2], **fields), [[0, 0]])


def test_image_of_one_value_becomes_zeros(view):
    for sign in ("MONOCHROME1", "MONOCHROME2"):
        flat = view(np.full((2, 3), 77, np.uint16), PhotometricInterpretation=sign)
        np.testing.assert_array_equal(flat, np.zeros((2, 3)))


def test_colour_becomes_itu_601_luma(view):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    np.testing.assert_array_equal(view(colours, **fields), [[76, 150, 29]])


@pytest.mark.parametrize("bits", [12, 16])
def test_colour_of_more_than_8_bits_is_scaled_like_grey(view, bits):
    expected = view(DEEP, BitsStored=bits)
    fields = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    found = view(np.stack([DEEP] * 3, axis=-1), BitsStored=bits, **fields)
    np.testing.assert_array_equal(found, expected)


def test_first_of_several_frames_is_read(view):
    frames = np.stack([RAMP, np.zeros_like(RAMP)])
    found = view(frames, NumberOfFrames=2, Rows=16, Columns=16)
    np.testing.assert_array_equal(found, RAMP)


# ------------------------------------------------------------- transfer syntaxes


@pytest.mark.parametrize(
    "syntax",
    [
        "ImplicitVRLittleEndian",
        "ExplicitVRBigEndian",
        "DeflatedExplicitVRLittleEndian",
        "RLELossless",
        "JPEG2000Lossless",
    ],
)
@pytest.mark.parametrize("bits", [12, 16])
def test_lossless_transfer_syntaxes_give_the_same_view(view, syntax, bits):
    values = DEEP * 2 ** (bits - 12)
    fields = {"BitsStored": bits, "WindowCenter": 2000, "WindowWidth": 3000}
    expected = view(values, **fields)
    found = view(values, syntax=getattr(uid, syntax), **fields)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["JPEGLosslessProcess14_1", "JPEGLSLossless"])
@pytest.mark.parametrize("bits", [12, 16])
def test_lossless_jpeg_gives_the_same_view(tmp_path, name, bits):
    gdcm = pytest.importorskip("gdcm")  # pydicom itself writes none
    path = write_dicom(tmp_path / "plain", DEEP * 2 ** (bits - 12), BitsStored=bits)
    reader, change, writer = (
        gdcm.ImageReader(),
        gdcm.ImageChangeTransferSyntax(),
        gdcm.ImageWriter(),
    )
    reader.SetFileName(str(path))
    assert reader.Read()
    change.SetTransferSyntax(gdcm.TransferSyntax(getattr(gdcm.TransferSyntax, name)))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer.SetFileName(str(tmp_path / "compressed"))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    check_views([tmp_path / "compressed"])
    np.testing.assert_array_equal(read_view(tmp_path / "compressed"), read_view(path))


@pytest.mark.parametrize(
    "name",
    [
        "MR_small_RLE",
        "MR_small_bigendian",
        "MR_small_implicit",
        "MR_small_jp2klossless",
        "MR_small_jpeg_ls_lossless",
        "MR_small_padded",
    ],
)
def test_pydicom_copies_of_one_picture_give_the_same_view(name):
    check_views([shipped(f"{name}.dcm")])
    expected = read_view(shipped("MR_small.dcm"))
    np.testing.assert_array_equal(read_view(shipped(f"{name}.dcm")), expected)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *[("JPEG2000.dcm", (1024, 256)), ("JPEGLSNearLossless_16.dcm", (50, 10))],
        *[("693_J2KI.dcm", (512, 512)), ("CT_small.dcm", (128, 128))],
        *[("SC_rgb_jpeg_gdcm.dcm", (100, 100)), ("SC_rgb_jpeg_dcmtk.dcm", (100, 100))],
        *[("examples_ybr_color.dcm", (240, 320)), ("examples_palette.dcm", (350, 800))],
        *[("image_dfl.dcm", (512, 512)), ("SC_ybr_full_422_uncompressed.dcm", (100, 100))],
    ],
)
def test_pydicom_compressed_and_colour_files_are_read(name, shape):
    check_views([shipped(name)])
    found = read_view(shipped(name))
    assert found.shape == shape
    assert np.ptp(found) > 100


# --------------------------------------------------------- among other image files


def test_dicom_is_recognised_by_its_content(tmp_path):
    for name in ("IM000001", "v.png", "v.dcm"):
        np.testing.assert_array_equal(read_view(write_dicom(tmp_path / name, RAMP)), RAMP)


def test_file_without_preamble_is_recognised_by_its_suffix(tmp_path):
    data = write_dicom(tmp_path / "v", RAMP).read_bytes()
    start = data.index(b"\x08\x00\x16\x00")  # the first field behind the file's own
    for name in ("v.dcm", "v.DICOM"):
        (tmp_path / name).write_bytes(data[start:])
        check_views([tmp_path / name])
        np.testing.assert_array_equal(read_view(tmp_path / name), RAMP)


def test_view_statistics_and_exploration_read_dicom(tmp_path):
    path = write_dicom(tmp_path / "v", RAMP, PhotometricInterpretation="MONOCHROME1")
    Image.fromarray(255 - RAMP).save(tmp_path / "same.png")
    studies = one_study(path, tmp_path / "same.png")
    files = read_image_files(studies)
    assert files["format"].tolist() == ["DICOM", "PNG"]
    assert files["mode"].tolist() == ["MONOCHROME1", "L"]
    assert files["digest"][0] == files["digest"][1]
    assert files["problem"].isna().all()
    assert view_statistics(studies)["height"].tolist() == [16]


def one_study(*paths):
    return pd.DataFrame({"study_type": ["XR_HAND"], "views": [tuple(map(str, paths))]})


# ------------------------------------------------------------------- bad files


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"PixelData": None}, "it holds no pixels"),
        ({"PixelData": b""}, "it holds no pixels|0 of 256 bytes"),
        ({"Rows": None}, "it holds no image"),
        ({"PixelData": bytes(100)}, "less than expected|100 of 256 bytes"),
    ],
)
def test_file_without_an_image_is_named(tmp_path, fields, reason, check):
    path = write_dicom(tmp_path / "IM1", RAMP, **fields)
    with pytest.raises(ValueError, match=rf"IM1: expected a readable image.*({reason})"):
        check(path)


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
@pytest.mark.parametrize(
    ("syntax", "lost"),
    [
        *[("ExplicitVRLittleEndian", 1), ("ImplicitVRLittleEndian", 1), ("RLELossless", 100)],
        *[("JPEG2000Lossless", 100), ("DeflatedExplicitVRLittleEndian", 100)],
    ],
)
def test_truncated_file_is_named(tmp_path, syntax, lost, check):
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    path = write_dicom(tmp_path / "IM1", noise, syntax=getattr(uid, syntax))
    path.write_bytes(path.read_bytes()[:-lost])
    with pytest.raises(ValueError, match=r"IM1: expected a readable image.*truncated"):
        check(path)


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
def test_structured_report_is_refused(check):
    with pytest.raises(ValueError, match=r"test-SR\.dcm.*it holds no"):
        check(shipped("test-SR.dcm"))


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
def test_empty_file_and_other_content_are_named(tmp_path, check):
    for data in (b"", b"patient,label\n"):
        (tmp_path / "v.dcm").write_bytes(data)
        with pytest.raises(ValueError, match=r"v\.dcm: expected a readable image"):
            check(tmp_path / "v.dcm")


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
def test_image_above_pillow_limit_is_not_decoded(tmp_path, monkeypatch, check):
    path = write_dicom(tmp_path / "IM1", RAMP)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", RAMP.size - 1)
    monkeypatch.setattr(pydicom.pixels, "pixel_array", None)
    with pytest.raises(ValueError, match=r"IM1: expected at most 255 pixels, got more \(16 x 16"):
        check(path)


def test_check_does_not_decode_valid_files(tmp_path, monkeypatch):
    syntaxes = ["ExplicitVRLittleEndian", "RLELossless", "JPEG2000Lossless"]
    paths = [write_dicom(tmp_path / s, DEEP, syntax=getattr(uid, s)) for s in syntaxes]
    monkeypatch.setattr(pydicom.pixels, "pixel_array", None)
    monkeypatch.setattr(stored, "decode_apart", None)
    check_views(paths)


def test_missing_decoder_error_names_the_package(monkeypatch):
    decoder = pydicom.pixels.get_decoder(uid.JPEGLSLossless)
    monkeypatch.setattr(decoder, "_available", {})
    for read in (read_view, lambda path: check_views([path])):
        with pytest.raises(ImportError, match=r"expected a decoder of JPEG-LS Loss.*pip install"):
            read(shipped("MR_small_jpeg_ls_lossless.dcm"))


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "JPEG2000.dcm", "MR_small_RLE.dcm"])
def test_damaged_compressed_pixels_do_not_end_the_process(tmp_path, name):
    data = bytearray(Path(get_testdata_file(name)).read_bytes())
    rng = np.random.default_rng(0)
    for number in range(40):
        damaged = data.copy()
        start = rng.integers(len(data) // 2, len(data) - 64)
        damaged[start : start + 64] = rng.bytes(64)
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(damaged)
        with contextlib.suppress(ValueError):  # one of ours, or a picture that is a little wrong
            assert read_view(path).dtype == np.uint8


def test_12_bit_lossy_jpeg_error_names_the_decoder():
    if "pylibjpeg" in pydicom.pixels.get_decoder(uid.JPEGExtended12Bit).available_plugins:
        pytest.skip("its decoder is installed")
    for read in (read_view, lambda path: check_views([path])):
        with pytest.raises(ImportError, match=r"with 12 bits.*pip install pylibjpeg-libjpeg"):
            read(shipped("JPGExtended.dcm"))


WITHOUT = """
import sys

sys.modules["pydicom"] = None
from mura_skorch.dicom import read_dicom_studies
from mura_skorch.data import check_views, read_view

check_views(["v.png"])
print(read_view("v.png").shape)
for read in (read_view, lambda path: check_views([path]), lambda path: read_dicom_studies(".")):
    try:
        read("IM1")
    except ImportError as error:
        print(error)
"""


@pytest.mark.slow
def test_missing_pydicom_affects_only_dicom_and_is_named(tmp_path):
    write_dicom(tmp_path / "IM1", RAMP)
    Image.fromarray(RAMP).save(tmp_path / "v.png")
    command = [sys.executable, "-c", WITHOUT]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert "(16, 16)" in found.stdout
    assert found.stdout.count("IM1: expected the package pydicom, got none.") == 2
    assert found.stdout.count("pip install pydicom python-gdcm") == 3
