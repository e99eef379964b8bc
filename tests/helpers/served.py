"""Requests to a served model, and what they cost its server, for tests."""

import base64
import contextlib
import io
import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from PIL import Image

from mura_skorch import MuraClassifier

NOTE = "phantoms: no clinical meaning"
ROOT = Path(__file__).parents[2]


def untrained(seed, image_size=32):
    """Return DenseNet-169 as it starts: a served model is loaded without TinyNet."""
    clf = MuraClassifier(
        module__weights=None,
        dataset__image_size=image_size,
        precision="float32",
        random_state=seed,
        callbacks__mlflow=None,
    ).initialize()
    clf.module_.head.weight.data *= 20  # away from .5
    clf.study_types_, clf.note_ = ["XR_HAND", "XR_WRIST"], NOTE
    return clf


def encoded(path):
    return base64.b64encode(Path(path).read_bytes()).decode()


def requested(table):
    """Return studies as rows of a request."""
    return [
        {"images": [encoded(path) for path in row.views], "study_type": row.study_type}
        for row in table.itertuples()
    ]


def picture(size=(64, 64), until=None):
    """Return base64 of a grey PNG, or of its first bytes."""
    file = io.BytesIO()
    Image.new("L", size, 7).save(file, "PNG")
    return base64.b64encode(file.getvalue()[:until]).decode()


def study(*images, **row):
    return {"dataframe_records": [{"images": list(images), **row}]}


def post(url, body, content_type="application/json", timeout=240):
    """Return status and body of an answer; bytes and iterables of bytes are sent as they are."""
    data = json.dumps(body).encode() if isinstance(body, dict | list) else body
    headers = {"Content-Type": content_type}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data, headers), timeout=timeout
        ) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        text = error.read().decode()
        with contextlib.suppress(json.JSONDecodeError):
            return error.code, json.loads(text)
        return error.code, text


def served(url, rows, **params):
    status, answer = post(url, {"dataframe_records": rows, "params": params})
    assert status == 200, answer
    return answer["predictions"]


@contextlib.contextmanager
def at_most(server, megabytes):
    """Fail if a process of a server takes more memory, at its peak, than it had before."""
    processes = [p for p in Path("/proc").glob("[0-9]*") if _group(p) == server.process.pid]
    if not processes:
        pytest.skip("peaks of memory are read below /proc")
    for process in processes:
        (process / "clear_refs").write_text("5")  # its peak begins anew, see man 5 proc
    before = [_resident(process, "VmRSS") for process in processes]
    yield
    peaks = [_resident(process, "VmHWM") for process in processes]
    grown = max(peak - rss for peak, rss in zip(peaks, before, strict=True))
    assert grown < megabytes, f"expected at most {megabytes} MB more, got {grown:.0f}"


def _group(process):
    with contextlib.suppress(OSError):
        return int((process / "stat").read_text().rpartition(")")[2].split()[2])


def _resident(process, field):
    return int(re.search(rf"{field}:\s+(\d+)", (process / "status").read_text())[1]) / 1024
