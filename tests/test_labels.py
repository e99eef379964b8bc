import pandas as pd
import pytest

from mura_skorch.labels import join_labels

KEYS = [f"test/XR_HAND/patient{i}/study1" for i in (1, 2, 3)]


@pytest.fixture
def unlabelled():
    table = pd.DataFrame({"study": KEYS, "study_type": "XR_HAND", "label": pd.array([pd.NA] * 3)})
    return table.set_index(pd.Index([7, 8, 9]))


def write(text, name="labels.csv"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


def test_labels_and_further_columns_are_joined_by_key_not_by_position(unlabelled):
    file = write(f"study,label,site,reader_1\n{KEYS[2]},0,C,1\n{KEYS[0]},1,A,0\n{KEYS[1]},,B,1\n")
    joined = join_labels(unlabelled, file)
    assert joined["study"].tolist() == KEYS
    assert joined.index.tolist() == [7, 8, 9]
    assert joined["label"].tolist() == [1, pd.NA, 0]
    assert joined["label"].dtype == "Int8"
    assert joined["site"].tolist() == ["A", "B", "C"]
    assert joined["reader_1"].tolist() == [0, 1, 1]
    assert unlabelled["label"].isna().all()


@pytest.mark.parametrize("form", ["MURA-v1.1/{}/", "{}/", "/data/MURA-v1.1/{}", "{}", "a\\{}"])
def test_paths_as_in_muras_own_files_need_no_header(unlabelled, form):
    rows = [f"{form.format(key)},{i % 2}" for i, key in enumerate(KEYS)]
    joined = join_labels(unlabelled, write("\ufeff" + "\r\n".join(rows)))
    assert joined["label"].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"{KEYS[0]},1\n{KEYS[1]},1\n{KEYS[2]},1\ntest/XR_HAND/other/study1,0", "1 unknown: test"),
        (f"{KEYS[0]},1\n{KEYS[1]},1", f"1 missing: {KEYS[2]}; give studies without"),
        (f"{KEYS[0]},1\n{KEYS[0]}/,1\n{KEYS[1]},1\n{KEYS[2]},1", f"1 repeated: {KEYS[0]}"),
        (f"{KEYS[0]},1\n{KEYS[1]},2\n{KEYS[2]},1", f"got 2.* for {KEYS[1]}"),
        (f"{KEYS[0]},yes\n{KEYS[1]},2\n{KEYS[2]},1", "got yes"),
    ],
)
def test_unknown_missing_repeated_and_odd_rows_are_named_with_the_file(unlabelled, rows, message):
    with pytest.raises(ValueError, match=f"labels.csv: expected .*{message}"):
        join_labels(unlabelled, write("study,label\n" + rows))


def test_rows_of_other_splits_are_left_out_where_they_are_known(unlabelled):
    file = write("".join(f"{key},1\n" for key in KEYS))
    joined = join_labels(unlabelled[:1], file, others=KEYS)
    assert joined["label"].tolist() == [1]


def test_own_columns_may_be_repeated_but_not_contradicted(unlabelled):
    rows = [f"{key},1,{{}}" for key in KEYS]
    text = "study,label,study_type\n" + "\n".join(rows)
    joined = join_labels(unlabelled, write(text.format(*["XR_HAND"] * 3)))
    assert list(joined) == ["study", "study_type", "label"]
    with pytest.raises(ValueError, match="column study_type as in the table"):
        join_labels(unlabelled, write(text.format("XR_HAND", "XR_HAND", "XR_WRIST")))


def test_files_that_are_no_table_of_labels_are_refused(unlabelled):
    with pytest.raises(ValueError, match="no label"):
        join_labels(unlabelled, write("study,site\na,b\n"))
    with pytest.raises(ValueError, match="expected a CSV file"):
        join_labels(unlabelled, write(""))
    with pytest.raises(FileNotFoundError):
        join_labels(unlabelled, "nowhere.csv")
