import os
import time
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mura_skorch.studies import (
    check_labelled,
    check_studies,
    explode_views,
    is_exploded,
    read_studies,
)

STUDIES = {
    "train/XR_ELBOW/patient00001/study1_positive": 2,
    "train/XR_ELBOW/patient00001/study2_negative": 1,
    "train/XR_WRIST/patient00001/study1_negative": 11,
    "train/XR_WRIST/patient00010/study1_positive": 1,
    "valid/XR_ELBOW/patient00002/study1_negative": 3,
}
REAL_DATA = os.environ.get("MURA_SKORCH_REAL_DATA")


def write_tree(root, studies=STUDIES, *, csv="v1.1", prefix="MURA-v1.1/"):
    """Write empty images and the CSV files; `studies` maps a study folder to its views."""
    lines = {}
    for study, n_views in studies.items():
        folder = root / study
        folder.mkdir(parents=True)
        split = study.split("/")[0]
        label = int(study.endswith("positive"))
        lines.setdefault(f"{split}_labeled_studies.csv", []).append(f"{prefix}{study}/,{label}\n")
        for i in range(n_views):
            (folder / f"image{i + 1}.png").touch()
            path = f"{prefix}{study}/image{i + 1}.png"
            lines.setdefault(f"{split}_image_paths.csv", []).append(f"{path}\n")
            lines.setdefault(f"{split}.csv", []).append(f"{path},{label}\n")
    for name, rows in lines.items():
        if csv and ("_" in name) == (csv == "v1.1"):
            (root / name).write_text("".join(rows[::-1]))
    return root


def edit(file, old, new):
    text = file.read_bytes().decode()
    assert old in text
    file.write_bytes(text.replace(old, new).encode())


@pytest.fixture
def root(tmp_path):
    return write_tree(tmp_path / "mura copy")


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "study": ["s0", "s1", "s2"],
            "study_type": ["XR_WRIST", "XR_WRIST", "XR_HAND"],
            "patient": ["p0", "p1", "p1"],
            "views": [("a.png", "b.png"), ("c.png",), ("d.png",)],
            "label": pd.array([0, 1, 0], dtype="Int8"),
        }
    )


# ------------------------------------------------------------------- reading


@pytest.mark.parametrize("csv", ["v1.1", "v1.0", None])
def test_all_mura_versions_give_the_same_table(tmp_path, csv):
    studies = read_studies(write_tree(tmp_path / "MURA", csv=csv))
    assert list(studies) == ["study", "split", "study_type", "patient", "views", "label"]
    assert studies["study"].tolist() == list(STUDIES)
    assert studies["views"].map(len).tolist() == list(STUDIES.values())
    assert studies["label"].tolist() == [1, 0, 0, 1, 0]
    assert studies["label"].dtype == "Int8"
    assert studies.index.equals(pd.RangeIndex(len(STUDIES)))


def test_key_consists_of_its_parts(root):
    studies = read_studies(root)
    parts = studies["split"] + "/" + studies["study_type"] + "/" + studies["patient"] + "/"
    folders = studies["study"].str.rpartition("/")[2]
    assert (parts + folders == studies["study"]).all()
    assert studies["study"].is_unique


