import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import SECRET, write_dicom
from nets import tiny_classifier
from pydicom import uid
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset

from mura_skorch.data import read_view
from mura_skorch.dicom import holds_dicom, read_dicom_studies
from mura_skorch.report import collect_predictions, write_report
from mura_skorch.studies import check_studies

PIXELS = np.arange(64, dtype=np.uint8).reshape(8, 8)


def write(name, study="1.2.3", patient="p1", part="HAND", pixels=PIXELS, **fields):
    ids = {"StudyInstanceUID": study, "PatientID": patient, "BodyPartExamined": part}
    return write_dicom(Path("clinic", name), pixels, **ids, **fields)


def names(views):
    return [Path(view).name for view in views]


def test_files_are_grouped_by_study_in_any_folder():
    write("a/1", "1.1", "0012")
    write("b/2.dcm", "1.2", "0012", "WRIST")
    write("b/deep/3", "1.1", "0012", InstanceNumber=2)
    studies = read_dicom_studies("clinic")
    assert studies.columns.tolist() == ["study", "study_type", "patient", "views", "label"]
    assert studies["study"].tolist() == ["1.1", "1.2"]
    assert studies["study_type"].tolist() == ["XR_HAND", "XR_WRIST"]
    assert studies["patient"].tolist() == ["0012", "0012"]
    assert studies["views"].map(len).tolist() == [2, 1]
    assert all(Path(view).is_absolute() for view in studies["views"].explode())
    assert studies["label"].dtype == "Int8"
    assert studies["label"].isna().all()
    check_studies(studies)


def test_views_are_in_the_order_of_series_and_instance_numbers():
    write("a", SeriesNumber=2, InstanceNumber=1)
    write("b", SeriesNumber=1, InstanceNumber=10)
    write("c", SeriesNumber=1, InstanceNumber=9)
    write("d")
    assert names(read_dicom_studies("clinic")["views"][0]) == ["c", "b", "a", "d"]


def rewritten(path, old, new):
    """Replace a number in a file: pydicom writes none that is no integer."""
    data, start = path.read_bytes(), b"IS\x04\x00"
    assert data.count(start + old) == 1
    path.write_bytes(data.replace(start + old, start + new))


@pytest.mark.parametrize("text", [b"    ", b"1.5x", b"1\\2 ", b"none", b"inf "])
def test_invalid_instance_number_is_treated_as_missing(text):
    write("a", InstanceNumber=7)
    rewritten(write("b", InstanceNumber=2345), b"2345", text)
    rewritten(write("c", SeriesNumber=2345), b"2345", text)
    assert names(read_dicom_studies("clinic")["views"][0]) == ["a", "b", "c"]


def test_labels_and_sites_are_joined_from_a_file():
    write("a", "1.1")
    write("b", "1.2", "p2")
    Path("labels.csv").write_text("study,label,site\n1.2,1,north\n1.1,0,south\n")
    studies = read_dicom_studies("clinic", labels="labels.csv", keep=["site"])
    assert studies["label"].tolist() == [0, 1]
    assert studies["site"].tolist() == ["south", "north"]


def test_other_files_are_skipped_and_counted():
    write("dx")
    write("cr", Modality="CR")
    write("mg", Modality="MG")
    write("raw", PresentationIntentType="FOR PROCESSING")
    write("empty", Rows=None, Columns=None, PixelData=None)
    shutil.copy("clinic/dx", "clinic/copy")
    for name in ("test-SR.dcm", "CT_small.dcm", "DICOMDIR"):
        shutil.copy(get_testdata_file(name, download=False), "clinic")
    Path("clinic/README.txt").write_text("radiographs")
    Path("clinic/.hidden").write_text("no file of ours")
    with pytest.warns(UserWarning, match="8 files left out") as caught:
        studies = read_dicom_studies("clinic")
    message = str(caught[0].message)
    for reason in (
        "1 of modality MG",
        "1 of modality SR",
        "1 of modality CT",
        "1 of modality unknown",
        "1 for processing",
        "1 without an image",
        "1 second copies",
        "1 not DICOM",
    ):
        assert reason in message
    # Of two copies, the first by name stays.
    assert names(studies["views"][0]) == ["copy", "cr"]
    with pytest.warns(UserWarning, match="left out"):
        studies = read_dicom_studies("clinic", modalities=["MG"])
    assert names(studies["views"][0]) == ["mg"]


def same_uid(**fields):
    return {"SOPInstanceUID": "1.2.3.4", **fields}


