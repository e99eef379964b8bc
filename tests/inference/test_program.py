"""The program that an export writes, read as a module."""

import json
import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from mura_skorch.data import Prepare, read_view
from mura_skorch.inference import program
from mura_skorch.models.pooling import (
    POOLINGS,
    additive_logit,
    attend_views,
    max_views_logit,
    pool_views,
)

SIZE = 24
ORIENTATION = 0x0112  # tag of EXIF


def drawn(mode):
    """Return an image with another colour, and another alpha, at each pixel."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 30, 4), dtype=np.uint8), "RGBA")
    if mode not in ("RGBA", "LA"):
        image = image.convert("RGB")
    return image.convert(mode)


def saved(folder, image, suffix=".png", **options):
    path = folder / f"image1{suffix}"
    image.save(path, **options)
    return path


def expected(path):
    return Prepare(SIZE)(read_view(path))[np.newaxis]


# --- prepare ---------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_png_is_prepared_as_for_training(mode, tmp_path):
    path = saved(tmp_path, drawn(mode))
    found = program.prepare(path, SIZE)
    assert found.shape == (1, SIZE, SIZE)
    assert found.dtype == np.uint8
    assert np.array_equal(found, expected(path))


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_transparent_colour_of_a_png_is_black(mode, tmp_path):
    image = drawn(mode)
    transparent = image.getpixel((3, 3))
    path = saved(tmp_path, image, transparency=transparent)
    assert Image.open(path).has_transparency_data
    assert np.array_equal(program.prepare(path, SIZE), expected(path))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_fewer_bits_is_prepared_as_for_training(bits, tmp_path):
    path = saved(tmp_path, drawn("P").quantize(2**bits), bits=bits)
    assert path.read_bytes()[24] == bits
    assert np.array_equal(program.prepare(path, SIZE), expected(path))


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_upright(mode, orientation, tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = saved(tmp_path, drawn(mode), ".jpg", exif=exif)
    assert np.array_equal(program.prepare(path, SIZE), expected(path))


def test_progressive_jpeg_is_prepared_as_for_training(tmp_path):
    path = saved(tmp_path, drawn("RGB"), ".jpeg", progressive=True)
    assert np.array_equal(program.prepare(path, SIZE), expected(path))


def png_of_16_bits(kind, n_samples):
    """Return a PNG of two pixels in 16 bits, of a colour type that Pillow does not write."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", 2, 1, 16, kind, 0, 0, 0)
    pixels = zlib.compress(b"\0" + b"\x12\x34" * n_samples + b"\x12\x35" * n_samples)
    start = b"\x89PNG\r\n\x1a\n"
    return start + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "n_samples"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_of_16_bits_is_refused(kind, n_samples, tmp_path):
    path = tmp_path / "image1.png"
    path.write_bytes(png_of_16_bits(kind, n_samples))
    assert read_view(path).shape == (1, 2)
    with pytest.raises(ValueError, match="expected 8 bits of grey or RGB"):
        program.prepare(path, SIZE)


def test_cmyk_is_refused(tmp_path):
    path = saved(tmp_path, drawn("CMYK"), ".jpg")
    with pytest.raises(ValueError, match="got more or CMYK"):
        program.prepare(path, SIZE)


@pytest.mark.parametrize("suffix", [".tif", ".bmp", ".webp"])
def test_other_formats_are_refused(suffix, tmp_path):
    path = saved(tmp_path, drawn("L"), suffix)
    with pytest.raises(OSError, match="cannot identify image file"):
        program.prepare(path, SIZE)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_truncated_file_is_refused(suffix, tmp_path):
    path = saved(tmp_path, drawn("L"), suffix)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises((OSError, SyntaxError)):
        program.prepare(path, SIZE)


def test_png_with_a_damaged_pixel_is_refused(tmp_path):
    path = saved(tmp_path, drawn("L"), compress_level=0)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((OSError, SyntaxError)):
        program.prepare(path, SIZE)


# --- pool ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("scale", [1, 200])
def test_views_are_pooled_as_torch_does(pooling, scale):
    rng = np.random.default_rng(0)
    for n_views in (1, 2, 7):
        logit, score = scale * rng.normal(size=n_views), rng.normal(size=n_views)
        if not pooling.startswith("attention"):
            score = np.zeros(n_views)
        z, mask = torch.from_numpy(logit).float(), torch.ones(1, n_views, dtype=torch.bool)
        log_weight = attend_views(torch.from_numpy(score).float(), mask)
        of_torch = {
            "mean": pool_views(z, mask),
            "max": max_views_logit(z, mask),
            "attention": pool_views(z, mask, log_weight),
            "attention_additive": additive_logit(z, mask, log_weight),
        }[pooling]
        found = program.pool(pooling, logit, score)
        np.testing.assert_allclose(found, of_torch.item(), rtol=1e-5, atol=1e-5)


