import io
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFile

from mura_skorch.data import (
    StudyDataset,
    check_views,
    decode_view,
    find_unreadable,
    read_view,
    view_statistics,
)
from mura_skorch.exploration import read_image_files

RAMP = np.arange(256, dtype=np.uint8).reshape(8, 32)
ORIENTATION = 274


def save(image, path, **options):
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    image.save(path, **options)
    return path


def grey_rgb():
    return Image.fromarray(RAMP).convert("RGB")


# -------------------------------------------------------------------- 8 bits


def test_grey_file_is_read_as_it_is(tmp_path):
    view = read_view(save(RAMP, tmp_path / "v.png"))
    assert view.dtype == np.uint8
    np.testing.assert_array_equal(view, RAMP)


def test_view_may_be_written_to(tmp_path):
    read_view(save(RAMP, tmp_path / "v.png"))[0, 0] = 7


def test_path_may_be_str(tmp_path):
    path = save(RAMP, tmp_path / "v.png")
    np.testing.assert_array_equal(read_view(str(path)), read_view(path))


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [("RGB", "png"), ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("RGB", "bmp"), ("PA", "tif")],
)
def test_grey_pixels_are_exact_in_every_8_bit_mode(tmp_path, mode, suffix):
    image = Image.fromarray(RAMP)
    if mode in ("P", "PA"):
        image = image.quantize(256, dither=Image.Dither.NONE)
        if mode == "PA":
            image.putalpha(255)
    else:
        image = image.convert("RGB").convert(mode)
    assert image.mode == mode
    view = read_view(save(image, tmp_path / f"v.{suffix}"))
    np.testing.assert_array_equal(view, RAMP)


def test_view_in_memory_is_that_of_its_file(tmp_path):
    path = save(np.arange(0, 4096, 7, dtype=np.uint16).reshape(-1, 2)[:200], tmp_path / "v.png")
    np.testing.assert_array_equal(decode_view(io.BytesIO(path.read_bytes())), read_view(path))


def test_colour_becomes_itu_601_luma(tmp_path):
    colours = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8)
    view = read_view(save(colours, tmp_path / "v.png"))
    np.testing.assert_array_equal(view, [[76, 150, 29]])


def test_transparent_pixels_become_black(tmp_path):
    pixels = np.full((1, 3, 4), 200, dtype=np.uint8)
    pixels[0, :, 3] = 0, 128, 255
    for mode in ("RGBA", "LA"):
        view = read_view(save(Image.fromarray(pixels).convert(mode), tmp_path / f"{mode}.png"))
        np.testing.assert_array_equal(view, [[0, 100, 200]])


