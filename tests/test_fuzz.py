"""Random input gives a right answer or one of our own errors.

``MURA_SKORCH_FUZZ=200000`` draws as many cases, ``--hypothesis-show-statistics`` shows how they
end.
"""

import csv
import html.parser
import io
import json
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
import torch
from dicom_files import write_dicom
from fuzzing import ODD, cases, damaged, pictures, right_or_told, words
from hypothesis import given
from hypothesis import strategies as st
from nets import TinyNet, tiny_classifier
from PIL import Image

from mura_skorch import MuraClassifier, read_studies
from mura_skorch.data import check_views, read_view
from mura_skorch.dicom import read_dicom_studies
from mura_skorch.report.html import render_page
from mura_skorch.studies import check_studies, join_labels
from mura_skorch.training.checkpoint_file import CheckpointFile

pytestmark = pytest.mark.faults

PICTURES = pictures()
KEYS = [
    "train/XR_HAND/patient1/study1_positive",
    "train/XR_HAND/patient2/study1_negative",
    "valid/XR_WRIST/patient3/study1_negative",
]


# ------------------------------------------------------------------- pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "image1.png"


def heard(caught):
    """Return the warnings but for those that this package silences outside of a test."""
    return [w for w in caught if not re.search("TiffImagePlugin|pydicom", w.filename)]


@cases(0.32)
@given(data=damaged(PICTURES))
def test_damaged_picture_is_a_view_or_a_clear_error(place, data):
    place.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        right_or_told(lambda: check_views([place]))
        view = right_or_told(lambda: read_view(place))
    assert len(heard(caught)) < 10
    if view is not None:
        assert view.dtype == np.uint8
        assert view.ndim == 2
        assert 0 < view.size <= Image.MAX_IMAGE_PIXELS


# ---------------------------------------------------------------------- DICOM


def dicom_files(folder):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4096, (12, 17), dtype=np.uint16)
    window = {"WindowCenter": 2000, "WindowWidth": 3000, "RescaleSlope": 1, "RescaleIntercept": 0}
    kinds = [
        {"BitsStored": 12, "InstanceNumber": 1},
        {"BitsStored": 12, "PhotometricInterpretation": "MONOCHROME1", **window},
        {"BitsStored": 12, "syntax": pydicom.uid.ImplicitVRLittleEndian},
        {"BitsStored": 12, "syntax": pydicom.uid.ExplicitVRBigEndian},
        {"BitsStored": 12, "syntax": pydicom.uid.DeflatedExplicitVRLittleEndian},
    ]
    paths = [write_dicom(folder / str(n), pixels, **kind) for n, kind in enumerate(kinds)]
    return [path.read_bytes() for path in paths]


@pytest.fixture(scope="module")
def dicoms(tmp_path_factory):
    return dicom_files(tmp_path_factory.mktemp("dicom"))


@cases(0.2)
@given(data=st.data())
def test_damaged_dicom_is_a_view_or_a_clear_error(place, dicoms, data):
    file = place.with_name("clinic") / "v.dcm"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data.draw(damaged(dicoms)))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        right_or_told(lambda: check_views([file]))
        view = right_or_told(lambda: read_view(file))
        studies = right_or_told(lambda: read_dicom_studies(file.parent))
    assert len(heard(caught)) < 10
    if view is not None:
        assert view.dtype == np.uint8
        assert view.ndim == 2
    if studies is not None:
        assert len(studies) == 1


# ------------------------------------------------------------------------ CSV