# --- main ------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder as an export writes it, whose network is the mean grey value."""
    about = {
        "caveat": "Research software. Trained on phantoms: no clinical meaning.",
        "study_types": ["XR_HAND", "XR_WRIST"],
        "pooling": "mean",
        "flip_average": False,
        "threshold": 0.6,
        "calibration": {
            "slope": 1.0,
            "intercept": 0.0,
            "prior_shift": {},
            "prior_shift_of_other_types": 0.0,
        },
        "preparation": {"image_size": SIZE},
    }
    (tmp_path / "export.json").write_text(json.dumps(about))

    class Session:
        def __init__(self, path, providers):
            assert path == tmp_path / "model.onnx"

        def get_outputs(self):
            return [type("Output", (), {"name": "logit"})]

        def run(self, names, inputs):
            return [inputs["views"].mean(axis=(1, 2, 3)).astype(np.float32) / 100]

    monkeypatch.setattr(program, "__file__", str(tmp_path / "predict.py"))
    monkeypatch.setattr(program.onnxruntime, "InferenceSession", Session)
    return tmp_path


def write_view(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (10, 10), grey).save(path)


def test_every_folder_of_images_is_a_study(folder, capsys):
    write_view(folder / "in" / "b" / "study1" / "image1.png", 0)
    write_view(folder / "in" / "b" / "study1" / "image2.png", 100)
    write_view(folder / "in" / "a" / "image1.PNG", 100)
    write_view(folder / "in" / "a" / "._image1.png", 0)  # what macOS leaves
    (folder / "in" / "labels.csv").write_text("nothing")
    program.main(str(folder / "in"))
    out = capsys.readouterr()
    rows = [line.split("\t") for line in out.out.splitlines()]
    p = 1 / (1 + np.exp(-1))
    assert [row[0] for row in rows] == [str(folder / "in/a"), str(folder / "in/b/study1")]
    assert [row[2] for row in rows] == ["abnormal", "abnormal"]
    assert float(rows[0][1]) == pytest.approx(p, abs=1e-6)
    assert float(rows[1][1]) == pytest.approx((p + 0.5) / 2, abs=1e-6)
    assert rows[1][3:] == ["image1.png 0.500000", f"image2.png {p:.6f}"]
    assert out.err == "Research software. Trained on phantoms: no clinical meaning.\n"


def test_study_type_is_asked_for_where_the_result_depends_on_it(folder, capsys):
    about = json.loads((folder / "export.json").read_text())
    about["calibration"] |= {"prior_shift": {"XR_HAND": 1.0, "XR_WRIST": 0.5}}
    (folder / "export.json").write_text(json.dumps(about))
    write_view(folder / "in" / "image1.png", 100)
    with pytest.raises(SystemExit, match="expected FOLDER and STUDY_TYPE.*XR_HAND, XR_WRIST"):
        program.main(str(folder / "in"))
    program.main(str(folder / "in"), "XR_HAND")
    hand = capsys.readouterr()
    assert hand.out.split("\t")[1:3] == ["0.500000", "normal"]
    assert "never saw" not in hand.err
    program.main(str(folder / "in"), "XR_FOOT")
    foot = capsys.readouterr()
    assert foot.out.split("\t")[1] == "0.731059"
    assert "training never saw XR_FOOT, but XR_HAND, XR_WRIST" in foot.err


def test_image_that_cannot_be_read_ends_the_program_with_its_name(folder):
    write_view(folder / "in" / "a" / "image1.png", 100)
    (folder / "in" / "a" / "image2.png").write_bytes(b"no image")
    with pytest.raises(SystemExit, match=re.escape(str(folder / "in/a/image2.png"))):
        program.main(str(folder / "in"))


@pytest.mark.parametrize("suffix", [".dcm", ".tiff"])
def test_study_is_not_computed_without_a_view_of_another_format(folder, suffix):
    write_view(folder / "in" / "image1.png", 100)
    (folder / "in" / f"image2{suffix}").write_bytes(bytes(200))
    with pytest.raises(SystemExit, match=f"image2{suffix}"):
        program.main(str(folder / "in"))


def test_program_without_a_folder_says_how_it_is_called():
    command = [sys.executable, program.__file__]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "python predict.py FOLDER [STUDY_TYPE]" in done.stderr


def test_folder_without_images_is_named(folder):
    with pytest.raises(SystemExit, match="expected a folder of images, got .*absent"):
        program.main(str(folder / "absent"))
