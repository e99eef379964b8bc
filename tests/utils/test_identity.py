import os
import shutil
import unicodedata
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from nets import tiny_classifier

from mura_skorch.evaluation import compare_models, reader_kappas, shortcut_scores, subgroup_scores
from mura_skorch.exploration import explore_studies, write_exploration
from mura_skorch.inspection import pointing_scores
from mura_skorch.metrics import study_scores
from mura_skorch.utils.identity import (
    copied_files,
    count_patients,
    file_codes,
    patient_codes,
    patient_keys,
    warn_of_lookalikes,
)
from mura_skorch.utils.provenance import data_digest, provenance

SEVENS = [
    7,
    7.0,
    np.int64(7),
    np.float32(7),
    Decimal(7),
    "7",
    " 7 ",
    "7.0",
    "\uff17",
    "\ufeff7",
    "7\u00a0",
]
FORMS = ("NFC", "NFD", "NFKC", "NFKD")


# ------------------------------------------------------------------- patients


def test_one_number_is_one_patient_in_whatever_type_and_spelling():
    assert set(patient_keys(SEVENS)) == {"7"}
    assert patient_codes(SEVENS).tolist() == [0] * len(SEVENS)


@pytest.mark.parametrize(
    "dtype", ["int8", "int64", "float16", "float64", "Int64", "str", "category"]
)
def test_type_of_a_column_makes_no_other_patients(dtype):
    column = pd.Series([7, 12, 7]).astype(dtype)
    assert patient_keys(column).tolist() == ["7", "12", "7"]


def test_column_that_once_held_a_gap_has_the_patients_it_had_before():
    with_gap = pd.Series([1, 2, None]).dropna()
    assert patient_keys(with_gap).tolist() == patient_keys([1, 2]).tolist()


def test_all_unicode_forms_of_a_text_are_one_patient():
    names = ["Müller Å", "\ufb01n\u00a0x", "Nguyễn", "\uff711"]
    for name in names:
        assert len({*patient_keys([unicodedata.normalize(form, name) for form in FORMS])}) == 1
    assert patient_keys(["a\u200bb\u00a0c", "ab  c"]).tolist() == ["ab c"] * 2


def test_different_people_stay_apart():
    others = ["7", "007", "70", "7a", "A7", "a7", "-7", "7.5"]
    assert len(set(patient_keys(others))) == len(others)
    assert patient_keys(["0007.0", "1.0.0", "0", "0.0", -0.0]).tolist() == [
        *("0007.0", "1.0.0", "0", "0", "0")
    ]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (b"7", TypeError, r"got b'7' \(bytes\) in row 1"),
        ((1, 2), TypeError, r"got \(1, 2\) \(tuple\) in row 1"),
        ([1], TypeError, "texts or whole numbers"),
        (True, TypeError, "got True"),
        (float("nan"), ValueError, "without missing values, got one in row 1; fill it in"),
        (pd.NA, ValueError, "without missing values"),
        (float("inf"), ValueError, "a whole number, got inf in row 1"),
        (1.5, ValueError, "a whole number, got 1.5 in row 1"),
        (2.0**53, ValueError, "stored exactly, below 9,007,199,254,740,992, got 9007.* in row 1"),
        (np.float32(2**24), ValueError, "below 16,777,216"),
        ("  ", ValueError, "a text that is not empty, got '  ' in row 1"),
        ("r\udcf6ntgen", ValueError, "in UTF-8"),
    ],
)
def test_ids_without_a_clear_text_are_refused_with_row_and_remedy(wrong, error, message):
    with pytest.raises(error, match=message):
        patient_keys(pd.Series(["a", wrong], dtype=object))
    with pytest.raises(error, match="fill it in|astype"):
        patient_keys(["a", wrong])


def test_largest_whole_numbers_are_exact():
    assert patient_keys([2**70, 2.0**53 - 1]).tolist() == [str(2**70), str(2**53 - 1)]


def test_missing_ids_may_count_as_nobody():
    assert patient_keys(["a", None, np.nan], missing="").tolist() == ["a", "", ""]
    assert count_patients(["a", None, " a", 3, 3.0]) == 2