@st.composite
def csv_bytes(draw, keys, n_columns):
    """Draw a CSV file: whole rows, some of them wrong, or anything, or such a file with damage."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=300))
    prefix = draw(st.sampled_from(["", "MURA-v1.1/", "/data/", "../", "a\\"]))
    rows = [[f"{prefix}{key}/", draw(st.sampled_from(["0", "1"]))][:n_columns] for key in keys]
    for _ in range(draw(st.integers(0, 2))):
        row = draw(st.integers(0, len(rows) - 1))
        column = draw(st.integers(0, n_columns - 1))
        rows[row][column] = draw(words() | st.sampled_from(["9" * 5000, "a/" * 3000, "1e999"]))
    rows += draw(st.lists(st.lists(words(), max_size=4), max_size=2))
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])))
    writer.writerows(rows)
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "latin-1"]))
    data = buffer.getvalue().encode(encoding, "replace")
    return draw(damaged([data])) if draw(st.booleans()) else data


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    for key in KEYS:
        (root / key).mkdir(parents=True)
        (root / key / "image1.png").write_bytes(PICTURES[0])
    return root


@cases(0.16)
@given(
    data=csv_bytes(KEYS[:2], 2),
    name=st.sampled_from(["train_labeled_studies.csv", "train_image_paths.csv", "train.csv"]),
)
def test_any_csv_gives_the_studies_of_the_folder_or_a_clear_error(root, data, name):
    (root / name).write_bytes(data)
    try:
        studies = right_or_told(lambda: read_studies(root))
    finally:
        (root / name).unlink()
    if studies is not None:
        assert studies["study"].tolist() == KEYS
        assert studies["label"].tolist() == [1, 0, 0]


@cases(0.12)
@given(data=csv_bytes(KEYS, 2), header=st.sampled_from([b"", b"study,label\n", b"study,label,a\n"]))
def test_any_file_of_labels_labels_every_study_or_is_a_clear_error(place, data, header):
    file = place.with_name("labels.csv")
    file.write_bytes(header + data)
    studies = pd.DataFrame({"study": KEYS})
    found = right_or_told(lambda: join_labels(studies, file))
    if found is not None:
        assert found["study"].tolist() == KEYS
        assert found["label"].dtype == "Int8"
        assert found["label"].dropna().isin([0, 1]).all()


@st.composite
def table_bytes(draw):
    """Draw a table of studies or of views: a CSV file with odd cells, or a damaged parquet file."""
    views = draw(st.sampled_from(["views", "path"]))
    names = ["study", "study_type", "patient", "label", views]
    rows = [[f"s{n}", "XR_HAND", "p", "1", "image1.png"] for n in range(draw(st.integers(0, 3)))]
    if draw(st.booleans()):
        cells = [row if views == "path" else [*row[:4], row[4:]] for row in rows]
        file = io.BytesIO()
        pd.DataFrame(cells, columns=names, dtype=object).to_parquet(file)
        return ".parquet", draw(damaged([file.getvalue()]))
    odd = st.sampled_from(["['image1.png']", "(1,)", "[" * 9999, "[]", "a;;b", "1.5", "NORMAL", ""])
    for row in rows:
        row[draw(st.integers(0, 4))] = draw(words() | odd)
    rows += draw(st.lists(st.lists(words(), max_size=6), max_size=1))
    text = io.StringIO()
    csv.writer(text, delimiter=draw(st.sampled_from(",;\t"))).writerows([names, *rows])
    data = text.getvalue().encode(draw(st.sampled_from(["utf-8", "utf-16"])), "replace")
    return ".csv", draw(damaged([data])) if draw(st.booleans()) else data


@cases(0.2)
@given(table=table_bytes())
def test_any_table_file_gives_studies_of_existing_files_or_a_clear_error(place, table):
    suffix, data = table
    place.write_bytes(PICTURES[0])
    file = place.with_name(f"studies{suffix}")
    file.write_bytes(data)
    studies = right_or_told(lambda: read_studies(file))
    if studies is not None:
        assert studies["study"].is_unique
        assert studies["label"].dropna().isin([0, 1]).all()
        assert all(Path(view).exists() for views in studies["views"] for view in views)


# --------------------------------------------------------------------- tables

CELLS = (
    st.none() | st.booleans() | st.integers() | st.floats() | words() | st.binary(max_size=3)
    | st.lists(words() | st.none(), max_size=3) | st.tuples(words()) | st.just(pd.NaT)
    | st.just(np.array(["a.png"])) | st.just(Path("a.png")) | st.just({}) | st.just(pd.NA)
)  # fmt: skip
GOOD = {"study_type": "XR_HAND", "patient": "p", "views": ("a.png",), "label": 1, "study": "s"}


@cases(0.1)
@given(
    columns=st.lists(st.sampled_from([*GOOD, "other"]), unique=True),
    n_rows=st.integers(0, 3),
    wrong=st.dictionaries(st.sampled_from(list(GOOD)), st.tuples(st.integers(0, 2), CELLS)),
    y=st.none() | st.lists(CELLS, max_size=3),
    for_fit=st.booleans(),
)
def test_any_table_is_checked_whole_or_is_a_clear_error(columns, n_rows, wrong, y, for_fit):
    rows = [{name: GOOD.get(name, n) for name in columns} for n in range(n_rows)]
    for n, row in enumerate(rows):
        row |= {name: f"{row[name]}{n}" for name in ("study", "patient") if name in row}
        if "views" in row:
            row["views"] = (f"{n}.png",)
    for name, (row, value) in wrong.items():
        if row < n_rows and name in columns:
            rows[row][name] = value
    table = pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=object) for name in columns}
    )
    before = table.copy()
    found = right_or_told(
        lambda: check_studies(table, y, for_fit=for_fit), errors=(ValueError, TypeError)
    )
    pd.testing.assert_frame_equal(table, before)
    if found is not None:
        checked, labels = found
        assert len(checked) == n_rows > 0
        assert all(type(path) is str for views in checked["views"] for path in views)
        if labels is not None:
            assert set(labels) <= {0, 1}


# --------------------------------------------------------------------- models


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A saved model, and folders to damage it in."""
    folder = tmp_path_factory.mktemp("model")
    untrained().save(folder)
    return folder


