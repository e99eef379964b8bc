"""Input that was made to harm: nothing of it is executed, opened, or shown as anything but text."""

import io
import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from dicom_files import SECRET, write_dicom
from fuzzing import PNG_START, png_chunk
from nets import TinyNet, tiny_classifier
from PIL import Image
from safetensors.torch import save_file
from torchvision.models import densenet121, resnet18

from mura_skorch import MuraClassifier, StudyNetwork, read_studies
from mura_skorch.data import check_views, read_view
from mura_skorch.dicom import read_dicom_studies
from mura_skorch.ensemble import MuraEnsemble, load_model
from mura_skorch.evaluation.formatting import format_scores
from mura_skorch.exploration import explore_studies, write_exploration
from mura_skorch.report import write_report
from mura_skorch.studies import check_studies, join_labels
from mura_skorch.training.checkpoint_file import CheckpointFile
from mura_skorch.utils.text import printable
from tests.test_fuzz import Texts, untrained

pytestmark = pytest.mark.faults
HERE = Path(__file__).parent


# ------------------------------------------------------- models, weights, states


class Touch:
    """What makes a file when it is unpickled."""

    def __reduce__(self):
        return open, (str(Path("touched").absolute()), "w")


def malicious():
    return pickle.dumps(Touch())


@pytest.fixture
def model():
    """A saved model in the test's own folder."""
    untrained().save("model")
    return Path("model")


def test_the_pickle_of_these_tests_would_touch_a_file():
    pickle.loads(malicious()).close()
    assert Path("touched").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.pt", "w.safetensors", "w"])
def test_pickle_as_weights_is_refused_and_not_executed(name):
    Path(name).write_bytes(malicious())
    with pytest.raises(ValueError, match=rf"expected a state dict.*{name}"):
        tiny_classifier(module__weights=name).initialize()
    torch.save({"features.conv0.weight": Touch()}, name)
    with pytest.raises(ValueError, match=rf"expected a state dict.*{name}"):
        tiny_classifier(module__weights=name).initialize()
    assert not Path("touched").exists()


@pytest.mark.parametrize("load", [MuraClassifier.load, load_model])
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_pickle_in_a_saved_model_is_refused_and_not_executed(model, name, load):
    (model / name).write_bytes(malicious())
    with pytest.raises(ValueError, match="damaged or foreign"):
        load(model, module=TinyNet)
    assert not Path("touched").exists()


@pytest.mark.parametrize("load", [MuraEnsemble.load, load_model])
def test_pickle_as_an_ensemble_is_refused_and_not_executed(load):
    Path("e").mkdir()
    Path("e/ensemble.json").write_bytes(malicious())
    with pytest.raises(ValueError, match="damaged or foreign"):
        load("e")
    assert not Path("touched").exists()


def test_pickle_as_a_state_is_refused_and_not_executed(train):
    Path("state").write_bytes(malicious())
    with pytest.raises(ValueError, match="damaged or foreign file in .*state"):
        tiny_classifier(checkpoint_path="state").fit(train)
    assert not Path("touched").exists()


@pytest.mark.parametrize("make", [resnet18, densenet121])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_weights_of_another_architecture_are_refused_with_what_does_not_fit(make, suffix):
    state = make().state_dict()
    torch.save(state, "w.pth") if suffix == "pth" else save_file(state, "w.safetensors")
    with pytest.raises(ValueError, match=r"of densenet169, got .*: \d+ (missing|unexp).*\.\.\."):
        StudyNetwork(f"w.{suffix}")


def test_saved_model_of_another_architecture_is_refused_with_what_does_not_fit(model):
    state = {f"module.network.{key}": value for key, value in resnet18().state_dict().items()}
    save_file(state, model / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"of the TinyNet, got model: \d+ missing .*unexpected .network"
    ):
        MuraClassifier.load(model, module=TinyNet)