def test_patients_sharing_an_instance_uid_are_both_read():
    write("a", "1.1", "p1", **same_uid())
    write("b", "1.2", "p2", **same_uid())
    with pytest.warns(
        UserWarning, match=r"2 files share their SOPInstanceUID.*clinic/a, .*clinic/b"
    ):
        studies = read_dicom_studies("clinic")
    assert studies["patient"].tolist() == ["p1", "p2"]


@pytest.mark.parametrize("other", [PIXELS[::-1].copy(), PIXELS // 2, PIXELS[:4], PIXELS + 9])
def test_pictures_sharing_an_instance_uid_are_both_read(other):
    write("a", **same_uid(InstanceNumber=1))
    write("b", pixels=other, **same_uid(InstanceNumber=2))
    with pytest.warns(UserWarning, match="2 files share their SOPInstanceUID"):
        studies = read_dicom_studies("clinic")
    assert names(studies["views"][0]) == ["a", "b"]


def test_picture_stored_in_two_encodings_is_one_view():
    write("a", patient="p1", **same_uid())
    write("b", patient=" p1", syntax=uid.ImplicitVRLittleEndian, **same_uid())
    write("c", pixels=255 - PIXELS, **same_uid())
    with pytest.warns(UserWarning, match="share|left out") as caught:
        studies = read_dicom_studies("clinic")
    assert names(studies["views"][0]) == ["a", "c"]
    assert any("1 second copies" in str(warning.message) for warning in caught)


def test_unreadable_pictures_are_not_copies():
    write("a", PixelData=b"12", **same_uid())
    write("b", PixelData=b"34", **same_uid())
    with pytest.warns(UserWarning, match="2 files share"):
        assert names(read_dicom_studies("clinic")["views"][0]) == ["a", "b"]


@pytest.mark.parametrize("name", ["a\u00a0b", "a\u2009b", "a\u200bb", "\ufeffab"])
def test_ids_with_blanks_of_any_width_are_read(name):
    write("a", patient=name, SpecificCharacterSet="ISO_IR 192")
    assert read_dicom_studies("clinic")["patient"].tolist() == [name]


def test_patient_id_may_have_several_spellings():
    utf8 = {"SpecificCharacterSet": "ISO_IR 192"}
    write("a", patient="M\u00fcller 1", **utf8)
    write("b", patient="Mu\u0308ller\u00a01", **utf8)
    assert read_dicom_studies("clinic")["views"].map(len).tolist() == [2]
    write("c", "1.9", patient="Mu\u0308ller  1", **utf8)
    hashed = read_dicom_studies("clinic", hash_patients="salt")["patient"]
    assert len(hashed) == 2
    assert hashed[0] == hashed[1]


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian])
@pytest.mark.parametrize("with_meta", [True, False])
def test_file_without_preamble_and_suffix_is_read(syntax, with_meta):
    write("a", InstanceNumber=1)
    pixels = np.linspace(255, 0, 64).astype(np.uint8).reshape(8, 8)
    path = write("b", InstanceNumber=2, pixels=pixels, syntax=syntax)
    data = path.read_bytes()
    path.write_bytes(data[132 if with_meta else data.index(b"\x08\x00\x16\x00") :])
    studies = read_dicom_studies("clinic")
    assert names(studies["views"][0]) == ["a", "b"]
    np.testing.assert_array_equal(read_view(studies["views"][0][1]), pixels)


@pytest.mark.parametrize("kind", ["SecondaryCapture", "MultiFrameGrayscaleByteSecondaryCapture"])
def test_secondary_captures_are_skipped_and_counted(kind):
    write("dx")
    derived = {"ImageType": ["DERIVED", "SECONDARY"]}
    write("stitched", **derived)
    name = getattr(uid, f"{kind}ImageStorage")
    write("screenshot", SOPClassUID=name, Modality="DX", **derived)
    with pytest.warns(UserWarning, match="1 files left out: 1 secondary captures"):
        studies = read_dicom_studies("clinic")
    assert names(studies["views"][0]) == ["dx", "stitched"]


def test_files_of_several_frames_are_counted_once_per_folder():
    frames = np.stack([PIXELS, PIXELS])
    several = {"pixels": frames, "NumberOfFrames": 2, "Rows": 8, "Columns": 8, "Modality": "RF"}
    write("one", NumberOfFrames=1)
    for number in range(3):
        write(f"cine{number}", f"1.{number}", **several)
    with pytest.warns(UserWarning, match="frames") as caught:
        read_dicom_studies("clinic")
    (message,) = (str(warning.message) for warning in caught)
    assert message.startswith("clinic: 3 files of several frames, of which the first is read.")
    assert "modalities" in message


