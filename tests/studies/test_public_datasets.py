import csv
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest
from public_datasets import draw, write_fracatlas, write_grazpedwri, write_lera

from mura_skorch import read_studies
from mura_skorch.studies import (
    check_studies,
    find_layout,
    read_fracatlas,
    read_grazpedwri,
    read_lera,
)

REAL_DATA = Path(os.environ.get("MURA_SKORCH_REAL_DATA", "none"))
COLUMNS = ["study", "split", "study_type", "patient", "views", "label"]
GRAZ = [
    ("0001_1297860395_01_WRI-L1_M014", ""),
    ("0001_1297860435_01_WRI-L2_M014", "1"),
    ("0001_1297999999_02_WRI-L1_M015", ""),
    ("0002_0354485735_01_WRI-R1_F003", ""),
    ("0002_0354485759_01_WRI-L1_F003", "1.0"),
]
FRAC = [(1, ["hand"], 1), (2, ["leg", "hardware"], 0), (3, ["leg", "hip", "mixed"], 1)]
LERA = [(1002, "XR FOOT", 1, 2), (1003, "XR ANKLE", 0, 3), (1004, "XR KNEE", 1, 1)]


@pytest.fixture
def graz(tmp_path):
    return write_grazpedwri(tmp_path / "graz", GRAZ)


@pytest.fixture
def frac(tmp_path):
    return write_fracatlas(tmp_path / "FracAtlas", FRAC)


@pytest.fixture
def lera(tmp_path):
    return write_lera(tmp_path / "LERA Dataset", LERA)


def test_grazpedwri_study_is_abnormal_if_a_view_shows_a_fracture(graz):
    studies = read_grazpedwri(graz).set_index("study")
    first = studies.loc["test/XR_WRIST/patient00001/study1"]
    assert first["label"] == 1
    assert [Path(view).stem for view in first["views"]] == [stem for stem, _ in GRAZ[:2]]
    assert studies.loc["test/XR_WRIST/patient00001/study2", "label"] == 0
    assert (first["sex"], first["age"], first["side"]) == ("M", 14, "L")


def test_both_wrists_of_a_grazpedwri_study_are_two_rows(graz):
    studies = read_grazpedwri(graz)
    both = studies[studies["patient"] == "patient00002"]
    assert both["study"].str[-9:].tolist() == ["/study1_L", "/study1_R"]
    assert both["label"].tolist() == [1, 0]
    assert both["side"].tolist() == ["L", "R"]


def test_fracatlas_image_is_a_study_of_its_part_and_the_table_says_that_patients_are_unknown(frac):
    studies = read_fracatlas(frac)
    assert dict(zip(studies["patient"], studies["study_type"], strict=True)) == {
        "IMG0000001": "XR_HAND",
        "IMG0000002": "XR_LEG",
        "IMG0000003": "XR_MIXED",
    }
    labels = studies.set_index("patient")
    assert labels["label"].to_dict() == {"IMG0000001": 1, "IMG0000002": 0, "IMG0000003": 1}
    assert labels["hardware"].to_dict() == {"IMG0000001": 0, "IMG0000002": 1, "IMG0000003": 0}
    assert set(studies["note"]) == {
        "FracAtlas: patients are not published, each image counts as one"
    }


def test_lera_row_is_the_study_of_a_patient(lera):
    studies = read_lera(lera).set_index("patient")
    assert studies["study_type"].to_dict() == {
        "1002": "XR_FOOT",
        "1003": "XR_ANKLE",
        "1004": "XR_KNEE",
    }
    assert studies["label"].to_dict() == {"1002": 1, "1003": 0, "1004": 1}
    assert studies["views"].map(len).to_dict() == {"1002": 2, "1003": 3, "1004": 1}


@pytest.mark.parametrize("name", ["graz", "frac", "lera"])
def test_every_layout_is_found_and_read_as_a_study_table(name, request):
    folder = request.getfixturevalue(name)
    read = {"graz": read_grazpedwri, "frac": read_fracatlas, "lera": read_lera}[name]
    studies = read(folder)
    assert studies.columns[:6].tolist() == COLUMNS
    assert str(studies["label"].dtype) == "Int8"
    assert studies["study"].is_unique
    check_studies(studies, for_fit=True)
    assert all(os.path.isabs(view) for views in studies["views"] for view in views)
    assert find_layout(folder) == {"graz": "grazpedwri", "frac": "fracatlas", "lera": "lera"}[name]
    pd.testing.assert_frame_equal(read(Path(os.path.relpath(folder))), studies)


def test_other_folders_have_no_public_layout(phantom_root, tmp_path):
    assert find_layout(phantom_root) is None
    (tmp_path / "dataset.csv").write_text("a,b\n1,2\n")
    assert find_layout(tmp_path) is None
    for read in (read_fracatlas, read_grazpedwri, read_lera):
        with pytest.raises(FileNotFoundError, match="expected a folder with"):
            read(tmp_path / "none")