def test_views_are_absolute_paths_in_natural_order(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    for given in (root, str(root), "mura copy", Path("mura copy", "..", "mura copy")):
        views = read_studies(given).loc[2, "views"]
        folder = root / "train/XR_WRIST/patient00001/study1_negative"
        assert views == tuple(str(folder / f"image{i}.png") for i in range(1, 12))


def test_studies_are_in_natural_order(tmp_path):
    order = [
        "train/XR_HAND/patient2/study2",
        "train/XR_HAND/patient2/study10",
        "train/XR_HAND/patient10/study1",
        "valid/XR_ELBOW/patient1/study1",
        "test/XR_ELBOW/patient1/study1",
    ]
    write_tree(tmp_path / "m", dict.fromkeys(sorted(order), 1), csv=None)
    assert read_studies(tmp_path / "m")["study"].tolist() == order


def test_parent_of_the_root_is_accepted(root):
    pd.testing.assert_frame_equal(read_studies(root.parent), read_studies(root))


def test_test_split_without_labels_is_read_as_unlabelled(root):
    write_tree(root, {"test/XR_HAND/patient00003/study1": 2}, csv=None)
    studies = read_studies(root)
    assert studies["label"].isna().tolist() == [False] * 5 + [True]


def test_csv_labels_studies_without_a_folder_label(tmp_path):
    root = write_tree(tmp_path / "m", {"valid/XR_HAND/patient1/study1": 1})
    edit(root / "valid_labeled_studies.csv", "/,0", "/,1")
    assert read_studies(root)["label"].tolist() == [1]
    assert read_studies(root, use_csv=False)["label"].isna().all()


@pytest.mark.parametrize("name", ["image_paths", "labeled_studies"])
def test_one_of_the_two_csv_files_suffices(root, name):
    whole = read_studies(root)
    (root / f"train_{name}.csv").unlink()
    pd.testing.assert_frame_equal(read_studies(root), whole)


def test_note_is_on_every_row(root):
    (root / "NOTE.txt").write_text("  phantoms: no clinical meaning \nmore\n")
    studies = read_studies(root)
    assert list(studies)[-1] == "note"
    assert (studies["note"] == "phantoms: no clinical meaning").all()


def test_other_files_are_ignored(root):
    whole = read_studies(root)
    study = root / "train/XR_WRIST/patient00010/study1_positive"
    for folder in (root, root / "train", root / "train/XR_WRIST", study.parent, study):
        for name in ("._image1.png", ".DS_Store", "Thumbs.db", "notes.txt"):
            (folder / name).touch()
        (folder / ".hidden").mkdir()
    with open(root / "train_image_paths.csv", "a") as file:
        file.write("MURA-v1.1/train/XR_WRIST/patient00010/study1_positive/._image1.png\n")
    pd.testing.assert_frame_equal(read_studies(root), whole)


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("/,", ","),
        lambda text: text.replace("/", "\\"),
        lambda text: "\n" + text.replace("\n", "\n\n  \n"),
        lambda text: "".join(
            f'"{row.replace(",", chr(34) + "," + chr(34))}"\n' for row in text.split()
        ),
        lambda text: text.replace("MURA-v1.1/", "data/MURA-v1.0/"),
        lambda text: text.replace("MURA-v1.1/", "./"),
        lambda text: text.replace(",", ", ").rstrip("\n"),
    ],
)
def test_csv_dialects_give_the_same_table(root, rewrite):
    whole = read_studies(root)
    for file in root.glob("*.csv"):
        file.write_bytes(rewrite(file.read_text()).encode())
    pd.testing.assert_frame_equal(read_studies(root), whole)


@pytest.mark.skipif(not REAL_DATA, reason="MURA_SKORCH_REAL_DATA names no folder of radiographs")
def test_real_radiographs_are_read():
    studies = read_studies(REAL_DATA)
    assert studies["split"].value_counts().to_dict() == {"train": 86, "valid": 55}
    assert studies["views"].map(len).value_counts().to_dict() == {1: 123, 2: 18}
    pd.testing.assert_frame_equal(studies, read_studies(REAL_DATA, use_csv=False))
    checked, labels = check_studies(studies, for_fit=True)
    assert checked is studies
    assert set(labels) == {0, 1}


# -------------------------------------------------- folders and CSV disagree


def test_listed_but_absent_file_is_named(root):
    (root / "train/XR_WRIST/patient00001/study1_negative/image10.png").unlink()
    with pytest.raises(
        ValueError, match=r"not in the folder: 1 \(\S+image10\.png\)(.|\n)*use_csv=F"
    ):
        read_studies(root)
    assert read_studies(root, use_csv=False).loc[2, "views"][-1].endswith("image11.png")


def test_present_but_unlisted_file_is_named(root):
    (root / "train/XR_WRIST/patient00010/study1_positive/image2.JPG").touch()
    with pytest.raises(ValueError, match=r"not listed in train_image_paths\.csv: 1 \(\S+2\.JPG\)"):
        read_studies(root)
    assert len(read_studies(root, use_csv=False).loc[3, "views"]) == 2