def test_links_to_folders_are_counted_and_links_to_files_followed(tmp_path):
    write("a/1", "1.1")
    os.symlink("a", "clinic/again")
    os.symlink(tmp_path, "clinic/loop")
    (tmp_path / "elsewhere").mkdir()
    shutil.move("clinic/a/1", "elsewhere/1")
    os.symlink(tmp_path / "elsewhere/1", "clinic/a/1")
    with pytest.warns(UserWarning, match="2 files left out: 2 links to folders, which are not"):
        studies = read_dicom_studies("clinic")
    assert studies["views"].map(names).tolist() == [["1"]]


def test_unreadable_folder_is_named(monkeypatch):
    write("a")
    home, name = Path.cwd(), "n" * 250
    monkeypatch.chdir("clinic")
    for _ in range(20):  # a path that is too long is one that the system refuses to open
        os.mkdir(name)
        os.chdir(name)
    os.chdir(home)
    for read in (read_dicom_studies, holds_dicom):
        if read is holds_dicom:
            Path("clinic/a").unlink()
        with pytest.raises(OSError, match="expected a readable folder, got .*Check its .*nnnn"):
            read("clinic")


@pytest.mark.parametrize(
    ("part", "study_type"),
    [("Upper arm", "XR_HUMERUS"), ("thumb", "XR_FINGER"), ("RADIUS-ULNA", "XR_FOREARM")],
)
def test_body_parts_have_synonyms(part, study_type):
    write("a", part=part)
    assert read_dicom_studies("clinic")["study_type"].tolist() == [study_type]


def test_unknown_body_parts_must_be_mapped_or_dropped():
    write("a", "1.1", part="KNEE")
    write("b", "1.2", part="")
    write("c", "1.3", part="UP_EXM")
    with pytest.raises(ValueError, match=r"got none for 'KNEE' \(1 files\), '' .*, 'UP_EXM'.*None"):
        read_dicom_studies("clinic")
    own = {"knee": "my knee", "": "XR_HAND", "UP EXM": None}
    with pytest.warns(UserWarning, match="1 files left out: 1 of a body part"):
        studies = read_dicom_studies("clinic", study_types=own)
    assert studies["study_type"].tolist() == ["XR_HAND", "my knee"]
    with pytest.raises(
        ValueError, match="expected at least one body part .*got study_types that drop all"
    ):
        read_dicom_studies("clinic", study_types=dict.fromkeys(["KNEE", "", "UP_EXM"]))


def test_file_without_body_part_gets_the_only_type_of_its_study():
    write("a", part="HAND")
    write("b", part="")
    studies = read_dicom_studies("clinic")
    assert studies["views"].map(names).tolist() == [["a", "b"]]


@pytest.mark.parametrize("part", [None, ""])
def test_missing_body_part_is_taken_from_anatomic_region(part):
    region = Dataset()
    region.CodeMeaning = "Wrist joint"
    write("a", part=part, AnatomicRegionSequence=[region])
    write("b", study="1.2", part="HAND", AnatomicRegionSequence=[region])
    write("c", study="1.3", part=part, AnatomicRegionSequence=[])
    studies = read_dicom_studies("clinic", study_types={"": "unknown"})
    assert studies["study_type"].tolist() == ["XR_HAND", "XR_WRIST", "unknown"]


def test_study_of_two_types_becomes_two_labelled_rows():
    write("a", "1.1", part="HAND")
    write("b", "1.1", part="WRIST")
    Path("labels.csv").write_text("study,label\n1.1/XR_HAND,1\n1.1/XR_WRIST,0\n")
    studies = read_dicom_studies("clinic", labels="labels.csv")
    assert studies["study"].tolist() == ["1.1/XR_HAND", "1.1/XR_WRIST"]
    assert studies["label"].tolist() == [1, 0]
    assert studies["patient"].nunique() == len(studies["patient"]) - 1


@pytest.mark.parametrize("field", ["Laterality", "ImageLaterality"])
def test_left_and_right_become_two_labelled_rows(field):
    for number, side in enumerate("LRRL"):
        write(f"{number}{side}", "1.1", InstanceNumber=number, **{field: side})
    write("x", "1.1", part="WRIST", **{field: "R"})
    write("y", "1.2", "p2")
    keys = ["1.1/XR_HAND/L", "1.1/XR_HAND/R", "1.2", "1.1/XR_WRIST"]
    lines = [f"{key},{number % 2}" for number, key in enumerate(keys)]
    Path("labels.csv").write_text("\n".join(["study,label", *lines]))
    studies = read_dicom_studies("clinic", labels="labels.csv")
    assert studies["study"].tolist() == keys
    assert studies["views"].map(names).tolist() == [["0L", "3L"], ["1R", "2R"], ["y"], ["x"]]
    assert studies["label"].tolist() == [0, 1, 0, 1]
    assert studies["patient"].tolist() == ["p1", "p1", "p2", "p1"]


