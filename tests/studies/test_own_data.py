import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from nets import tiny_classifier
from PIL import Image

from mura_skorch.studies import check_studies

PAGE = (Path(__file__).parents[2] / "docs" / "how_to" / "own_data.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def labels():
    """The labels of a folder of studies with three kinds of files, which is drawn."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(12):
        patient, study = f"{100 + number // 2:05}", f"{number % 2:02}"
        folder = Path("my_hospital", patient, study)
        folder.mkdir(parents=True)
        for kind in ("jpg", "tif", "png")[: 1 + number % 3]:
            pixels = rng.integers(0, 256, (40, 30), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"view.{kind}")
        kind = ("left knee", "right knee")[number // 2 % 2]
        rows.append({"patient": patient, "study": study, "study_type": kind, "label": number % 2})
    rows[-1]["label"] = None
    return pd.DataFrame(rows)


@pytest.fixture
def studies(labels):
    """The table that the page's first block makes."""
    labels.to_csv("labels.csv", index=False)
    names = {}
    exec(BLOCKS[0], names)
    return names["studies"]


def test_folder_becomes_a_study_table_in_under_ten_lines(studies):
    lines = [line for line in BLOCKS[0].splitlines() if line]
    assert len(lines) < 10
    checked, _ = check_studies(studies)
    assert len(checked) == 12
    assert checked["patient"][0] == "00100"
    assert checked["study"].tolist()[:2] == ["00100/00", "00100/01"]
    assert checked["views"].map(len).tolist()[:3] == [1, 2, 3]
    assert {Path(view).suffix for view in checked["views"].explode()} == {".jpg", ".tif", ".png"}
    assert checked["label"].isna().sum() == 1
    assert all(Path(view).is_absolute() for view in checked["views"].explode())


def test_one_folder_per_accession_becomes_a_study_table(labels):
    root = Path("my_hospital").resolve()
    labels["study"] = labels["patient"] + labels["study"]  # as unique as an accession number
    for folder in sorted(root.glob("*/*")):
        folder.rename(root / f"{folder.parent.name}{folder.name}")
    labels.to_csv("labels.csv", index=False)
    names = {"pd": pd, "root": root}
    exec(BLOCKS[1], names)
    checked, _ = check_studies(names["studies"])
    assert checked["study"].tolist() == labels["study"].tolist()
    assert checked["patient"].tolist() == labels["patient"].tolist()
    assert checked["views"].map(len).tolist()[:3] == [1, 2, 3]
    assert all(view.parents[1] == root for view in map(Path, checked["views"].explode()))


def test_labels_from_a_spreadsheet_give_the_same_table(labels, studies):
    names = {"pd": pd, "root": None}
    exec(BLOCKS[0], names)
    words = labels.assign(label=labels["label"].map({0: "normal", 1: " fracture"}))
    words = words.rename(columns={"label": "Label ", "patient": "Patient"})
    text = words.to_csv(index=False, sep=";") + ";;;\n"
    Path("labels.csv").write_text(text, encoding="utf-8-sig")
    exec(BLOCKS[2] + BLOCKS[0].splitlines()[-2] + "\n" + BLOCKS[0].splitlines()[-1], names)
    pd.testing.assert_frame_equal(names["studies"][studies.columns], studies)


def test_documented_table_is_fitted_and_predicted(studies):
    clf = tiny_classifier().fit(studies[studies["label"].notna()])
    assert clf.study_types_ == ["left knee", "right knee"]
    proba = clf.predict_proba(studies)
    assert proba.shape == (12, 2)
    assert np.isfinite(proba).all()


def test_documented_names_exist():
    imports = re.findall(r"^from mura_skorch.*$", "\n".join(BLOCKS[3:]), flags=re.MULTILINE)
    assert imports
    for line in imports:
        exec(line, {})