def test_listed_but_absent_study_is_named(root):
    study = root / "valid/XR_ELBOW/patient00002/study1_negative"
    study.rename(study.parent / "study2_negative")
    with pytest.raises(ValueError, match="expected complete studies") as caught:
        read_studies(root)
    message = str(caught.value)
    assert "listed in valid_labeled_studies.csv, not in the folder: 1 (valid" in message
    assert "in the folder, not listed in valid_labeled_studies.csv: 1 (valid" in message
    assert "listed in valid_image_paths.csv, not in the folder: 3" in message


def test_only_the_first_differences_are_named(tmp_path):
    root = write_tree(tmp_path / "m", {"train/XR_HAND/patient1/study1_positive": 1300})
    for file in (root / "train/XR_HAND/patient1/study1_positive").iterdir():
        if file.name != "image1.png":
            file.unlink()
    with pytest.raises(ValueError, match=r"folder: 1,299 \(.*image2\.png.*image6\.png, \.\.\.\)"):
        read_studies(root)


@pytest.mark.parametrize("csv", ["v1.1", "v1.0"])
def test_label_contradicting_the_folder_is_named(tmp_path, csv):
    root = write_tree(tmp_path / "m", csv=csv)
    file = root / ("train_labeled_studies.csv" if csv == "v1.1" else "train.csv")
    edit(file, "1_positive/,1" if csv == "v1.1" else "1_positive/image1.png,1", "1_positive/,0")
    if csv == "v1.0":
        edit(file, "1_positive/,0", "1_positive/image1.png,0")
    with pytest.raises(ValueError, match=rf"label in {file.name} contradicts the folder.*: 2 \("):
        read_studies(root)
    assert read_studies(root, use_csv=False)["label"].tolist() == [1, 0, 0, 1, 0]


def test_rows_of_one_study_with_different_labels_are_named(tmp_path):
    root = write_tree(tmp_path / "m", {"test/XR_HAND/patient1/study1": 2}, csv="v1.0")
    edit(root / "test.csv", "image2.png,0", "image2.png,1")
    with pytest.raises(ValueError, match=r"contradicts the folder or another row: 1 \(test"):
        read_studies(root)


def test_study_listed_twice_is_named(root):
    file = root / "train_labeled_studies.csv"
    file.write_text(file.read_text() + file.read_text().splitlines()[0])
    with pytest.raises(ValueError, match=r"listed twice in train_labeled_studies\.csv: 1 \(train"):
        read_studies(root)


@pytest.mark.parametrize("use_csv", [True, False])
def test_study_number_with_two_labels_is_named(root, use_csv):
    write_tree(root, {"train/XR_ELBOW/patient00001/study1_negative": 1}, csv=None)
    with pytest.raises(ValueError, match=r"study number with two folders: 2 \(\S+1_negative, "):
        read_studies(root, use_csv=use_csv)


@pytest.mark.parametrize("use_csv", [True, False])
def test_study_without_an_image_is_named(root, use_csv):
    (root / "train/XR_WRIST/patient00010/study1_positive/image1.png").rename(
        root / "train/XR_WRIST/patient00010/study1_positive/image1.dcm"
    )
    with pytest.raises(ValueError, match=r"without an image: 1 \(\S+00010/study1_positive\)"):
        read_studies(root, use_csv=use_csv)


@pytest.mark.parametrize("label", ["2", "", "abnormal", "nan", "-1"])
def test_bad_label_is_named_with_file_and_row(root, label):
    edit(root / "train_labeled_studies.csv", "patient00001/study2_negative/,0", f"x/s/,{label}")
    with pytest.raises(
        ValueError, match=r"train_labeled_studies\.csv, row 3: expected label 0 or 1"
    ):
        read_studies(root)


