import unicodedata

import pandas as pd
import pytest

from mura_skorch.studies import join_labels

KEYS = [f"test/XR_HAND/patient{i}/study1" for i in (1, 2, 3)]


@pytest.fixture
def unlabelled():
    table = pd.DataFrame({"study": KEYS, "study_type": "XR_HAND", "label": pd.array([pd.NA] * 3)})
    return table.set_index(pd.Index([7, 8, 9]))


def write(text, name="labels.csv"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def test_labels_and_columns_are_joined_by_key(unlabelled):
    file = write(f"study,label,site,reader_1\n{KEYS[2]},0,C,1\n{KEYS[0]},1,A,0\n{KEYS[1]},,B,1\n")
    joined = join_labels(unlabelled, file, keep=["site", "reader_1", "study_type"])
    assert joined["study"].tolist() == KEYS
    assert joined.index.tolist() == [7, 8, 9]
    assert joined["label"].tolist() == [1, pd.NA, 0]
    assert joined["label"].dtype == "Int8"
    assert joined["site"].tolist() == ["A", "B", "C"]
    assert joined["reader_1"].tolist() == [0, 1, 1]
    assert unlabelled["label"].isna().all()


@pytest.mark.parametrize("form", ["MURA-v1.1/{}/", "{}/", "data/MURA-v1.1/{}", "{}", "a\\{}"])
def test_mura_paths_need_no_header(unlabelled, form):
    rows = [f"{form.format(key)},{i % 2}" for i, key in enumerate(KEYS)]
    joined = join_labels(unlabelled, write("\ufeff" + "\r\n".join(rows)))
    assert joined["label"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"{KEYS[0]},1\n{KEYS[1]},1\n{KEYS[2]},1\ntest/XR_HAND/other/study1,0", "1 unknown: test"),
        (f"{KEYS[0]},1\n{KEYS[1]},1", f"1 missing: {KEYS[2]}; add rows with an empty label"),
        (f"{KEYS[0]},1\n{KEYS[0]}/,1\n{KEYS[1]},1\n{KEYS[2]},1", f"1 repeated: {KEYS[0]}"),
        (f"{KEYS[0]},1\n{KEYS[1]},2\n{KEYS[2]},1", f"got 2.* for {KEYS[1]}"),
        (f"{KEYS[0]},yes\n{KEYS[1]},2\n{KEYS[2]},1", "got yes"),
    ],
)
def test_invalid_rows_are_named_with_the_file(unlabelled, rows, message):
    with pytest.raises(ValueError, match=f"labels.csv: expected .*{message}"):
        join_labels(unlabelled, write("study,label\n" + rows))


def test_rows_of_known_other_splits_are_ignored(unlabelled):
    file = write("".join(f"{key},1\n" for key in KEYS))
    joined = join_labels(unlabelled[:1], file, others=KEYS)
    assert joined["label"].tolist() == [1]


def test_file_may_repeat_but_not_contradict_study_columns(unlabelled):
    rows = [f"{key},1,{{}}" for key in KEYS]
    text = "study,label,study_type\n" + "\n".join(rows)
    keep = ["study_type"]
    joined = join_labels(unlabelled, write(text.format(*["XR_HAND"] * 3)), keep=keep)
    assert list(joined) == ["study", "study_type", "label"]
    with pytest.raises(ValueError, match="column study_type as in the study table"):
        join_labels(unlabelled, write(text.format("XR_HAND", "XR_HAND", "XR_WRIST")), keep=keep)


def test_files_without_labels_are_refused(unlabelled):
    with pytest.raises(ValueError, match="no label"):
        join_labels(unlabelled, write("study,site\na,b\n"))
    with pytest.raises(ValueError, match="expected a CSV file"):
        join_labels(unlabelled, write(""))
    with pytest.raises(FileNotFoundError, match=r"nowhere.csv: expected .* check the path"):
        join_labels(unlabelled, "nowhere.csv")


