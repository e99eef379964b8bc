"""Limits on what a request may cost the server: time, memory, log lines."""

import base64
import io
import json
import tempfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from dicom_files import write_dicom
from PIL import Image
from served import NOTE, at_most, encoded, picture, post, served, study

from mura_skorch.serving.images import decode_studies
from mura_skorch.serving.limits import Limits, read_limits
from mura_skorch.serving.requests import BadRequestError, Row
from mura_skorch.serving.responses import map_layer
from tests.serving.conftest import MAX_BODY_MEGABYTES

LARGEST = MAX_BODY_MEGABYTES * 10**6  # bytes of a request


def refused(url, body, content_type="application/json"):
    """Return the sentence of a 400."""
    status, answer = post(url, body, content_type)
    assert status == 400, answer
    message = answer["message"]
    assert message.startswith("expected ")
    assert "\n" not in message
    assert len(message) < 300
    return message


# --- time and memory -------------------------------------------------------------------------


@pytest.mark.slow
def test_two_hundred_clients_at_once_get_their_own_answers(clf, url, tmp_path):
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"image{number}.png" for number in range(200)]
    for path in paths:
        values = rng.integers(0, 256, (4, 4), dtype=np.uint8)
        Image.fromarray(values).resize((rng.integers(30, 300), 200)).save(path)
    table = pd.DataFrame({"study_type": "XR_WRIST", "views": [(str(path),) for path in paths]})
    expected = clf.predict_proba(table)[:, 1]
    assert len(np.unique(expected.round(4))) > 100  # another study's answer would be noticed
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda path: served(url, [{"images": [encoded(path)]}]), paths))
    assert [len(answer) for answer in answers] == [1] * 200
    assert np.abs([row["probability"] for (row,) in answers] - expected).max() < 1e-5


def png(width, height, *chunks):
    """Return a PNG of a few bytes: its header, other chunks, hardly any pixels."""
    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 0, 0, 0, 0])
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(9))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        for kind, data in parts
    )


def jpeg(size=(64, 64), **options):
    file = io.BytesIO()
    Image.new("L", size, 7).save(file, "JPEG", **options)
    return file.getvalue()