def test_image_laterality_takes_precedence_over_laterality():
    write("a", Laterality="L", ImageLaterality="R")
    write("b", Laterality="L")
    studies = read_dicom_studies("clinic")
    assert studies["views"].map(names).tolist() == [["b"], ["a"]]


@pytest.mark.parametrize("other", ["", "B", "U"])
def test_views_without_a_side_join_a_single_side_only(other):
    write("a", Laterality="L")
    write("b", Laterality=other)
    studies = read_dicom_studies("clinic")
    assert studies["study"].tolist() == ["1.2.3"]
    assert studies["views"].map(names).tolist() == [["a", "b"]]
    write("c", Laterality="R")
    studies = read_dicom_studies("clinic")
    assert studies["study"].tolist() == ["1.2.3", "1.2.3/XR_HAND/L", "1.2.3/XR_HAND/R"]
    assert studies["views"].map(names).tolist() == [["b"], ["a"], ["c"]]


def test_study_of_two_patients_is_refused_without_naming_them():
    write("a", patient=f"{SECRET}-1")
    write("b", patient=f"{SECRET}-2")
    with pytest.raises(ValueError, match=r"two PatientIDs, such as in .*a, .*b") as caught:
        read_dicom_studies("clinic")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["PatientID", "StudyInstanceUID"])
@pytest.mark.parametrize("value", [None, "", "  "])
def test_file_without_an_id_is_refused(name, value):
    write_dicom(Path("clinic/IM7"), PIXELS, **{name: value})
    with pytest.raises(ValueError, match=f"expected a {name} in every file, got 1 without: .*IM7"):
        read_dicom_studies("clinic")


def test_damaged_header_is_named():
    path = write("IM7", syntax=uid.DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-30])
    write("IM8")
    with pytest.raises(ValueError, match="got 1 truncated or damaged: .*IM7"):
        read_dicom_studies("clinic")


def test_skipped_bad_files_are_listed():
    write("a", InstanceNumber=1)
    path = write("IM7", syntax=uid.DeflatedExplicitVRLittleEndian)
    path.write_bytes(path.read_bytes()[:-30])
    write("IM8", patient="")
    write("IM9", study=None, patient=f"{SECRET}9")
    write("b", "1.2", "p2", InstanceNumber=2)
    with pytest.raises(ValueError, match="got 1 truncated or damaged: .*IM7.*on_bad_file"):
        read_dicom_studies("clinic")
    with pytest.warns(UserWarning, match="left out") as caught:
        studies = read_dicom_studies("clinic", on_bad_file="skip")
    assert studies["views"].map(names).tolist() == [["a"], ["b"]]
    (message,) = (str(warning.message) for warning in caught)
    for text in (
        "3 files left out",
        "1 truncated or damaged",
        "1 without a StudyInstanceUID",
        "1 without a PatientID",
        "IM7",
        "IM8",
        "IM9",
    ):
        assert text in message
    assert SECRET not in message
    with pytest.raises(ValueError, match="on_bad_file as raise or skip, got 'ignore'"):
        read_dicom_studies("clinic", on_bad_file="ignore")


def test_folder_of_only_bad_files_is_refused():
    write("IM8", patient="")
    with pytest.raises(ValueError, match="expected a PatientID in every file, got 1 without"):
        read_dicom_studies("clinic", on_bad_file="skip")


def test_folder_without_radiographs_is_named():
    with pytest.raises(FileNotFoundError, match="clinic: expected a folder of DICOM files"):
        read_dicom_studies("clinic")
    Path("clinic").mkdir()
    with pytest.raises(ValueError, match="modality CR, DX, RF, got no file"):
        read_dicom_studies("clinic")
    write("a", Modality="MG")
    with pytest.raises(ValueError, match="got 1 of modality MG"):
        read_dicom_studies("clinic")


def test_holds_dicom_recognises_dicom_folders():
    Path("clinic/deep").mkdir(parents=True)
    Path("clinic/labels.csv").write_text("study,label")
    assert not holds_dicom("clinic")
    write("deep/a")
    assert holds_dicom("clinic")