def test_unrequested_columns_are_not_read(unlabelled):
    rows = [f"{key},1,seen by Dr X,A,9" for key in KEYS]
    file = write("study,label,note,site,views\n" + "\n".join(rows))
    assert list(join_labels(unlabelled, file)) == ["study", "study_type", "label"]
    assert list(join_labels(unlabelled, file, keep=["site"]))[-1] == "site"
    with pytest.raises(ValueError, match=r"labels.csv: expected columns scanner, got study, label"):
        join_labels(unlabelled, file, keep=["site", "scanner"])


@pytest.mark.parametrize(
    "name",
    ["note", "views", "view", "score", "threshold", "decision", "n_views", "split", "patient"],
)
def test_reserved_columns_are_refused(unlabelled, name):
    file = write(f"study,label,{name}\n" + "".join(f"{key},1,7\n" for key in KEYS))
    with pytest.raises(ValueError, match=f"not called {name}.*rename them"):
        join_labels(unlabelled, file, keep=[name])


@pytest.mark.parametrize("first", ["", "1", " 1", " 0", " "])
def test_first_line_without_a_header_is_a_row(unlabelled, first):
    rows = [f"{KEYS[0]},{first}", f"{KEYS[1]}, 1", f"{KEYS[2]},0"]
    joined = join_labels(unlabelled, write("\n".join(rows)))
    assert joined["label"].fillna(9).tolist() == [int(first.strip() or 9), 1, 0]


def test_only_an_empty_field_is_missing(unlabelled):
    rows = [f"{key},1,{site}" for key, site in zip(KEYS, ["NA", "None", ""], strict=True)]
    file = write("study,label,site\n" + "\n".join(rows))
    sites = join_labels(unlabelled, file, keep=["site"])["site"]
    assert sites.fillna("missing").tolist() == ["NA", "None", "missing"]


SPREADSHEET = "study,label,site\n" + "".join(f"{key},{i % 2},s{i}\n" for i, key in enumerate(KEYS))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_spreadsheet_exports_are_read(unlabelled, sign, encoding):
    text = SPREADSHEET.replace("study,label,site", " Study ,LABEL, Site ")
    text = (text + ",,\n\n , , \n").replace(",", sign)
    with open("labels.csv", "w", encoding=encoding, newline="\r\n") as file:
        file.write(text)
    joined = join_labels(unlabelled, "labels.csv", keep=["site"])
    assert joined["label"].tolist() == [0, 1, 0]
    assert joined["site"].tolist() == ["s0", "s1", "s2"]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_rows_without_header_may_have_other_separators(unlabelled, sign):
    rows = [f"a, b/{key}{sign}{i % 2}" for i, key in enumerate(KEYS)]
    assert join_labels(unlabelled, write("\n".join(rows)))["label"].tolist() == [0, 1, 0]


def test_trailing_separator_does_not_shift_columns(unlabelled):
    rows = [f"{key};1;" for key in KEYS]
    joined = join_labels(unlabelled, write("study;label\n" + "\n".join(rows)))
    assert joined["label"].tolist() == [1, 1, 1]


def test_keys_match_in_any_unicode_form(unlabelled):
    keys = ["valid/XR_HAND/M\u00fcller/study1", KEYS[1], KEYS[2]]
    for form, other in (("NFC", "NFD"), ("NFD", "NFC")):
        studies = unlabelled.assign(study=[unicodedata.normalize(form, key) for key in keys])
        rows = [f"M/{unicodedata.normalize(other, key)},1" for key in keys]
        joined = join_labels(studies, write("\n".join(rows)))
        assert joined["label"].tolist() == [1, 1, 1]
        assert joined["study"].tolist() == studies["study"].tolist()


def test_patient_ids_of_the_file_may_have_another_spelling(unlabelled):
    studies = unlabelled.assign(patient=["001", "2", 3])
    rows = [f"{key},1,{{}}" for key in KEYS]
    text = "study,label,patient\n" + "\n".join(rows)
    join_labels(studies, write(text.format("001", "2.0", " 3")), keep=["patient"])
    with pytest.raises(ValueError, match="column patient as in the study table"):
        join_labels(studies, write(text.format("1", "2", "3")), keep=["patient"])