@pytest.mark.parametrize(
    "row",
    [
        "MURA-v1.1/../train/XR_ELBOW/patient1/study1_positive/,1",
        "train\\XR_ELBOW\\..\\patient1\\study1_positive,1",
        "MURA-v1.1/valid/XR_ELBOW/patient00001/study1_positive/,1",
        "XR_ELBOW/patient00001/study1_positive/,1",
        "path,label",
        "train/XR_ELBOW/patient00001/study1_positive/",
        "train/XR_ELBOW/patient00001/study1_positive/,1,2",
    ],
)
def test_row_of_another_split_is_named(root, row):
    edit(
        root / "train_labeled_studies.csv",
        "MURA-v1.1/train/XR_WRIST/patient00010/study1_positive/,1",
        row,
    )
    with pytest.raises(
        ValueError, match=r"train_labeled_studies\.csv, row 1: expected \.\.\./train/"
    ):
        read_studies(root)


def test_names_match_in_any_unicode_form():
    for form, other in (("NFD", "NFC"), ("NFC", "NFD")):
        root = Path(form)
        key = "valid/XR_HAND/Mu\u0308ller/study1_positive"
        folder = root / unicodedata.normalize(form, key)
        folder.mkdir(parents=True)
        (folder / "image1.png").touch()
        row = unicodedata.normalize(other, f"MURA-v1.1/{key}")
        (root / "valid_image_paths.csv").write_text(f"{row}/image1.png\n", encoding="utf-8")
        (root / "valid_labeled_studies.csv").write_text(f"{row}/,1\n", encoding="utf-8")
        studies = read_studies(root)
        assert studies["label"].tolist() == [1]
        assert Path(studies["views"][0][0]).exists()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
@pytest.mark.parametrize("sign", [";", "\t"])
def test_csv_saved_by_a_spreadsheet_is_read(root, encoding, sign):
    for file in root.glob("*_labeled_studies.csv"):
        text = file.read_text("utf-8-sig").replace(",", sign) + f"{sign}\n\n"
        file.write_text(text, encoding=encoding)
    before = read_studies(root, use_csv=False)
    pd.testing.assert_frame_equal(read_studies(root), before)


def test_csv_in_another_encoding_is_named(root):
    (root / "train_image_paths.csv").write_bytes("train/é".encode("latin-1"))
    with pytest.raises(ValueError, match=r"train_image_paths\.csv: expected a CSV file in UTF-8"):
        read_studies(root)


# ------------------------------------------------------------ the wrong folder


def test_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent: expected the folder that holds train"):
        read_studies(tmp_path / "absent")


def test_file_instead_of_a_folder_is_named(root):
    with pytest.raises(NotADirectoryError, match="got a file"):
        read_studies(root / "train_image_paths.csv")


def test_empty_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"got an empty folder. The layout is <root>/train/"):
        read_studies(tmp_path)


def test_other_folder_is_named_with_its_content(tmp_path):
    (tmp_path / "holiday.png").touch()
    with pytest.raises(ValueError, match=r"got one with holiday\.png"):
        read_studies(tmp_path)


def test_splits_without_studies_are_refused(tmp_path):
    (tmp_path / "train" / "cats").mkdir(parents=True)
    (tmp_path / "train" / "cats" / "1.png").touch()
    with pytest.raises(ValueError, match="got no study folder"):
        read_studies(tmp_path)


def test_several_roots_in_one_parent_are_refused(tmp_path):
    for name in ("MURA-v1.0", "MURA-v1.1"):
        write_tree(tmp_path / name)
    with pytest.raises(ValueError, match=r"several of them: \S+MURA-v1\.0, \S+MURA-v1\.1\. Choose"):
        read_studies(tmp_path)


def test_error_for_grandparent_names_the_root(tmp_path):
    root = write_tree(tmp_path / "data" / "MURA-v1.1")
    with pytest.raises(ValueError, match="one too high") as caught:
        read_studies(tmp_path)
    assert str(caught.value).endswith(f"Pass {root}")


@pytest.mark.parametrize("part", ["train", "train/XR_WRIST", "train/XR_WRIST/patient00010"])
def test_error_for_subfolder_names_the_root(root, part):
    with pytest.raises(ValueError, match="a folder inside its train") as caught:
        read_studies(root / part)
    assert f"Pass {root} and" in str(caught.value)


