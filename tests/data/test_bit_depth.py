import io
import struct
import warnings
from itertools import product

import numpy as np
import pytest
from image_files import write_deep_png, write_tiff
from PIL import Image

from mura_skorch.data import check_views, image_format, read_view
from mura_skorch.utils.intensity import luma, stretch

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 4096, (20, 37)).astype(np.uint16)  # 12 bits
COLOURS = RNG.integers(0, 4096, (20, 37, 3)).astype(np.uint16)
OPAQUE = np.full_like(GREY, 65535)


@pytest.fixture
def plain(tmp_path):
    """The view of the grey values in a plain greyscale file of 16 bits."""
    Image.fromarray(GREY).save(tmp_path / "plain.png")
    return read_view(tmp_path / "plain.png")


# --------------------------------------------------------------- how they are scaled


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_one_pixel_more_changes_no_other_by_more_than_one_grey_value(tmp_path, suffix):
    values = np.arange(1024, dtype=np.uint16).reshape(32, 32)
    values[0, 0] = 1024
    views = []
    for brightest in (1023, 1024, 1025):
        values[-1, -1] = brightest
        Image.fromarray(values).save(tmp_path / f"v.{suffix}")
        views.append(read_view(tmp_path / f"v.{suffix}").astype(int))
    values[0, 0] = 0
    Image.fromarray(values).save(tmp_path / f"v.{suffix}")
    for view in views:
        assert np.abs(view - views[0]).max() <= 1
    assert np.abs(read_view(tmp_path / f"v.{suffix}").astype(int) - views[0])[0, 1:].max() <= 1


def test_view_hangs_on_no_other_file_and_on_no_unused_bits():
    values = np.array([[300, 600, 900]], np.uint16)
    np.testing.assert_array_equal(stretch(values), [[0, 128, 255]])
    np.testing.assert_array_equal(stretch(values * 16), stretch(values))
    np.testing.assert_array_equal(stretch(values.astype(np.float64)), stretch(values))


@pytest.mark.parametrize("ends", [(-1.7e308, 1.7e308), (0, 5e-324), (-1e-310, 0), (1.0, 2.0)])
def test_floats_of_any_size_fill_the_grey_scale(ends):
    np.testing.assert_array_equal(stretch(np.array(ends)), [0, 255])


# ------------------------------------------------------------------------------- PNG


def test_deep_grey_in_colour_or_with_alpha_is_read_as_deep_grey(tmp_path, plain):
    for kind, bands in ((2, [GREY] * 3), (4, [GREY, OPAQUE]), (6, [GREY] * 3 + [OPAQUE])):
        path = write_deep_png(tmp_path / "v.png", np.stack(bands, axis=-1), kind)
        check_views([path])
        np.testing.assert_array_equal(read_view(path), plain)
    bands[-1] = OPAQUE // 16  # an alpha of 12 bits, too
    path = write_deep_png(tmp_path / "v.png", np.stack(bands, axis=-1), kind)
    np.testing.assert_array_equal(read_view(path), plain)


def test_deep_colour_of_a_png_becomes_luma_over_black(tmp_path):
    expected = stretch(luma(COLOURS))
    np.testing.assert_array_equal(read_view(write_deep_png(tmp_path / "v", COLOURS, 2)), expected)
    alpha = RNG.integers(0, 65536, GREY.shape)
    for kind, colours, grey in ((6, COLOURS, luma(COLOURS)), (4, GREY[..., None], GREY)):
        path = write_deep_png(tmp_path / "v", np.dstack([colours, alpha]), kind)
        np.testing.assert_array_equal(read_view(path), stretch(grey * alpha))


@pytest.mark.parametrize("kind", [0, 2])
def test_deep_value_that_a_png_calls_transparent_is_black(tmp_path, kind):
    samples = np.array([[1000, 2000, 4000]])[..., None].repeat(3 if kind else 1, axis=-1)
    value = struct.pack(">H", 4000) * samples.shape[-1]
    path = write_deep_png(tmp_path / "v", samples, kind, (b"tRNS", value))
    np.testing.assert_array_equal(read_view(path), [[128, 255, 0]])


def test_deep_colour_png_is_turned_upright(tmp_path):
    plain = read_view(write_deep_png(tmp_path / "v", COLOURS, 2))
    turns = {3: np.rot90(plain, 2), 6: np.rot90(plain, -1), 8: np.rot90(plain)}
    turns |= {2: plain[:, ::-1], 4: plain[::-1], 5: plain.T, 7: np.rot90(plain, 2).T}
    for orientation, expected in turns.items():
        exif = Image.Exif()
        exif[274] = orientation
        data = exif.tobytes().removeprefix(b"Exif\0\0")
        path = write_deep_png(tmp_path / "v", COLOURS, 2, (b"eXIf", data))
        np.testing.assert_array_equal(read_view(path), expected)


@pytest.mark.parametrize("kind", [2, 4, 6])
def test_damaged_or_truncated_deep_png_is_named(tmp_path, kind):
    n_samples = {2: 3, 4: 2, 6: 4}[kind]
    path = write_deep_png(tmp_path / "v.png", np.dstack([GREY] * n_samples), kind)
    data = bytearray(path.read_bytes())
    for size in (40, 200, len(data) - 100):
        path.write_bytes(data[:size])
        for read in (read_view, lambda path: check_views([path])):
            with pytest.raises(ValueError, match=r"v\.png: expected a readable image"):
                read(path)
    data[200] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"v\.png.*checksum of its pixels"):
        read_view(path)


def test_deep_png_above_pillows_limit_is_refused(tmp_path, monkeypatch):
    path = write_deep_png(tmp_path / "v.png", COLOURS, 2)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", GREY.size - 1)
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    for read in (read_view, lambda path: check_views([path])):
        with pytest.raises(ValueError, match=r"v\.png: expected at most 739 pixels"):
            read(path)