def test_transparent_palette_entry_becomes_black(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([250, 250, 250, 90, 90, 90])
    image.putdata([0, 1])
    view = read_view(save(image, tmp_path / "v.png", transparency=0))
    np.testing.assert_array_equal(view, [[0, 90]])


def test_one_bit_becomes_black_and_white(tmp_path):
    image = Image.fromarray(RAMP).point(lambda v: 255 * (v > 99)).convert("1")
    view = read_view(save(image, tmp_path / "v.png"))
    np.testing.assert_array_equal(view, np.where(RAMP > 99, 255, 0))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB"])
def test_print_and_video_colours_keep_grey(tmp_path, mode):
    if mode == "LAB":
        band = Image.fromarray(RAMP)
        neutral = Image.new("L", band.size, 128)
        image = Image.merge("LAB", (band, neutral, neutral))
    else:
        image = grey_rgb().convert(mode)
    view = read_view(save(image, tmp_path / "v.tif"))
    np.testing.assert_allclose(view.astype(int), RAMP, atol=1)


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_orientation_is_applied_once(tmp_path, suffix, mode):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned clockwise by a quarter
    pixels = np.zeros((16, 32), dtype=np.uint8)
    pixels[:8] = 200
    image = Image.fromarray(pixels).convert(mode)
    view = read_view(save(image, tmp_path / f"v.{suffix}", exif=exif))
    np.testing.assert_allclose(view.astype(int), np.rot90(pixels, -1), atol=2)


def test_first_of_several_frames_is_read(tmp_path):
    frames = [Image.fromarray(RAMP), Image.new("L", (9, 9))]
    path = save(frames[0], tmp_path / "v.tif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_view(path), RAMP)


# ---------------------------------------------------------- more than 8 bits


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_16_bit_file_of_any_depth_fills_the_grey_scale(tmp_path, depth, suffix):
    top = 2**depth - 1
    values = np.array([[0, top // 3, top // 2, top]], dtype=np.uint16)
    view = read_view(save(values, tmp_path / f"v.{suffix}"))
    np.testing.assert_array_equal(view, np.rint(values / top * 255))


def test_16_bit_scaling_keeps_the_order_of_every_value(tmp_path):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    view = read_view(save(values, tmp_path / "v.png")).ravel()
    assert (np.diff(view.astype(int)) >= 0).all()
    np.testing.assert_array_equal(np.unique(view), np.arange(256))
    np.testing.assert_array_equal(view, np.rint(values.ravel() * (255 / 65535)))


def test_byte_order_of_a_16_bit_file_does_not_matter(tmp_path):
    values = (np.arange(64, dtype=np.uint16) * 60).reshape(8, 8)
    big = Image.frombytes("I;16B", (8, 8), values.astype(">u2").tobytes())
    np.testing.assert_array_equal(
        read_view(save(big, tmp_path / "big.tif")), read_view(save(values, tmp_path / "v.tif"))
    )


def test_16_bit_tiff_that_counts_white_as_zero_is_inverted(tmp_path):
    values = np.array([[0, 1000, 4095]], dtype=np.uint16)
    plain = read_view(save(values, tmp_path / "v.tif"))
    data = bytearray((tmp_path / "v.tif").read_bytes())
    entry = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # tag 262, SHORT, 1 value: 1
    data[entry + 8] = 0
    (tmp_path / "v.tif").write_bytes(data)
    np.testing.assert_array_equal(read_view(tmp_path / "v.tif"), 255 - plain)


def test_32_bit_integers_are_scaled_like_16_bits(tmp_path):
    values = np.array([[0, 100, 4095]], dtype=np.int32)
    expected = read_view(save(values.astype(np.uint16), tmp_path / "v16.tif"))
    np.testing.assert_array_equal(read_view(save(values, tmp_path / "v32.tif")), expected)


@pytest.mark.parametrize(
    "values", [[-1000, 0, 1000], [0, 2**30, 2**31 - 1], [-1.5, 0.0, 1.5], [0.0, 0.5, 1.0]]
)
def test_values_without_nominal_range_are_stretched_from_minimum_to_maximum(tmp_path, values):
    dtype = np.float32 if isinstance(values[0], float) else np.int32
    view = read_view(save(np.array([values], dtype=dtype), tmp_path / "v.tif"))
    np.testing.assert_array_equal(view, [[0, 128, 255]])


@pytest.mark.parametrize("value", [0.0, 0.7, -3.0])
def test_constant_float_image_becomes_zeros_and_is_named(tmp_path, value):
    path = save(np.full((2, 3), value, dtype=np.float32), tmp_path / "v.tif")
    with pytest.warns(UserWarning, match=r"v\.tif: all of its 6 pixels have the grey value 0"):
        view = read_view(path)
    np.testing.assert_array_equal(view, np.zeros((2, 3)))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_float_image_with_nan_or_infinity_is_refused(tmp_path, bad):
    path = save(np.array([[0.0, bad]], dtype=np.float32), tmp_path / "v.tif")
    with pytest.raises(ValueError, match=r"v\.tif.*1 of its 2 pixels are NaN or infinite"):
        read_view(path)


# ----------------------------------------------------------------- bad files


def png_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg_bytes():
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zero bytes"),
        (b"patient,label\n", "no image Pillow knows"),
        (png_bytes()[:20], "truncated|no image Pillow knows"),
        (png_bytes()[:1000], "truncated"),
        (png_bytes()[:-200], "truncated"),
        (jpeg_bytes()[:1000], "truncated"),
    ],
)
def test_bad_file_is_named_with_the_reason_and_a_remedy(tmp_path, data, reason, check):
    path = tmp_path / "image1.png"
    path.write_bytes(data)
    with pytest.raises(
        ValueError, match=rf"image1\.png.*expected.*({reason}).*Copy the file again"
    ):
        check(path)


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
def test_missing_file_is_named(tmp_path, check):
    for path in (tmp_path / "image1.png", save(RAMP, tmp_path / "v.png") / "image1.png"):
        with pytest.raises(FileNotFoundError, match=r"image1\.png: expected.*no such file"):
            check(path)


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
def test_folder_in_place_of_a_file_is_named(tmp_path, check):
    with pytest.raises(ValueError, match="expected an image file, got a folder"):
        check(tmp_path)


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
@pytest.mark.parametrize("limit", [RAMP.size - 1, RAMP.size // 4])
def test_image_above_pillows_limit_of_pixels_is_refused(tmp_path, monkeypatch, check, limit):
    path = save(RAMP, tmp_path / "image1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for action in ("ignore", "error"):
        with warnings.catch_warnings():
            warnings.simplefilter(action, Image.DecompressionBombWarning)
            with pytest.raises(ValueError, match=rf"image1\.png: expected at most {limit} pixels"):
                check(path)


def test_limit_of_pixels_may_be_switched_off(tmp_path, monkeypatch):
    path = save(RAMP, tmp_path / "image1.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    check_views([path])
    np.testing.assert_array_equal(read_view(path), RAMP)


# ------------------------------------------------------------- truncated files

FORMATS = ["PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "PPM"]


@pytest.fixture(params=FORMATS)
def noisy(request, tmp_path):
    """A picture that no format compresses much."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    path = tmp_path / "image1"
    Image.fromarray(noise).save(path, request.param)
    return path


def test_pillows_flag_for_truncated_files_changes_nothing(noisy, monkeypatch):
    whole, expected = noisy.read_bytes(), read_view(noisy)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    np.testing.assert_array_equal(read_view(noisy), expected)
    np.testing.assert_array_equal(decode_view(io.BytesIO(whole)), expected)
    assert find_unreadable([str(noisy)]) == {}
    for part in (2, 3):
        noisy.write_bytes(whole[: len(whole) // part])
        with pytest.raises(ValueError, match="image1: expected a readable image"):
            read_view(noisy)
        assert list(find_unreadable([str(noisy)])) == [str(noisy)]
    assert ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("data", [png_bytes()[:-200], jpeg_bytes()[:1000]])
def test_check_finds_truncated_files_whatever_pillows_flag(tmp_path, monkeypatch, data):
    (tmp_path / "image1").write_bytes(data)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(ValueError, match="image1: expected a readable image.*truncated"):
        check_views([tmp_path / "image1"])


# ------------------------------------------------------ pictures without contrast


@pytest.mark.parametrize("size", [(1, 1), (9, 9)])
@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_picture_of_one_value_is_named_and_read(tmp_path, size, suffix):
    path = save(np.full(size, 77, np.uint8), tmp_path / f"v.{suffix}")
    with pytest.warns(UserWarning, match=rf"v\.{suffix}: all of its .* the grey value 77"):
        assert (read_view(path) == 77).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_view(save(RAMP, tmp_path / "v.png"))


def test_few_of_many_blank_views_are_named(tmp_path):
    paths = [str(save(np.zeros((8, 8), np.uint8), tmp_path / f"{i}.png")) for i in range(30)]
    views = [tuple(paths[i : i + 2]) for i in range(0, 30, 2)]
    studies = pd.DataFrame({"study_type": "XR_HAND", "views": views})
    dataset = pickle.loads(pickle.dumps(StudyDataset(studies, image_size=8)))
    reads = {
        "dataset": lambda: [dataset[i] for i in range(15)],
        "bad views": lambda: find_unreadable(paths),
        "statistics": lambda: view_statistics(studies),
        "files": lambda: read_image_files(studies),
        "cache": lambda: StudyDataset(studies, image_size=8, cache=tmp_path / "cache").prepare(),
    }
    for name, read in reads.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            read()
        texts = {str(warning.message) for warning in told}
        assert len([text for text in texts if ".png: all of its 64 pixels" in text]) == 5, name
        assert len(texts) == 6, name
        assert any("further ones are not named" in text for text in texts), name


# --------------------------------------------------------------- check_views


def test_good_files_pass_the_check(tmp_path):
    save(RAMP, tmp_path / "a.png")
    save(RAMP, tmp_path / "b.jpg")
    save(RAMP.astype(np.uint16), tmp_path / "c.tif")
    check_views(tmp_path / name for name in ("a.png", "b.jpg", "c.tif"))


def test_no_files_pass_the_check():
    check_views([])


@pytest.mark.parametrize("n_bytes", [1, 40, 5000])
@pytest.mark.parametrize("data", [png_bytes(), jpeg_bytes()])
def test_bytes_after_the_end_of_an_image_pass_the_check(tmp_path, data, n_bytes):
    (tmp_path / "v").write_bytes(data + b"\0" * n_bytes)
    check_views([tmp_path / "v"])


def test_png_that_lacks_only_its_end_mark_passes_the_check(tmp_path):
    (tmp_path / "v.png").write_bytes(png_bytes()[:-12])
    check_views([tmp_path / "v.png"])
    assert read_view(tmp_path / "v.png").shape == (64, 64)


def test_check_counts_all_bad_files_and_names_the_first(tmp_path):
    good = [save(RAMP, tmp_path / f"good{i}.png") for i in range(600)]
    bad = [tmp_path / f"bad{i}.png" for i in range(9)]
    for path in bad:
        path.touch()
    with pytest.raises(ValueError, match="9 bad files") as caught:
        check_views([*good[:300], *bad, *good[300:], *bad], max_named=2)
    message = str(caught.value)
    assert "expected 609 readable image files, got 9 bad files" in message
    assert [f"bad{i}.png" in message for i in range(4)] == [True, True, False, False]
    assert "and 7 more" in message


def test_check_of_missing_and_bad_files_raises_value_error(tmp_path):
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match="2 bad files"):
        check_views([tmp_path / "absent.png", tmp_path / "empty.png"])