# ------------------------------------------------------------------- checking


def test_valid_table_is_returned_unchanged(table):
    for for_fit in (True, False):
        assert check_studies(table, for_fit=for_fit)[0] is table


def test_labels_are_returned_for_a_fit(table):
    labels = check_studies(table, for_fit=True)[1]
    assert labels.dtype == np.int64
    assert labels.tolist() == [0, 1, 0]
    labels[0] = 1
    assert table["label"].tolist() == [0, 1, 0]


def test_prediction_needs_only_two_columns(table):
    assert check_studies(table[["study_type", "views"]])[1] is None


def test_any_index_is_accepted(table):
    for index in ([7, 7, 7], list("cab"), pd.MultiIndex.from_product([[0], [1], [2, 3, 4]])):
        table.index = index
        table["views"] = pd.Series([["a"], ["b"], ["c"]], index=index)
        checked, labels = check_studies(table, for_fit=True)
        assert checked["views"].tolist() == [("a",), ("b",), ("c",)]
        assert checked.index.equals(table.index)
        assert labels.tolist() == [0, 1, 0]


def test_views_become_tuples_of_str_in_a_copy(table):
    cells = [[Path("a.png"), "b.png"], np.array(["c.png"]), (np.str_("d.png"),)]
    table["views"] = pd.Series(cells, dtype=object)
    checked, _ = check_studies(table)
    assert checked["views"].tolist() == [("a.png", "b.png"), ("c.png",), ("d.png",)]
    assert {type(path) for views in checked["views"] for path in views} == {str}
    assert all(a is b for a, b in zip(table["views"], cells, strict=True))


def test_views_of_equal_length_remain_one_cell_per_study(table):
    table["views"] = [["a", "b"], ["c", "d"], ["e", "f"]]
    assert check_studies(table)[0]["views"].tolist() == [("a", "b"), ("c", "d"), ("e", "f")]


@pytest.mark.parametrize("studies", [["a.png"], None, "folder", np.zeros((3, 2)), {}])
def test_other_types_are_refused_with_an_example(studies):
    with pytest.raises(TypeError, match="expected a DataFrame") as caught:
        check_studies(studies)
    recipe = [line.strip() for line in str(caught.value).splitlines()[1:]]
    namespace = {}
    exec("\n".join(recipe), namespace)
    check_studies(namespace["studies"])


def test_empty_table_is_refused(table):
    for empty in (table[:0], pd.DataFrame()):
        with pytest.raises(ValueError, match="got an empty table"):
            check_studies(empty)


@pytest.mark.parametrize("column", ["study_type", "patient", "views", "label"])
def test_missing_column_is_named(table, column):
    table = table.drop(columns=column)
    with pytest.raises(ValueError, match=rf"got study, .*Missing: {column}"):
        check_studies(table, for_fit=True)
    if column == "label":
        assert check_studies(table, [0, 1, 0], for_fit=True)[1].tolist() == [0, 1, 0]
    if column in ("study_type", "views"):
        with pytest.raises(ValueError, match=rf"Missing: {column}"):
            check_studies(table)


def test_repeated_column_is_named(table):
    with pytest.raises(ValueError, match="got several called views"):
        check_studies(pd.concat([table, table[["views"]]], axis=1))


@pytest.mark.parametrize("column", ["study_type", "patient"])
@pytest.mark.parametrize("value", [None, np.nan, pd.NA])
def test_missing_value_is_named_with_its_row(table, column, value):
    table[column] = table[column].astype(object)
    table.loc[1, column] = value
    with pytest.raises(ValueError, match=rf"expected a {column} .* row 1 \(index 1, study 's1'\)"):
        check_studies(table, for_fit=True)


def test_study_type_must_be_str(table):
    with pytest.raises(TypeError, match="expected study_type as str, got 3"):
        check_studies(table.assign(study_type=3))
    check_studies(table.assign(study_type=table["study_type"].astype("category")))