@pytest.mark.parametrize("name", ["graz", "frac", "lera"])
def test_missing_images_are_refused_or_their_studies_left_out(name, request):
    folder = request.getfixturevalue(name)
    read = {"graz": read_grazpedwri, "frac": read_fracatlas, "lera": read_lera}[name]
    before = read(folder)
    gone = before["views"].iloc[0]
    for view in gone if name == "lera" else gone[:1]:
        os.remove(view)
    with pytest.raises(ValueError, match="1 rows without"):
        read(folder)
    with pytest.warns(UserWarning, match="1 studies are left out"):
        left = read(folder, on_missing="skip")
    assert left["study"].tolist() == before["study"].tolist()[1:]


@pytest.mark.parametrize("name", ["graz", "frac", "lera"])
def test_images_without_a_label_are_refused_or_left_out(name, request):
    folder = request.getfixturevalue(name)
    read = {"graz": read_grazpedwri, "frac": read_fracatlas, "lera": read_lera}[name]
    place = {
        "graz": "images_part1/0009_1297860395_01_WRI-L1_M014.png",
        "frac": "images/Fractured/IMG0000009.jpg",
        "lera": "1009/ST-1/image1.png",
    }[name]
    before = read(folder)
    draw(folder / place, 99)
    with pytest.raises(ValueError, match="1 (images|patients) without a row"):
        read(folder)
    with pytest.warns(UserWarning, match="without a row"):
        pd.testing.assert_frame_equal(read(folder, on_missing="skip"), before)


def test_unlabelled_view_leaves_out_its_complete_study(graz):
    draw(graz / "images_part1" / "0001_1297860499_01_WRI-L3_M014.png", 99)
    with pytest.warns(UserWarning, match="1 studies are left out"):
        studies = read_grazpedwri(graz, on_missing="skip")
    assert "test/XR_WRIST/patient00001/study1" not in set(studies["study"])


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("graz", "0003_12_WRI-L1,3,1,,", "expected names such as .* got 1 others"),
        ("graz", "0003_1297860395_01_WRI-L1_M014,3,1,maybe,", "expected 0, 1 or nothing"),
        ("graz", f"{GRAZ[0][0]},1,1,,", "expected each filestem once, got 1 repeated"),
        ("frac", "IMG0000001.jpg,1,0,0,0,0,0,0,1,1,1,0", "expected each image_id once"),
        ("lera", "1002,XR KNEE,0", "expected one row per patient"),
        ("lera", "1005,XR KNEE,2", "expected 0, 1 or nothing"),
    ],
)
def test_rows_of_another_form_are_refused(name, line, message, request):
    folder = request.getfixturevalue(name)
    file = next(folder.glob("*.csv"))
    file.write_text(file.read_text() + line + "\n")
    read = {"graz": read_grazpedwri, "frac": read_fracatlas, "lera": read_lera}[name]
    with pytest.raises(ValueError, match=message):
        read(folder)


def test_fracatlas_image_in_the_folder_of_the_other_class_is_refused(frac):
    place = frac / "images"
    shutil.move(place / "Fractured" / "IMG0000001.jpg", place / "Non_fractured" / "IMG0000001.jpg")
    with pytest.raises(ValueError, match="1 in the other: IMG0000001"):
        read_fracatlas(frac)


def test_lera_patient_with_two_study_folders_is_refused(lera):
    draw(lera / "1002" / "ST-2" / "image1.png", 99)
    with pytest.raises(ValueError, match="several for 1: 1002"):
        read_lera(lera)


def test_link_that_leads_out_of_the_folder_is_refused(graz, tmp_path):
    draw(tmp_path / "outside.png", 5)
    image = graz / "images_part1" / f"{GRAZ[0][0]}.png"
    image.unlink()
    image.symlink_to(tmp_path / "outside.png")
    with pytest.raises(ValueError, match="1 links that lead out of it"):
        read_grazpedwri(graz)


@pytest.mark.skipif(
    not (REAL_DATA / "mapping.csv").is_file(), reason="MURA_SKORCH_REAL_DATA names no real wrists"
)
def test_real_wrists_under_their_published_names_give_the_same_studies(tmp_path):
    root = REAL_DATA
    expected = read_studies(root)
    label = {view: row.label for row in expected.itertuples() for view in row.views}
    lines = ["filestem,fracture_visible"]
    with (root / "mapping.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            place = root / row["path"].partition("/")[2]
            lines.append(f"{row['source_name']},{label[str(place.resolve())] or ''}")
            shutil.copy(place, tmp_path / f"{row['source_name']}.png")
    (tmp_path / "dataset.csv").write_text("\n".join(lines) + "\n")
    found = read_grazpedwri(tmp_path)

    def key(studies):
        number = studies["study"].str.extract(r"study(\d+)")[0]
        return set(
            zip(
                studies["patient"], number, studies["label"], studies["views"].map(len), strict=True
            )
        )

    assert len(found) == len(expected) == 141
    assert key(found) == key(expected)
    assert found["age"].between(0, 20).all()
