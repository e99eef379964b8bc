import logging
import os
import re
import select
import struct
import subprocess
import sys
import traceback
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_files import write_dicom
from pydicom import encaps, uid
from pydicom.data import get_testdata_file
from torch.utils.data import DataLoader

from mura_skorch.data import check_views, read_view
from mura_skorch.dicom import decoder_process as decoder
from mura_skorch.dicom import pixel_data as stored

NOISE = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
J2K, RLE = uid.JPEG2000Lossless, uid.RLELossless
shipped = partial(get_testdata_file, download=False)


def write_frame(path, pixels, syntax, frame, **fields):
    """Write a file that holds a compressed frame of our own."""
    write_dicom(path, pixels, **fields)
    found = pydicom.dcmread(path)
    found.file_meta.TransferSyntaxUID = syntax
    found.PixelData = encaps.encapsulate([frame])
    found["PixelData"].VR = "OB"
    found.save_as(path)
    return path


# ---------------------------------------------------------- a process of their own


FATAL = [("JPEGLSNearLossless_16.dcm", 586, 17), ("SC_rgb_jpeg_gdcm.dcm", 1353, 255)]


def fatal(folder, name, place, value):
    """Write a file with one other byte, which ends the process that gdcm decodes it in."""
    data = bytearray(Path(shipped(name)).read_bytes())
    data[place] = value
    (folder / "fatal").write_bytes(data)
    return folder / "fatal"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "place", "value"), FATAL)
def test_decoder_crash_is_an_error_of_that_file_only(tmp_path, name, place, value):
    expected = read_view(shipped(name))
    path = fatal(tmp_path, name, place, value)
    for _ in range(2):
        with pytest.raises(ValueError, match="fatal: expected a readable image.*decoder ended"):
            read_view(path)
        np.testing.assert_array_equal(read_view(shipped(name)), expected)


def test_codestream_of_damaged_size_is_not_decoded(tmp_path):
    path = fatal(tmp_path, "JPEGLSNearLossless_16.dcm", 590, 0)
    with pytest.raises(ValueError, match="its compressed pixels are 0 x 50"):
        read_view(path)


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless", "JPEGLSNearLossless_16"])
def test_random_damage_for_gdcm_does_not_end_the_process(tmp_path, name):
    data = Path(shipped(f"{name}.dcm")).read_bytes()
    rng = np.random.default_rng(0)
    n_bad = 0
    for _ in range(20):
        damaged = bytearray(data)
        start = data.index(b"\xff\xd8\xff")
        damaged[rng.integers(start + 2, len(data) - 64)] = rng.integers(256)
        (tmp_path / "v").write_bytes(damaged)
        try:
            assert read_view(tmp_path / "v").dtype == np.uint8
        except ValueError:
            n_bad += 1
    assert n_bad


@pytest.mark.slow
def test_slow_decoder_is_killed(tmp_path, monkeypatch):
    path = write_dicom(tmp_path / "slow", np.tile(NOISE, (16, 16)), BitsStored=12, syntax=J2K)
    expected = read_view(path)
    with monkeypatch.context() as patch:
        patch.setattr(decoder, "TIMEOUT", 0)
        with pytest.raises(ValueError, match="slow.*the decoder ended"):
            read_view(path)
    np.testing.assert_array_equal(read_view(path), expected)


@pytest.mark.slow
def test_threads_decode_their_own_files(tmp_path):
    paths = [write_dicom(tmp_path / str(n), NOISE + n, syntax=RLE) for n in range(4)] * 8
    for number, path in enumerate(paths[:4]):  # values fill the grey scale: let them differ
        write_dicom(path, np.roll(NOISE, number), syntax=RLE)
    with ThreadPoolExecutor(8) as pool:
        views = list(pool.map(read_view, paths))
    for view, number in zip(views, list(range(4)) * 8, strict=True):
        np.testing.assert_array_equal(view, np.roll(views[0], number))