@pytest.mark.parametrize(
    ("cell", "error", "reason"),
    [
        ("c.png", TypeError, r"'c\.png' in row 1 .*Write \(path,\)"),
        (Path("c.png"), TypeError, r"Write \(path,\)"),
        ((), ValueError, "Drop studies without a view"),
        ([], ValueError, "Drop studies without a view"),
        (np.array([]), ValueError, "Drop studies without a view"),
        (None, TypeError, "got None"),
        (np.nan, TypeError, "got nan"),
        ({"c.png"}, TypeError, "got {'c.png'}"),
        (("c.png", None), TypeError, "must be a str or a path-like"),
        ((b"c.png",), TypeError, "must be a str or a path-like"),
        (("",), TypeError, "not empty"),
        (np.array([["c.png"]]), TypeError, "must be a str or a path-like"),
    ],
)
def test_invalid_views_are_named_with_their_row(table, cell, error, reason):
    cells = table["views"].tolist()
    cells[1] = cell
    table["views"] = pd.Series(cells, dtype=object)
    table.index = ["x", "y", "z"]
    with pytest.raises(error, match=reason) as caught:
        check_studies(table)
    assert "row 1 (index 'y', study 's1')" in str(caught.value)


def test_row_is_named_without_a_study_column(table):
    table = table.drop(columns="study").assign(views="a.png")
    with pytest.raises(TypeError, match=r"row 0 \(index 0\)"):
        check_studies(table)


def test_repeated_study_key_is_named(table):
    table["study"] = ["s0", "s1", "s0"]
    for for_fit in (True, False):
        with pytest.raises(ValueError, match="got 1 repeated: s0"):
            check_studies(table, for_fit=for_fit)
    check_studies(table.drop_duplicates("study"), for_fit=True)


def test_repeated_views_are_refused_only_for_a_fit(table):
    table["views"] = [("a.png",), ("b.png",), ["a.png"]]
    check_studies(table)
    with pytest.raises(ValueError, match=r"got 1 repeated: \('a\.png',\)"):
        check_studies(table, for_fit=True)


def test_repeated_file_in_a_study_is_named_under_any_path(table):
    Path("a.png").touch()
    Path("x").mkdir()
    Path("link.png").symlink_to("a.png")
    for second in ("a.png", "./a.png", "x/../a.png", "link.png"):
        table["views"] = [("0.png",), ("a.png", "b.png", second), ("c.png",)]
        for for_fit in (True, False):
            with pytest.raises(
                ValueError, match=r"once in a study, .* in row 1 \(index 1, study 's1"
            ):
                check_studies(table, for_fit=for_fit)


@pytest.fixture
def shared(table):
    """Two studies of two views that share one file, under two paths."""
    table["views"] = [("a.png", "b.png"), ("c.png", "./a.png"), ("d.png",)]
    table["patient"], table["label"] = ["p", " p", "q"], [1, 1, 0]
    return table


def test_file_shared_across_labels_or_patients_is_named(shared):
    rows = r"1 file in several studies, a.png in row 0 .* and row 1 \(index 1, study 's1'\)"
    with pytest.raises(ValueError, match=f"studies of one label, got {rows}"):
        check_studies(shared.assign(label=[0, 1, 0]), for_fit=True)
    with pytest.raises(ValueError, match=f"studies of one label, got {rows}"):
        check_studies(shared, [0, 1, 0], for_fit=True)
    with pytest.raises(ValueError, match=f"studies of one patient, got {rows}"):
        check_studies(shared.assign(patient=["p", "r", "q"]), for_fit=True)
    check_studies(shared.assign(label=[0, 1, 0]))  # nothing is trained on


def test_file_shared_within_a_patient_gives_a_warning(shared):
    with pytest.warns(UserWarning, match=r"1 file in several studies, a\.png in row 0"):
        check_studies(shared, for_fit=True)