# ------------------------------------------------------------------------ privacy


def test_hashed_ids_depend_only_on_id_and_secret():
    write("a", "1.1", f"{SECRET}1")
    write("b", "1.2", f"{SECRET}1")
    write("c", "1.3", f"{SECRET}2")
    Path("labels.csv").write_text("study,label\n1.1,1\n1.2,0\n1.3,1\n")
    one, again, other = (
        read_dicom_studies("clinic", labels="labels.csv", hash_patients=secret)
        for secret in ("salt", "salt", "pepper")
    )
    pd.testing.assert_frame_equal(one, again)
    assert sorted(one["patient"].value_counts()) == [1, 2]
    assert one["study"].is_unique
    ids = [*one["patient"], *one["study"]]
    assert all(len(text) == 16 and set(text) <= set("0123456789abcdef") for text in ids)
    assert not set(ids) & {*other["patient"], *other["study"]}
    by_view = {
        names(views)[0]: label for views, label in zip(one["views"], one["label"], strict=True)
    }
    assert by_view == {"a": 1, "b": 0, "c": 1}
    with pytest.raises(ValueError, match="empty"):
        read_dicom_studies("clinic", hash_patients="")


def test_hashed_keys_show_which_rows_are_of_one_study():
    write("a", "1.1", part="HAND", Laterality="L")
    plain = read_dicom_studies("clinic", hash_patients="salt")["study"][0]
    write("b", "1.1", part="HAND", Laterality="R")
    write("c", "1.1", part="WRIST")
    lines = ["study,label", "1.1/XR_HAND/L,1", "1.1/XR_HAND/R,0", "1.1/XR_WRIST,1"]
    Path("labels.csv").write_text("\n".join(lines))
    studies = read_dicom_studies("clinic", labels="labels.csv", hash_patients="salt")
    ends = ["XR_HAND/L", "XR_HAND/R", "XR_WRIST"]
    assert studies["study"].tolist() == [f"{plain}/{end}" for end in ends]
    assert studies["label"].tolist() == [1, 0, 1]


def test_odd_header_values_reach_no_log(caplog, recwarn):
    caplog.set_level(logging.DEBUG)
    path = write("a", "1.2.3", f"{SECRET}1", "HAND")
    data = path.read_bytes().replace(b"1.2.3\x00", b"SECRET")  # no UID, which pydicom warns of
    path.write_bytes(data.replace(b"HAND", b"hand"))
    studies = read_dicom_studies("clinic")
    assert studies["study"].tolist() == ["SECRET"]
    assert "SECRET" not in caplog.text
    assert not recwarn.list


@pytest.mark.slow
def test_patient_data_reach_no_file_run_or_message(tmp_path, monkeypatch, caplog, capsys, recwarn):
    caplog.set_level(logging.DEBUG)
    rng = np.random.default_rng(0)
    lines, salt = ["study,label"], "what the clinic keeps to itself"
    for number in range(16):
        study = f"1.2.777777.{number}"
        lines.append(f"{study},{number % 2}")
        for view in range(1 + number % 2):
            pixels = rng.integers(0, 4096, (40, 32), dtype=np.uint16)
            fields = {"BitsStored": 12, "InstanceNumber": view, "syntax": uid.RLELossless}
            write(f"{number}_{view}", study, f"{SECRET}{number // 2}", pixels=pixels, **fields)
    Path("labels.csv").write_text("\n".join(lines))
    studies = read_dicom_studies("clinic", labels="labels.csv", hash_patients=salt)
    shutil.move("labels.csv", "clinic")

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/runs.db")
    net = tiny_classifier(callbacks__mlflow__log_model=True, dataset__cache="cache").fit(studies)
    with pytest.warns(UserWarning, match="patients that the model was trained on"):
        inputs = collect_predictions(net, studies, n_cases=2)
    write_report("report", inputs, about={})
    net.save("model")

    written = [path for path in Path().rglob("*") if path.is_file() and "clinic" not in path.parts]
    assert {"runs.db", "report.html"} <= {path.name for path in written}
    assert any("mlruns" in path.parts or "artifacts" in path.parts for path in written)
    data = b"".join(path.read_bytes() for path in written)
    texts = [*(str(warning.message) for warning in recwarn), *capsys.readouterr(), caplog.text]
    data += "".join(texts).encode()
    assert studies["patient"][0].encode() in data, "the hashed ids are there"
    for secret in (SECRET, "19111111", "1.2.777777", salt):
        assert secret.encode() not in data