def with_many_scans():
    """Return a progressive JPEG that repeats its last scan."""
    data = jpeg((6000, 6000), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 500 + data[-2:]


def dicom(size=None, *, syntax=pydicom.uid.ExplicitVRLittleEndian, **fields):
    """Return a DICOM file of 64 x 64 pixels, whose compressed ones may be said to be of a size."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = write_dicom(Path(folder) / "view.dcm", pixels, syntax=syntax, **fields)
        data = bytearray(path.read_bytes())
    if size:
        start = data.index(b"\xff\x4f\xff\x51") + 8  # JPEG 2000, ISO/IEC 15444-1 A.5.1
        data[start : start + 8] = data[start + 16 : start + 24] = 2 * size.to_bytes(4, "big")
    return bytes(data)


LONG_TEXT = zlib.compress(bytes(500_000_000), 9)

BOMBS = {
    "50,000 x 50,000": (png(50_000, 50_000), "at most 40,000,000 pixels"),
    "9,000 x 9,000": (png(9_000, 9_000), "at most 40,000,000 pixels"),
    "two thousand million a side": (png(2**31 - 1, 2**31 - 1), "at most 40,000,000 pixels"),
    "no pixels at all": (png(0, 0), "readable PNG file"),
    "zTXt": (png(9, 9, (b"zTXt", b"Comment\0\0" + LONG_TEXT)), "readable PNG file"),
    "iTXt": (png(9, 9, (b"iTXt", b"Comment\0\1\0\0\0" + LONG_TEXT)), "readable PNG file"),
    "iCCP": (png(9, 9, (b"iCCP", b"profile\0\0" + LONG_TEXT)), "readable PNG file"),
    "a truncated JPEG": (jpeg()[:-100], "readable JPEG file"),
    "a JPEG without pixels": (jpeg((6000, 6000))[:700], "readable JPEG file"),
    "a JPEG of 65,000 a side": (
        jpeg().replace(b"\x08\0\x40\0\x40", b"\x08\xfd\xe8\xfd\xe8"), "at most 40,000,000 pixels",
    ),
    "DICOM of 50,000 a side": (dicom(Rows=50_000, Columns=50_000), "at most 40,000,000 pixels"),
    "JPEG 2000 of 20,000 a side in DICOM of 64": (
        dicom(20_000, syntax=pydicom.uid.JPEG2000Lossless), "compressed pixels are 20000 x 20000",
    ),
    "a JPEG of many scans": (with_many_scans(), "scans, more than 100"),
}  # fmt: skip


def test_compressed_dicom_within_its_limits_is_served(url):
    uid = pydicom.uid
    for syntax in (uid.JPEG2000Lossless, uid.RLELossless, uid.DeflatedExplicitVRLittleEndian):
        served(url, study(base64.b64encode(dicom(syntax=syntax)).decode())["dataframe_records"])


@pytest.mark.parametrize("name", BOMBS)
def test_image_bombs_are_refused_before_they_take_memory(server, url, name):
    data, expected = BOMBS[name]
    with at_most(server, megabytes=100):
        assert expected in refused(url, study(base64.b64encode(data).decode()))


def test_requests_that_are_too_long_are_refused_and_not_stored(server, url):
    too_long = f"expected a request of at most {LARGEST:,} bytes, got 400,000,000"
    with at_most(server, megabytes=100):
        assert too_long in refused(url, bytes(400_000_000))
        in_chunks = (bytes(1_000_000) for _ in range(400))  # of a length that is not declared
        assert too_long in refused(url, in_chunks)
    status, _ = post(url, study(picture()))
    assert status == 200


def test_files_that_are_too_long_are_refused_like_missing_ones(tmp_path):
    (tmp_path / "long.png").write_bytes(base64.b64decode(picture()) + bytes(1_000_000))
    row = Row(["long.png"], None)
    assert decode_studies([row], {32}, root=tmp_path).shapes == [(64, 64)]
    with pytest.raises(BadRequestError, match=r"at most 1,000,000 bytes .* got a path that is nei"):
        decode_studies([row], {32}, root=tmp_path, limits=Limits(body_megabytes=1))


def test_maps_of_large_views_are_small_and_so_is_their_memory(server, url):
    with at_most(server, megabytes=300):
        (row,) = served(url, study(picture((6000, 3000)))["dataframe_records"],
                        activation_maps=True)  # fmt: skip
    (text,) = row["activation_maps"]
    assert Image.open(io.BytesIO(base64.b64decode(text))).size == (1024, 512)


def test_map_of_a_large_view_is_that_of_a_smaller_one():
    cam = np.random.default_rng(0).normal(size=(7, 7)).astype(np.float32)
    as_it_is, smaller = (map_layer(cam, shape, 2.0) for shape in ((1024, 512), (4096, 2048)))
    assert np.array_equal(as_it_is, smaller)


def test_limits_are_read_from_the_environment():
    variables = {"MURA_MAX_IMAGES": "12", "MURA_MAX_TOTAL_MEGAPIXELS": "7"}
    assert read_limits(variables) == Limits(images=12, total_megapixels=7)
    for wrong in ("many", "0", "-1", "1.5", "1e3", "²"):
        with pytest.raises(ValueError, match="expected MURA_MAX_IMAGES as a whole number above 0"):
            read_limits({"MURA_MAX_IMAGES": wrong})


# --- headers and log -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        'application/json; charset="utf-8"', "application/json;charset=UTF8",
        "Application/JSON ; odata=verbose; charset=Utf-8", "application/json; charset=us-ascii",
    ],
)  # fmt: skip
def test_every_spelling_of_json_in_utf_8_is_accepted(url, content_type):
    status, answer = post(url, study(picture()), content_type)
    assert status == 200, answer


@pytest.mark.parametrize("charset", ["latin-1", '"utf-16"', "nothing-known"])
def test_other_charsets_are_refused_in_one_sentence(url, charset):
    content_type = f"application/json; charset={charset}"
    assert "the charset of application/json as utf-8" in refused(url, b"{}", content_type)


def test_log_has_neither_parts_of_a_request_nor_a_stack_trace(server, url):
    forged = 'x\nINFO:     127.0.0.1:9 - "POST /forged HTTP/1.1" 200 OK' + "y" * 10_000
    before = len(server.log.read_text())
    row = study(picture(), **{forged: 1, "\ud800": "\udfff"})
    note = served(url, row["dataframe_records"])[0]["note"]
    assert note.startswith(f"{NOTE}; image 1 of study 1: all of its 4,096 pixels")
    refused(url, {"dataframe_records": [{forged: ["x"]}]})
    refused(url, study(picture()) | {forged: 1})
    refused(url, study(picture()) | {"params": {forged: 1}})
    refused(url, study(forged))
    refused(url, study(picture(until=50), study_type=forged))
    refused(url, json.dumps({forged: []}).encode(), f"{forged.splitlines()[0]}; charset=\xe9")
    said = server.log.read_text()[before:]
    assert "forged" not in said
    assert "yyy" not in said
    assert "Traceback" not in said
    assert len(said) < 2000