def test_same_study_with_reordered_views_is_named(shared):
    shared = pd.concat([shared, shared.assign(study=["s4", "s5", "s6"])], ignore_index=True)
    shared["views"] = [
        *[("e.png", "f.png"), ("x.png",)],
        ("c.png",),
        *[("b.png", "a.png", "d.png")] * 3,
    ]
    shared.at[4, "views"], shared.at[5, "views"] = ("a.png", "./b.png", "d.png"), ("./x.png",)
    shared[["patient", "label"]] = [["p", 1], ["p", 1], ["q", 0], ["p", 1], ["p", 1], ["p", 1]]
    with pytest.raises(
        ValueError, match="each study once, got 4 of the same files .* row 1 .* row 5"
    ):
        check_studies(shared, for_fit=True)


def test_studies_drawn_with_replacement_are_refused(shared):
    shared["views"] = [("a.png", "b.png"), ("c.png",), ("d.png",)]
    drawn = shared.iloc[[0, 0, 1, 2, 2]]
    for table in (drawn, drawn.assign(draw=[1, 2, 1, 1, 2])):
        with pytest.raises(ValueError, match="each study once, got 2 repeated"):
            check_studies(table, for_fit=True)


def test_array_of_a_table_is_refused_with_what_to_do(table):
    for array in (table.to_numpy(), np.zeros((3, 7)), np.array(["a"], dtype=object)):
        with pytest.raises(TypeError, match=r"whose columns have no names.*set_output.*MuraEns"):
            check_studies(array)
        with pytest.raises(TypeError, match="got an array of shape"):
            check_labelled(array)


def test_labels_to_score_against_are_given_or_in_the_table(table):
    labels = table["label"].to_numpy(dtype=int)
    assert check_labelled(table)[1].tolist() == labels.tolist()
    assert check_labelled(table, 1 - labels)[1].tolist() == (1 - labels).tolist()
    with pytest.raises(ValueError, match="expected y or a column label"):
        check_labelled(table.drop(columns="label"))


@pytest.mark.parametrize("column", ["study", "study_type", "patient"])
def test_names_in_another_encoding_are_named(table, column):
    table[column] = pd.Series(["a", "r\udcf6ntgen", "c"], dtype=object)
    for for_fit in (True, False):
        with pytest.raises(ValueError, match=f"expected {column} in UTF-8, got 'r.*in row 1 "):
            check_studies(table, for_fit=for_fit)


@pytest.mark.parametrize("wrong", [b"p", (1, 2), 1.5, float("inf"), " ", True])
def test_ambiguous_patient_ids_are_refused_for_a_fit(table, wrong):
    table["patient"] = pd.Series(["a", wrong, "b"], dtype=object)
    with pytest.raises((TypeError, ValueError), match="expected patient as .* in row 1"):
        check_studies(table, for_fit=True)


# --------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        (["0", "1", " 1"], r"They are text: label\.astype\(int\)"),
        ([1, 2, 2], "If 1 means normal and 2 abnormal: label - 1"),
        (["normal", "fracture", "normal"], r"Map it, e\.g\. label\.map"),
    ],
)
def test_invalid_labels_have_a_remedy(table, values, remedy):
    wrong = table.assign(label=pd.Series(values, dtype=object))
    with pytest.raises(ValueError, match=remedy):
        check_studies(wrong, for_fit=True)


def test_index_is_printed_as_plain_value(table):
    table.index = np.array([4, 8, 15])
    with pytest.raises(ValueError, match=r"row 1 \(index 8, study 's1'\)"):
        check_studies(table, [0, 7, 1], for_fit=True)


@pytest.mark.parametrize(
    "y",
    [
        [0, 1, 0],
        (0.0, 1.0, 0.0),
        [False, True, False],
        np.array([[0], [1], [0]]),
        np.array([0, 1, 0], dtype=object),
        pd.Series([0, 1, 0], index=[5, 5, 9]),
        pd.Series([0, 1, 0], dtype="Int8"),
        pd.Series([False, True, False], dtype="boolean"),
        pd.Series([0, 1, 0], dtype="category"),
        pd.DataFrame({"label": [0, 1, 0]}),
        pd.array([0, 1, 0], dtype="Int64"),
    ],
)
def test_labels_of_any_dtype_become_int64(table, y):
    for labels in (
        check_studies(table.assign(label=9), y, for_fit=True)[1],
        check_studies(table, y)[1],
        check_studies(table.assign(label=np.ravel(y)), for_fit=True)[1],
    ):
        assert labels.dtype == np.int64
        assert labels.tolist() == [0, 1, 0]