@pytest.fixture(scope="module")
def state(train, tmp_path_factory):
    """The bytes of a training state."""
    file = tmp_path_factory.mktemp("state") / "state"
    tiny_classifier(checkpoint_path=file, max_epochs=1).fit(train)
    return file.read_bytes()


def untrained():
    net = tiny_classifier().initialize()
    net.study_types_, net.note_, net.run_id_, net.seed_ = ["XR_HAND"], None, None, 0
    return net


@st.composite
def changed_json(draw, text):
    """Draw a JSON text with other values somewhere, or with damage."""
    if draw(st.integers(0, 3)) == 0:
        return draw(damaged([text.encode()]))
    found = json.loads(text)
    owner, key = found, draw(st.sampled_from(sorted(found)))
    while isinstance(owner[key], dict) and owner[key] and draw(st.booleans()):
        owner, key = owner[key], draw(st.sampled_from(sorted(owner[key])))
    owner[key] = draw(
        st.none() | st.booleans() | st.integers() | st.floats() | words()
        | st.lists(st.none() | words(), max_size=2) | st.dictionaries(words(), words(), max_size=2)
    )  # fmt: skip
    return json.dumps(found).encode()


@cases(0.04)
@given(data=st.data())
def test_damaged_model_loads_whole_or_is_a_clear_error(model, data):
    files = {name: (model / name).read_bytes() for name in ("model.json", "model.safetensors")}
    if data.draw(st.booleans()):
        changed = {"model.json": data.draw(changed_json(files["model.json"].decode()))}
    else:
        changed = {"model.safetensors": data.draw(damaged([files["model.safetensors"]]))}
    try:
        for name, content in changed.items():
            (model / name).write_bytes(content)
        net = right_or_told(lambda: MuraClassifier.load(model, module=TinyNet, device="cpu"))
    finally:
        for name, content in files.items():
            (model / name).write_bytes(content)
    if net is not None:
        assert net.module_.state_dict().keys() == TinyNet(None).state_dict().keys()


@cases(0.03)
@given(data=st.data())
def test_damaged_weights_are_taken_whole_or_are_a_clear_error(place, data):
    network = TinyNet(None).network
    file = place.with_name(data.draw(st.sampled_from(["w.pth", "w.safetensors"])))
    buffer = io.BytesIO()
    torch.save(network.state_dict(), buffer)
    file.write_bytes(data.draw(damaged([buffer.getvalue()])))
    right_or_told(lambda: TinyNet(file))


@cases(0.02)
@given(data=st.data())
def test_damaged_state_is_taken_whole_or_is_a_clear_error(place, state, data):
    file = place.with_name("state")
    file.write_bytes(data.draw(damaged([state])))

    def read():
        with CheckpointFile(file) as found:
            return found.read()

    right_or_told(read)


# ---------------------------------------------------------------------- pages


class Texts(html.parser.HTMLParser):
    """The tags of a page, and its texts."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, [name for name, _ in attrs]))

    def handle_data(self, data):
        self.texts.append(data)


@cases(0.01)
@given(text=st.sampled_from(["<b>", "</td>", "<script>alert(1)</script>", "&lt;", *ODD]) | words())
def test_any_text_is_a_text_on_the_page(text):
    plain, found = Texts(), Texts()
    plain.feed(render_page("page.html.jinja", title="x", note="x"))
    found.feed(render_page("page.html.jinja", title=text, note=text or "x"))
    assert found.tags == plain.tags