def test_ids_that_differ_in_leading_zeros_are_named_and_others_are_not():
    with pytest.warns(UserWarning, match=r"leading zeros.*: 007 and 7\. .*zfill"):
        assert patient_codes(["007", "7", "8"]).tolist() == [0, 1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_lookalikes(["007", "70", "a7", "a07", "0", "10"])


def test_codes_follow_the_keys_and_not_the_rows():
    ids = np.array(["b", "c", "a", "b"])
    codes = patient_codes(ids)
    assert codes.tolist() == [1, 2, 0, 1]
    assert patient_codes(ids[::-1]).tolist() == codes[::-1].tolist()


# ---------------------------------------------------------------------- files


@pytest.fixture
def picture():
    os.makedirs("folder")
    with open("folder/a.png", "wb") as file:
        file.write(b"a picture")
    return "folder/a.png"


def test_all_ways_to_a_file_lead_to_one_file(picture):
    os.symlink("folder", "link")
    os.symlink("a.png", "folder/linked.png")
    os.link(picture, "hard.png")
    ways = [picture, "folder//a.png", "folder/../folder/./a.png", os.path.abspath(picture)]
    ways += ["link/a.png", "link/../folder/a.png", "folder/linked.png", "hard.png"]
    assert file_codes(ways).tolist() == [0] * len(ways)


def test_other_files_are_others_even_where_they_are_equal_or_missing(picture):
    shutil.copy(picture, "copy.png")
    paths = [picture, "copy.png", "none.png", "x/../none.png", "nul\0.png", picture]
    assert file_codes(paths).tolist() == [0, 1, 2, 2, 3, 0]


def test_number_of_a_file_is_not_believed_of_different_contents(picture, monkeypatch):
    """Some network disks give one number to several files."""
    with open("other.png", "wb") as file:
        file.write(b"another one")
    shutil.copy(picture, "copy.png")
    found = os.stat(picture)
    monkeypatch.setattr(os, "stat", lambda path, **kwargs: found)
    codes = file_codes([picture, "other.png", "folder/../folder/a.png"])
    assert codes.tolist() == [0, 1, 0]


def test_many_files_keep_their_order(picture):
    paths = [f"{number}.png" for number in range(1000)]
    assert file_codes([*paths, *paths]).tolist() == [*range(1000)] * 2


def test_copies_are_found_by_their_bytes():
    contents = {
        "a": b"1" * 50_000,
        "b": b"1" * 50_000,
        "c": b"1" * 49_999 + b"2",
        "d": b"1" * 50_001,
    }
    contents |= {"e": b"x", "f": b"y", "g": b"x", "empty": b"", "void": b""}
    contents["h"] = b"1" * 20_000 + b"2" + b"1" * 29_999  # differs between the samples
    for name, data in contents.items():
        with open(name, "wb") as file:
            file.write(data)
    assert copied_files([*contents, "missing", "a"]) == [("a", "b"), ("e", "g")]


# ----------------------------------------------- all that counts or groups patients


@pytest.fixture
def written_anew(predictions):
    """The same predictions with their patients as numbers, and in a mixture of spellings."""
    numbers = predictions["patient"].str[1:].astype(int)
    makers = [str, int, float, lambda n: f" {n}", lambda n: f"{n}.0"]
    mixed = [makers[row % 5](number) for row, number in enumerate(numbers)]
    return [predictions.assign(patient=pd.Series(p, dtype=object)) for p in (numbers, mixed)]


def test_resamples_draw_the_same_patients_under_any_spelling(written_anew):
    for scores in (
        lambda t: study_scores(t["label"], t["score"], groups=t["patient"], n_resamples=50),
        lambda t: compare_models(
            t["label"], t["score"], 1 - t["score"], groups=t["patient"], n_resamples=50
        ),
        lambda t: shortcut_scores(t, n_resamples=50),
        lambda t: subgroup_scores(t, "study_type", n_resamples=50),
        lambda t: reader_kappas(
            t.assign(a=t["label"], b=1), ["a", "b"], gold="label", n_resamples=50
        ),
    ):
        first, second = map(scores, written_anew)
        pd.testing.assert_frame_equal(first, second)


def test_peaks_are_held_against_the_boxes_of_other_people():
    box = {"x0": [0.6, 0.1], "y0": [0.6, 0.1], "x1": [0.9, 0.4], "y1": [0.9, 0.4]}
    peaks = pd.DataFrame({"study_type": "XR_HAND", "called": True, "x": 0.75, "y": 0.75} | box)
    two, one = (
        pointing_scores(peaks.assign(patient=pd.Series(ids, dtype=object)), (2, 2))
        for ids in (["7", "8"], ["7", 7.0])
    )
    assert two["other_box"].notna().all()
    assert one["other_box"].isna().all()


def test_counts_and_digests_are_of_patients_and_not_of_spellings(written_anew):
    first, second = map(provenance, written_anew)
    assert first["Patients"] == second["Patients"] == "30"
    assert data_digest(written_anew[0]) == data_digest(written_anew[1])


def test_exploration_finds_patients_in_two_splits_under_any_spelling():
    table = pd.DataFrame(
        {
            "study_type": "XR_HAND",
            "split": ["train", "train", "valid", "valid"],
            "patient": pd.Series([7, 8, "7.0", None], dtype=object),
            "views": [(f"{i}.png",) for i in range(4)],
        }
    )
    found = explore_studies(table, read_images=False)
    assert found.shared_patients["patient"].tolist() == ["7"]
    assert found.counts["patients"].sum() == 2 * 3  # by study type, and overall


# ----------------------------------------------------- names in another encoding


def test_files_whose_names_are_not_in_utf_8_are_trained_on_predicted_and_skipped(train):
    studies = train.reset_index(drop=True)
    for row, views in enumerate(studies["views"]):
        name = os.fsdecode(b"r\xf6ntgen_%d.png" % row)
        try:
            shutil.copyfile(views[0], name)
        except OSError:
            pytest.skip("this disk holds names in UTF-8 only")
        studies.at[row, "views"] = (name, *views[1:])
    net = tiny_classifier(max_epochs=1).fit(studies)
    expected = net.predict_proba(train)
    np.testing.assert_array_equal(net.predict_proba(studies), expected)
    open(studies["views"][0][0], "wb").close()
    with pytest.raises(ValueError, match=r"r\\udcf6ntgen_0\.png: .*zero bytes"):
        tiny_classifier(max_epochs=1).fit(studies)
    skipping = tiny_classifier(max_epochs=1, on_bad_view="skip", max_bad_share=1.0)
    with pytest.warns(UserWarning, match=r"r\\udcf6ntgen_0\.png"):
        skipping.fit(studies)
    skipping.bad_views_.to_csv("bad_views.csv")
    found = explore_studies(studies)
    assert len(found.unreadable) == 1
    write_exploration(found, "page")