@pytest.mark.parametrize("value", ["1", "abnormal", 2, -1, 0.5, np.inf])
@pytest.mark.parametrize("for_fit", [True, False])
def test_invalid_labels_are_named_with_their_row(table, value, for_fit):
    y = pd.Series([0, 1, value], dtype=object)
    with pytest.raises(ValueError, match=r"expected label 0 .* in row 2 \(index 2, study 's2'\)"):
        check_studies(table.assign(label=y), for_fit=for_fit)
    with pytest.raises(ValueError, match=r"expected y 0 .* in row 2"):
        check_studies(table, y, for_fit=for_fit)


def test_labels_as_text_are_refused(table):
    with pytest.raises(ValueError, match="got '0'"):
        check_studies(table, ["0", "1", "0"], for_fit=True)


@pytest.mark.parametrize("value", [None, np.nan, pd.NA])
def test_missing_label_is_refused_only_for_a_fit(table, value):
    table["label"] = pd.Series([0, value, 1], dtype=object)
    assert check_studies(table)[1] is None
    with pytest.raises(ValueError, match=r"1 without, first row 1 .*studies\.label\.notna\(\)"):
        check_studies(table, for_fit=True)
    labelled = table[table.label.notna()]
    assert check_studies(labelled, for_fit=True)[1].tolist() == [0, 1]


@pytest.mark.parametrize("label", [0, 1])
def test_single_class_is_refused_only_for_a_fit(table, label):
    y = [label] * 3
    assert check_studies(table, y)[1].tolist() == y
    with pytest.raises(ValueError, match=f"got only {label} in all 3 studies"):
        check_studies(table, y, for_fit=True)


@pytest.mark.parametrize("y", [[0, 1], [0, 1, 0, 1], np.zeros((3, 2)), 1, np.zeros((3, 1, 1))])
def test_y_of_wrong_shape_is_refused(table, y):
    with pytest.raises(ValueError, match="expected y of"):
        check_studies(table, y, for_fit=True)


def test_checking_is_fast():
    n = 50_000
    table = pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(n)],
            "study_type": "XR_WRIST",
            "patient": [f"p{i}" for i in range(n)],
            "views": [[f"{i}/1.png", f"{i}/2.png"] for i in range(n)],
            "label": np.arange(n) % 2,
        }
    )
    start = time.process_time()  # not the time that other programs take
    check_studies(table, for_fit=True)
    assert time.process_time() - start < 2


# --- one row per view ------------------------------------------------------------------------


def test_exploded_table_has_each_view_once_with_a_unique_key(studies):
    exploded = explode_views(studies)
    assert len(exploded) == studies["views"].map(len).sum()
    assert exploded["views"].map(len).eq(1).all()
    assert exploded["views"].sum() == studies["views"].sum()
    assert exploded["study"].is_unique
    assert exploded["study"].str.rpartition("/")[0].unique().tolist() == studies["study"].tolist()
    kept = exploded.groupby(exploded["study"].str.rpartition("/")[0], sort=False)
    for column in ("patient", "label", "study_type", "split", "note"):
        assert kept[column].first().tolist() == studies[column].tolist()
        assert kept[column].nunique(dropna=False).eq(1).all()
    check_studies(exploded[exploded.label.notna()], for_fit=True)


def test_exploded_table_needs_no_key_and_accepts_any_index():
    table = pd.DataFrame({"views": [["a.png"], ["b.png", "c.png"]]}, index=["x", "y"])
    exploded = explode_views(table)
    assert exploded["view"].tolist() == [1, 1, 2]
    assert exploded.index.tolist() == [0, 1, 2]
    assert "study" not in exploded


def test_is_exploded_requires_single_views(studies):
    assert not is_exploded(studies)
    assert is_exploded(explode_views(studies))
    assert not is_exploded(studies.assign(view="lateral"))
    assert not is_exploded(studies.assign(view=1))