def test_forked_workers_decode_concurrently_with_their_parent(tmp_path):
    paths = [write_dicom(tmp_path / str(n), np.roll(NOISE, n), syntax=RLE) for n in range(6)]
    expected = [read_view(path) for path in paths]
    loader = DataLoader(paths, batch_size=1, num_workers=2, collate_fn=lambda p: read_view(p[0]))
    for view, again, path in zip(loader, expected, paths, strict=True):
        np.testing.assert_array_equal(view, again)
        np.testing.assert_array_equal(read_view(path), again)


READER = """
import sys
from mura_skorch.dicom import decoder_process as decoder
from mura_skorch.data import read_view

read_view(sys.argv[1])
print(*(process.popen.pid for process in decoder._running), flush=True)
sys.stdin.read()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the system cannot wait for a process")
def test_decoder_exits_when_its_parent_is_killed(tmp_path):
    path = write_dicom(tmp_path / "v", NOISE, syntax=RLE)
    command, pipe = [sys.executable, "-c", READER, str(path)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as reader:
        (pid,) = map(int, reader.stdout.readline().split())
        decoder_file = os.pidfd_open(pid)
        assert not select.select([decoder_file], [], [], 0)[0], "it waits for the next frame"
        reader.kill()
    assert select.select([decoder_file], [], [], 30)[0], "it ended"
    os.close(decoder_file)


def test_decoder_output_reaches_neither_log_nor_traceback(tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    good = write_dicom(tmp_path / "v", NOISE, syntax=J2K).read_bytes()
    (tmp_path / "cut").write_bytes(good[: len(good) // 2])
    (tmp_path / "short").write_bytes(write_dicom(tmp_path / "v", NOISE).read_bytes()[:-100])
    for path in (fatal(tmp_path, *FATAL[0]), tmp_path / "cut", tmp_path / "short"):
        with pytest.raises(ValueError, match=path.name) as caught:
            read_view(path)
        lines = "".join(traceback.format_exception(caught.value))
        assert f"{os.sep}pydicom{os.sep}" not in lines
    assert "Traceback" not in caplog.text
    assert capfd.readouterr() == ("", "")


# ----------------------------------------------------------------------- bombs


def deflated_bomb(path):
    """Write a file of 2 MB whose pixels are 2 GiB of zeros."""
    write_dicom(path, NOISE)
    data = path.read_bytes()
    start = data.index(b"\x08\x00\x16\x00")
    own = pydicom.dcmread(path).file_meta
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    pixels = data.index(b"\xe0\x7f\x10\x00OW")
    head = data[start:pixels] + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 2**31)
    first = deflate.compress(head) + deflate.flush(zlib.Z_FULL_FLUSH)
    block = deflate.compress(bytes(2**25)) + deflate.flush(zlib.Z_FULL_FLUSH)
    own.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    with open(path, "wb") as file:
        file.write(bytes(128) + b"DICM")
        pydicom.filewriter.write_file_meta_info(file, own)
        file.write(first + block * 64 + deflate.flush(zlib.Z_FINISH))


WITH_LITTLE_MEMORY = """
import resource
import sys
from PIL import Image
from mura_skorch.dicom import read_dicom_studies
from mura_skorch.data import check_views, read_view
import pydicom.pixels

Image.MAX_IMAGE_PIXELS = 10**7
with open("/proc/self/statm") as file:
    used = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
for read in (read_view, lambda path: check_views([path])):
    try:
        read(sys.argv[1])
    except ValueError as error:
        print(error)
