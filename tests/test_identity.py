import os
import shutil
import unicodedata
import warnings
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from mura_skorch.identity import (
    copied_files,
    count_patients,
    file_codes,
    patient_codes,
    patient_keys,
    warn_of_lookalikes,
)

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