# ------------------------------------------------------------------------------ TIFF


def tiff_layouts():
    orders = product("<>", [False, True], [None, 16])
    plain = [{"order": o, "planar": p, "tile": t} for o, p, t in orders]
    return plain + [
        {**layout, "compression": 8, "predictor": n} for layout in plain for n in (1, 2)
    ]


@pytest.mark.parametrize("dtype", ["i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_deep_and_signed_tiffs_of_any_layout_are_stretched(tmp_path, dtype):
    for n_samples, layout in product([1, 3], tiff_layouts()):
        shape = (20, 37, n_samples)
        if dtype[0] == "f":
            samples = RNG.normal(0, 100, shape).astype(dtype)
            layout["predictor"] = 1
        else:
            range_ = np.iinfo(dtype)
            samples = RNG.integers(range_.min, range_.max, shape, dtype, endpoint=True)
        path = write_tiff(tmp_path / "v.tif", samples, **layout)
        check_views([path])
        grey = luma(samples) if n_samples == 3 else samples[..., 0]
        np.testing.assert_array_equal(read_view(path), stretch(grey), err_msg=str(layout))


@pytest.mark.parametrize("kind", [[2], [1], [0], None])
def test_alpha_of_a_deep_tiff_follows_its_kind(tmp_path, kind):
    alpha = RNG.integers(0, 65536, GREY.shape).astype(np.uint16)
    tags = {} if kind is None else {"t338": kind}
    multiplies = kind in ([2], None)  # else it is multiplied in, or no alpha
    for colours, grey in ((COLOURS, luma(COLOURS)), (GREY[..., None], GREY)):
        path = write_tiff(tmp_path / "v.tif", np.dstack([colours, alpha]), **tags)
        expected = stretch(grey.astype(float) * alpha if multiplies else grey)
        np.testing.assert_array_equal(read_view(path), expected)


@pytest.mark.parametrize("dtype", ["i1", "u2", "i2", "u4"])
def test_deep_tiff_that_counts_white_as_zero_is_inverted(tmp_path, dtype):
    samples = np.arange(100).reshape(10, 10, 1).astype(dtype)
    plain = read_view(write_tiff(tmp_path / "v.tif", samples))
    inverted = read_view(write_tiff(tmp_path / "v.tif", samples, t262=[0]))
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_deep_tiff_is_turned_upright(tmp_path):
    plain = read_view(write_tiff(tmp_path / "v.tif", COLOURS))
    turned = read_view(write_tiff(tmp_path / "v.tif", COLOURS, t274=[6]))
    np.testing.assert_array_equal(turned, np.rot90(plain, -1))


def test_format_of_a_tiff_that_pillow_does_not_know_has_a_name(tmp_path):
    path = write_tiff(tmp_path / "v.tif", np.dstack([GREY, OPAQUE]))
    assert image_format(path) == ("TIFF", "deep")


def test_eight_bits_of_a_tiff_stay_as_they_are(tmp_path):
    samples = np.arange(50, 150, dtype=np.uint8).reshape(10, 10, 1)
    np.testing.assert_array_equal(
        read_view(write_tiff(tmp_path / "v.tif", samples)), samples[..., 0]
    )


def test_truncated_deep_tiff_is_named(tmp_path):
    path = write_tiff(tmp_path / "v.tif", COLOURS)
    data = path.read_bytes()
    start = struct.unpack("<I", data[4:8])[0]
    # The directory in the place of the second half of the pixels.
    path.write_bytes(data[:4] + struct.pack("<I", 1000) + data[8:1000] + data[start:])
    with pytest.raises(ValueError, match=r"v\.tif: expected a readable image"):
        read_view(path)


# ------------------------------------------------------------------- PNM, JPEG 2000


@pytest.mark.parametrize("kind", ["P3", "P6"])
def test_deep_colour_pnm_is_read_as_deep_grey(tmp_path, plain, kind):
    samples = np.dstack([GREY] * 3)
    text = " ".join(map(str, samples.ravel())).encode()
    body = text if kind == "P3" else samples.astype(">u2").tobytes()
    (tmp_path / "v").write_bytes(kind.encode() + b"\n# 5 6\n37 20\n4095\n" + body)
    check_views([tmp_path / "v"])
    np.testing.assert_array_equal(read_view(tmp_path / "v"), plain)


# --------------------------------------------------------------------------- refused


def deep_jpeg_2000():
    """Return a JPEG 2000 of 3 components of 8 bits whose header says 12."""
    buffer = io.BytesIO()
    Image.fromarray((COLOURS >> 4).astype(np.uint8)).save(buffer, "JPEG2000")
    data = bytearray(buffer.getvalue())
    data[data.index(b"\xff\x4f\xff\x51") + 42] = 11
    return bytes(data)


@pytest.mark.parametrize("name", ["cmyk", "predictor", "compression", "mixed", "jpeg 2000"])
def test_layout_that_is_not_read_is_refused_before_training_with_a_remedy(tmp_path, name):
    path = tmp_path / "v.tif"
    tags = {
        "cmyk": {"t262": [5]},
        "predictor": {"t317": [3]},
        "compression": {"t259": [7]},
        "mixed": {"t258": [16, 16, 8, 16]},
    }
    if name == "jpeg 2000":
        path.write_bytes(deep_jpeg_2000())
    else:
        write_tiff(path, np.dstack([COLOURS, GREY]), **tags[name])
    for read in (read_view, lambda path: check_views([path])):
        with pytest.raises(ValueError, match=r"v\.tif: expected .*Save it as greyscale") as told:
            read(path)
        assert "Copy the file again" not in str(told.value)