print(len(read_dicom_studies(".")))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory cannot be bounded")
def test_deflate_bomb_is_refused_without_using_memory(tmp_path):
    deflated_bomb(tmp_path / "bomb")
    assert (tmp_path / "bomb").stat().st_size < 3e6
    command = [sys.executable, "-c", WITH_LITTLE_MEMORY, "bomb"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.count("bomb: expected at most 10,000,000 pixels, got more (more than") == 2
    assert found.stdout.endswith("\n1\n"), "its header alone may be read"


@pytest.mark.parametrize("name", ["JPEG2000", "SC_rgb_jpeg_gdcm", "MR_small_jpeg_ls_lossless"])
def test_codestream_size_that_contradicts_the_header_is_not_decoded(tmp_path, monkeypatch, name):
    monkeypatch.setattr(stored, "decode_apart", None)
    data = bytearray(Path(shipped(f"{name}.dcm")).read_bytes())
    siz = data.find(b"\xff\x4f\xff\x51")
    place = siz + 8 if siz > 0 else re.search(b"\xff[\xc0\xc3\xf7]\0.", data).start() + 5
    data[place : place + 4] = (
        struct.pack(">I", 60_000) if siz > 0 else struct.pack(">2H", *[60_000] * 2)
    )
    (tmp_path / "bomb").write_bytes(data)
    with pytest.raises(ValueError, match=r"bomb.*its compressed pixels are 60000 x .* its header"):
        read_view(tmp_path / "bomb")


def test_codestream_with_more_samples_than_the_header_is_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "decode_apart", None)
    data = bytearray(Path(shipped("JPEG2000.dcm")).read_bytes())
    place = data.find(b"\xff\x4f\xff\x51") + 40
    data[place : place + 2] = struct.pack(">H", 16_000)
    (tmp_path / "bomb").write_bytes(data)
    with pytest.raises(ValueError, match="with 16000 samples"):
        read_view(tmp_path / "bomb")


def test_pixels_without_a_codestream_are_not_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(stored, "decode_apart", None)
    for syntax in (uid.JPEGBaseline8Bit, uid.JPEGLSLossless, J2K, RLE):
        for frame in (b"\0\0", b"\xff\xd8\xff\xe0", bytes(400)):
            path = write_frame(tmp_path / "v", NOISE, syntax, frame)
            with pytest.raises(ValueError, match="v: expected a readable image"):
                read_view(path)


@pytest.mark.parametrize("bits", [8, 32])
def test_rle_bomb_is_refused(tmp_path, bits):
    segment = b"\x81\x00" * 10_000_000  # each 2 bytes become 128
    starts = [64 + n * len(segment) // 4 for n in range(bits // 8)]
    header = struct.pack("<16I", len(starts), *starts, *[0] * (15 - len(starts)))
    pixels = NOISE.astype(f"u{bits // 8}")
    path = write_frame(tmp_path / "bomb", pixels, RLE, header + segment)
    with pytest.raises(ValueError, match="bomb.*(far more memory|the decoder ended)"):
        read_view(path)


@pytest.mark.parametrize("n_segments", [0, 1, 3, 2**32 - 1])
def test_rle_with_wrong_number_of_segments_is_not_decoded(tmp_path, monkeypatch, n_segments):
    monkeypatch.setattr(stored, "decode_apart", None)
    frame = struct.pack("<16I", n_segments, 64, *[0] * 14) + bytes(9000)
    path = write_frame(tmp_path / "v", NOISE, RLE, frame)
    with pytest.raises(ValueError, match=rf"{n_segments:,} RLE segments, not 2"):
        read_view(path)


def test_palette_bomb_is_refused(tmp_path):
    segments = struct.pack("<3H", 0, 1, 0) + struct.pack("<3H", 1, 65535, 9) * 100_000
    colours = ("Red", "Green", "Blue")
    tables = {f"Segmented{c}PaletteColorLookupTableData": segments for c in colours}
    tables |= {f"{c}PaletteColorLookupTableDescriptor": [256, 0, 16] for c in colours}
    fields = {"PhotometricInterpretation": "PALETTE COLOR", **tables}
    path = write_dicom(tmp_path / "bomb", NOISE.astype(np.uint8), **fields)
    for read in (read_view, lambda path: check_views([path])):
        with pytest.raises(ValueError, match="bomb: expected .* RedPaletteColorLookupTableData"):
            read(path)


@pytest.mark.parametrize("check", [read_view, lambda path: check_views([path])])
def test_huge_number_of_frames_uses_no_memory(tmp_path, check):
    path = write_dicom(tmp_path / "v", NOISE, NumberOfFrames=2**31 - 1)
    with pytest.raises(ValueError, match="v: expected a readable image"):
        check(path)
    path = write_dicom(tmp_path / "v", NOISE, syntax=RLE, BitsStored=12)
    expected = read_view(path)
    found = pydicom.dcmread(path)
    found.NumberOfFrames = 2**31 - 1
    found.save_as(path)
    np.testing.assert_array_equal(read_view(path), expected)
