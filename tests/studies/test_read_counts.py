import numpy as np
import pandas as pd
import pytest
from dicom_files import write_dicom

from mura_skorch import read_studies
from mura_skorch.dicom import read_dicom_studies
from mura_skorch.studies import explode_views, join_labels
from mura_skorch.studies.read_counts import read_counts


def test_table_of_a_folder_carries_what_was_read(studies):
    found = read_counts(studies)
    assert found["studies"] == len(studies)
    assert found["unlabelled"] == studies["label"].isna().sum()
    assert found["files_left_out"] == {}


def test_selections_and_copies_keep_the_counts(phantom_root):
    studies = read_studies(phantom_root)
    chosen = studies[studies["split"] == "train"]
    for table in (chosen, chosen.assign(site="a"), chosen.reset_index(drop=True), chosen.copy(),
                  chosen.sort_values("study"), chosen.sample(3, random_state=0)):  # fmt: skip
        assert read_counts(table) == read_counts(studies)


def test_single_views_are_no_studies_that_were_read(studies):
    assert read_counts(explode_views(studies)) == {}
    assert read_counts(studies)


def test_handmade_table_carries_none():
    assert read_counts(pd.DataFrame({"study_type": ["XR_HAND"]})) == {}


def test_new_labels_correct_the_number_of_unlabelled_studies(phantom_root):
    studies = read_studies(phantom_root)
    test = studies[studies["split"] == "test"]
    pd.DataFrame({"study": test["study"], "label": [1] * len(test)}).to_csv("l.csv", index=False)
    joined = join_labels(test, "l.csv")
    assert read_counts(joined)["studies"] == len(studies)
    assert read_counts(joined)["unlabelled"] == read_counts(studies)["unlabelled"] - len(test)
    assert read_counts(studies)["unlabelled"] == studies["label"].isna().sum()


def test_dicom_files_left_out_are_counted_by_reason(tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_dicom(tmp_path / "a.dcm", pixels)
    write_dicom(tmp_path / "b.dcm", pixels, Modality="CT")
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.warns(UserWarning, match="left out"):
        studies = read_dicom_studies(tmp_path)
    assert read_counts(studies) == {
        "studies": 1,
        "unlabelled": 1,
        "files_left_out": {"of modality CT": 1, "not DICOM": 1},
    }