def test_model_truncated_anywhere_is_refused(model):
    for name in ("model.json", "model.safetensors"):
        data = (model / name).read_bytes()
        for n_bytes in {0, 1, 7, 8, 9, 100, *range(0, len(data) - 1, len(data) // 20)}:
            (model / name).write_bytes(data[:n_bytes])
            with pytest.raises(ValueError, match="damaged or foreign"):
                MuraClassifier.load(model, module=TinyNet)
        (model / name).write_bytes(data)
    MuraClassifier.load(model, module=TinyNet)


def test_state_truncated_anywhere_is_refused(train):
    tiny_classifier(checkpoint_path="state", max_epochs=1).fit(train)
    data = Path("state").read_bytes()
    for n_bytes in {0, 1, 7, 8, 9, 100, *range(0, len(data) - 1, len(data) // 50)}:
        Path("state").write_bytes(data[:n_bytes])
        with CheckpointFile("state") as file, pytest.raises(ValueError, match="damaged or foreign"):
            file.read()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[1]", "7", "null", '"x"'])
def test_json_of_another_form_is_refused(model, text):
    (model / "model.json").write_text(text)
    with pytest.raises(ValueError, match="damaged or foreign"):
        MuraClassifier.load(model, module=TinyNet)
    Path("e").mkdir()
    Path("e/ensemble.json").write_text(text)
    with pytest.raises(ValueError, match="damaged or foreign"):
        MuraEnsemble.load("e")


def test_model_brings_no_place_to_write_to(model):
    config = json.loads((model / "model.json").read_text())
    config["params"] |= {"checkpoint_path": "/tmp/x", "dataset__cache": "/tmp/y", "device": "meta"}
    (model / "model.json").write_text(json.dumps(config))
    net = MuraClassifier.load(model, module=TinyNet)
    assert net.checkpoint_path is None
    assert net.get_params().get("dataset__cache") is None
    assert net.device != "meta"


@pytest.mark.parametrize("name", ["../model", "/etc", "a/b", "..", ""])
def test_ensemble_opens_no_member_outside_its_folder(model, name):
    MuraEnsemble.of([untrained()]).save("e")
    config = json.loads(Path("e/ensemble.json").read_text())
    config["members"][0]["folder"] = name
    Path("e/ensemble.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="not names of folders in it"):
        MuraEnsemble.load("e", module=TinyNet)


def test_weights_that_unfold_to_more_than_their_file_are_refused():
    torch.save({"a": torch.zeros(10**6)}, "w.pth")
    with zipfile.ZipFile("w.pth") as old, zipfile.ZipFile("bomb.pth", "w", 8) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, old.read(entry))
    with pytest.raises(ValueError, match=r"bomb\.pth: its entries decompress to 4,0\d\d,\d+ bytes"):
        StudyNetwork("bomb.pth")


# ------------------------------------------------------------------ image bombs

IN_LITTLE_MEMORY = """
import resource, sys
from mura_skorch.data import check_views, read_view
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 300_000_000,) * 2)
for path in sys.argv[1:]:
    for read in (lambda path: check_views([path]), read_view):
        try:
            read(path)
            print(path, "read")
        except ValueError as error:
            print(path, " ".join(str(error).split()))
"""


def write_png(path, side, data, *chunks):
    """Write a greyscale PNG of 1 bit a pixel."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    parts = [PNG_START, header, *chunks, png_chunk(b"IDAT", data), png_chunk(b"IEND", b"")]
    Path(path).write_bytes(b"".join(parts))


def zeros(n_megabytes):
    """Return compressed zeros, a thousandth of their size."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(10**6)) for _ in range(n_megabytes)) + packer.flush()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory cannot be bounded")
def test_bombs_are_refused_before_they_take_memory_and_without_a_flood_of_warnings():
    write_png("square", 50_000, zeros(50))
    write_png("endless", 2**31 - 1, zeros(1))
    text = zeros(1000)
    for kind in (b"zTXt", b"iTXt", b"iCCP"):
        start = b"a\0\1\0\0\0" if kind == b"iTXt" else b"a\0\0"
        write_png(kind.decode(), 8, zlib.compress(bytes(16)), png_chunk(kind, start + text))
    fields = b"".join(struct.pack("<HHII", 40_000 + n, 2, 9000, 2**31) for n in range(2000))
    Path("tiff").write_bytes(b"II*\0\x08\0\0\0" + struct.pack("<H", 2000) + fields + bytes(4))
    assert Path("square").stat().st_size < 100_000
    assert Path("zTXt").stat().st_size < 2e6
    names = ["square", "endless", "zTXt", "iTXt", "iCCP", "tiff"]
    found = subprocess.run(
        [sys.executable, "-c", IN_LITTLE_MEMORY, *names],
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    lines = found.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [name for name in names for _ in range(2)]
    for line in lines[:4]:
        assert "expected at most 89,478,485 pixels, got more" in line
    for line in lines[4:10]:
        assert re.search("read$|expected a readable image", line)
    for line in lines[10:]:
        assert "expected a readable image" in line
    assert found.stderr == ""


def test_absurd_size_in_the_header_of_any_format_is_refused():
    ppm = b"P5 60000 60000 255\n"
    bmp = bytearray(save_bytes("BMP"))
    bmp[18:26] = struct.pack("<ii", 60_000, 60_000)
    jpeg = bytearray(save_bytes("JPEG"))
    place = jpeg.index(b"\xff\xc0") + 5
    jpeg[place : place + 4] = struct.pack(">HH", 60_000, 60_000)
    for data in (ppm, bytes(bmp), bytes(jpeg)):
        Path("v").write_bytes(data)
        for read in (read_view, lambda path: check_views([path])):
            with pytest.raises(ValueError, match="v: expected at most 89,478,485 pixels"):
                read("v")


def save_bytes(name):
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, name)
    return buffer.getvalue()


def test_damaged_dicom_header_puts_no_name_into_messages_and_logs(caplog):
    path = write_dicom(Path("clinic/v.dcm"), np.zeros((8, 8), np.uint8))
    data = bytearray(path.read_bytes())
    place = data.index(b"\x08\x00\x60\x00CS") + 6
    data[place : place + 2] = struct.pack("<H", 200)  # Modality runs into all that follows
    path.write_bytes(data)
    with pytest.raises(ValueError, match="expected DICOM files of modality") as told:
        read_dicom_studies("clinic")
    with pytest.raises(ValueError, match="v.dcm") as of_view:
        read_view(path)
    assert SECRET not in f"{told.value} {of_view.value} {caplog.text}"


def test_tiff_that_points_before_its_start_is_a_damaged_file():
    data = bytearray(save_bytes("TIFF"))
    data[:8] = struct.pack("<2sHI", b"II", 43, 8)  # as if of 8-byte places
    Path("v").write_bytes(bytes(data))
    with pytest.raises(ValueError, match="v: expected a readable image"):
        read_view("v")


def test_absurd_length_in_a_jpeg_2000_is_a_damaged_file():
    data = save_bytes("JPEG2000")
    place = data.index(b"ihdr") - 4
    longer = struct.pack(">I4sQ", 1, b"ihdr", 2**62)
    Path("v").write_bytes(data[:place] + longer + data[place + 8 :])
    for read in (read_view, lambda path: check_views([path])):
        with pytest.raises(ValueError, match="v: expected a readable image"):
            read("v")


def test_jpeg_of_thousands_of_scans_is_refused():
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    Path("v.jpg").write_bytes(data[:-2] + b"\xff\xda\0\x08\1\1\0\0\0\0" * 1000 + data[-2:])
    with pytest.raises(ValueError, match=r"v\.jpg.*1,0\d\d scans, more than 100"):
        read_view("v.jpg")


def test_formats_that_start_other_programs_are_no_images():
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(touched) (w) file\n"
    Path("v.png").write_bytes(script)
    with pytest.raises(ValueError, match=r"v\.png: expected a readable image"):
        read_view("v.png")


# ------------------------------------------------------------- folders and CSVs

KEYS = ["train/XR_HAND/patient1/study1_positive", "valid/XR_HAND/patient2/study1_negative"]


@pytest.fixture
def root():
    """A dataset of two studies, beside a folder that is none of its business."""
    for key in KEYS:
        Path("data", key).mkdir(parents=True)
        Image.new("L", (8, 8)).save(Path("data", key, "image1.png"))
    Path("secret").mkdir()
    Image.new("L", (8, 8)).save("secret/image2.png")
    Path("secret/text").write_text("train/XR_HAND/patient1/study1_positive/,1\n")
    return Path("data")


PLACES = {
    "image": (f"{KEYS[0]}/image2.png", "secret/image2.png"),
    "study": ("train/XR_HAND/patient1/study2_positive", "secret"),
    "csv": ("train_labeled_studies.csv", "secret/text"),
    "note": ("NOTE.txt", "secret/text"),
}


@pytest.mark.parametrize("name", PLACES)
def test_link_that_leaves_the_root_is_refused_unless_asked_for(root, name):
    place, target = PLACES[name]
    (root / place).symlink_to(Path(target).absolute())
    with pytest.raises(ValueError, match=rf"1 that leave it: .*{place}.*allow_outside=True"):
        read_studies(root)
    assert len(read_studies(root, allow_outside=True)) == 2 + (name == "study")


@pytest.mark.parametrize("split", ["train", "valid"])
def test_split_that_is_a_link_out_of_the_root_is_refused(root, split):
    shutil.move(root / split, "elsewhere")
    (root / split).symlink_to(Path("elsewhere").absolute())
    with pytest.raises(ValueError, match=f"leave it: .*{split}"):
        read_studies(root)


def test_links_within_the_root_and_a_root_that_is_a_link_are_followed(root):
    os.symlink("image1.png", root / KEYS[0] / "image2.png")
    Path("link").symlink_to(root.absolute())
    assert read_studies("link")["views"].map(len).tolist() == [2, 1]


def test_folder_whose_name_begins_like_the_root_is_outside(root):
    shutil.copytree("secret", "data2")
    (root / KEYS[0] / "image2.png").symlink_to(Path("data2/image2.png").absolute())
    with pytest.raises(ValueError, match="1 that leave it"):
        read_studies(root)


@pytest.mark.parametrize(
    "prefix", ["/data/", "C:\\data\\", "C:/", "\\\\host\\", "~/", "../", "a/../"]
)
def test_row_that_leaves_the_root_is_refused_unless_asked_for(root, prefix):
    (root / "train_labeled_studies.csv").write_text(f"\n{prefix}{KEYS[0]}/,1\n")
    with pytest.raises(ValueError, match=r"studies\.csv, row 2: expected .* below the root, got"):
        read_studies(root)
    assert len(read_studies(root, allow_outside=True)) == 2
    rows = "".join(f"{prefix}{key}/,{n}\n" for n, key in enumerate(KEYS))
    Path("labels.csv").write_text(rows)
    studies = pd.DataFrame({"study": KEYS})
    with pytest.raises(
        ValueError, match=r"labels\.csv: expected keys below the root, got 2 others"
    ):
        join_labels(studies, "labels.csv")
    assert join_labels(studies, "labels.csv", allow_outside=True)["label"].tolist() == [0, 1]


def test_names_in_another_encoding_are_refused(root):
    folder = os.fsencode(root / "train/XR_HAND/pati") + b"\xe4nt/study1_positive"
    os.makedirs(folder)
    (Path(os.fsdecode(folder)) / "image1.png").touch()
    with pytest.raises(ValueError, match=r"names in UTF-8, got 2 in .*pati\\udce4nt"):
        read_studies(root)


def test_endless_note_takes_its_first_thousand_characters(root):
    (root / "NOTE.txt").write_text("a\x1b[2J" * 10**6)
    note = read_studies(root)["note"][0]
    assert note.startswith("a\\x1b[2J")
    assert len(note) < 4000


def test_label_followed_by_a_control_character_is_that_label(root):
    (root / "train_labeled_studies.csv").write_text(f"{KEYS[0]}/,1\x1c\n")
    assert read_studies(root)["label"].tolist() == [1, 0]


def test_cells_that_cannot_be_compared_are_named():
    table = pd.DataFrame({"study_type": [{}, {}], "views": [("a.png",), ("b.png",)]})
    with pytest.raises(TypeError, match="expected study_type as str, got {}"):
        check_studies(table)


@pytest.mark.parametrize("y", [[0, []], [1, b"\x80"], ["", b"\x80"]])
def test_labels_that_are_no_array_are_refused(y):
    table = pd.DataFrame({"study_type": ["a", "a"], "views": [("a",), ("b",)]})
    with pytest.raises(ValueError, match="expected y"):
        check_studies(table, y)


def test_number_of_thousands_of_digits_in_a_csv_is_a_row_like_others(root):
    (root / "train_labeled_studies.csv").write_text(
        f"train/XR_HAND/patient{'1' * 5000}/study1/,1\n"
    )
    with pytest.raises(ValueError, match="listed in train_labeled_studies.csv, not in the folder"):
        read_studies(root)


# ------------------------------------------------------------ names on the page

NAMES = [
    "XR <script>alert(1)</script>",
    "XR 'quoted' \"twice\" & more",
    "XR_\nline",
    "XR_骨_\u202e_é",
    "XR_$\\nope$",
    "=1+1",
    "| a `b` [c](d)",
]


@pytest.fixture(scope="module")
def odd_studies(tmp_path_factory):
    """Studies of phantoms' form in folders of odd names, read from the disk."""
    root = tmp_path_factory.mktemp("odd") / "data"
    rng = np.random.default_rng(0)
    for name in NAMES:
        folder_name = name.replace("/", "\u2215")
        for n in range(4):
            label = "positive" if n % 2 else "negative"
            folder = root / f"valid/{folder_name}/patient {n} {folder_name}/study1_{label}"
            folder.mkdir(parents=True)
            pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "image <1>.png")
    (root / "NOTE.txt").write_text("<u>note</u> $\\nope$\n")
    return read_studies(root)


def tags(file):
    page = Texts()
    page.feed(file.read_text(encoding="utf-8"))
    return page


def test_names_of_folders_reach_the_report_as_texts(odd_studies):
    table = odd_studies.drop(columns="views").assign(n_views=1, threshold=0.5)
    table["score"] = np.linspace(0.2, 0.8, len(table))
    table["site"] = table["study_type"]
    about = {"<i>data</i>": "<script>alert(2)</script>\n# heading"}
    write_report("report", table, title="<u>title</u>", about=about, by=["site"])
    page = tags(Path("report/report.html"))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "i", "u"}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    text = "".join(page.texts)
    for name in odd_studies["study_type"].unique():
        assert name in text
    card = Path("report/model_card.md").read_text()
    assert not re.search(r"<(script|i|u)>", card)
    assert "\n# heading" not in card


def test_names_of_folders_reach_the_page_of_the_dataset_as_texts(odd_studies):
    write_exploration(explore_studies(odd_studies), "out")
    page = tags(next(Path("out").glob("*.html")))
    assert not {tag for tag, _ in page.tags} & {"script", "i", "u"}
    text = "".join(page.texts)
    for name in odd_studies["study_type"].unique():
        assert name in text


def test_tables_for_the_terminal_hold_nothing_that_it_obeys(predictions):
    from mura_skorch.metrics import study_scores

    kinds = np.where(predictions["study_type"] == "XR_HAND", "XR\x1b[2J\r", "XR\u202e\x07")
    scores = study_scores(predictions["label"], predictions["score"], study_type=kinds)
    assert format_scores(scores).replace("\n", "").isprintable()


def test_errors_hold_nothing_that_a_terminal_obeys(root):
    folder = root / "train/XR\x1b[2J/patient\r1/study1_positive"
    folder.mkdir(parents=True)
    with pytest.raises(ValueError, match="without an image") as told:
        read_studies(root)
    assert str(told.value).replace("\n", "").isprintable()
    for path in ("no\x1b[2J.png", "no\u202e.png"):
        for read in (read_view, lambda path: check_views([path])):
            with pytest.raises(FileNotFoundError) as told:
                read(path)
            assert str(told.value).replace("\n", "").isprintable()
    assert printable("a\x1b[2J\nb", keep="\n") == "a\\x1b[2J\nb"
