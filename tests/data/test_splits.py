import os
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from nets import tiny_classifier
from sklearn.base import clone
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    KFold,
    LeaveOneGroupOut,
    StratifiedGroupKFold,
)
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split

from mura_skorch import PatientSplit, ValidStudies
from mura_skorch.data import StudyDataset, as_split, check_apart, studies_of


def table_of(n_patients=200, seed=0, share_abnormal=0.4):
    """Return studies of patients with one to three of them, of several types."""
    rng = np.random.default_rng(seed)
    patient = np.repeat(np.arange(n_patients), rng.integers(1, 4, n_patients))
    n = len(patient)
    return pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(n)],
            "study_type": rng.choice(["XR_HAND", "XR_WRIST", "XR_ELBOW"], n, p=[0.6, 0.3, 0.1]),
            "patient": [f"patient{p:05d}" for p in patient],
            "views": [(f"{i}.png",) for i in range(n)],
            "label": pd.array((rng.random(n) < share_abnormal).astype(int), dtype="Int8"),
        }
    )


@pytest.mark.parametrize("random_state", range(5))
def test_valid_never_shares_a_patient_with_train(random_state):
    dataset = StudyDataset(table_of(seed=random_state))
    train, valid = map(studies_of, PatientSplit(0.2, random_state=random_state)(dataset))
    assert not set(train.patient) & set(valid.patient)
    assert sorted([*train.study, *valid.study]) == sorted(dataset.studies.study)


def test_valid_has_the_share_of_each_type_and_label():
    dataset = StudyDataset(table_of(600))
    _, valid = PatientSplit(0.2)(dataset)
    strata = ["study_type", "label"]
    share = studies_of(valid).groupby(strata).size() / dataset.studies.groupby(strata).size()
    assert share.between(0.1, 0.3).all()


def test_both_classes_are_held_out_of_a_small_table():
    for seed in range(10):
        _, valid = PatientSplit(0.1)(StudyDataset(table_of(40, seed=seed)))
        assert set(studies_of(valid).label) == {0, 1}


def test_split_is_the_same_each_time_and_another_for_another_seed():
    dataset = StudyDataset(table_of())
    first, again, other = (
        list(PatientSplit(0.1, random_state=seed)(dataset)[1].indices) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


def test_one_patient_cannot_be_split():
    table = table_of().assign(patient="patient00001")
    with pytest.raises(ValueError, match=r"at least 2 patients.*train_split=None"):
        PatientSplit()(StudyDataset(table))


def test_two_patients_are_enough():
    table = table_of(2, seed=1)
    train, valid = PatientSplit(0.1)(StudyDataset(table))
    assert len(train) > 0
    assert len(valid) > 0


def test_own_validation_studies_are_all_used_and_survive_clone(train, valid):
    net = clone(tiny_classifier(train_split=ValidStudies(valid), max_epochs=1))
    net.fit(train)
    batches = net.history[-1, "batches"]
    assert sum(batch.get("train_batch_size", 0) for batch in batches) == len(train)
    assert sum(batch.get("valid_batch_size", 0) for batch in batches) == len(valid)


def test_own_validation_studies_with_a_shared_patient_are_refused(train):
    with pytest.raises(ValueError, match=r"share no patient, got \d+ in both \(patient"):
        tiny_classifier(train_split=ValidStudies(train.iloc[::2])).fit(train)


def test_studies_that_are_in_both_tables_under_other_patients_are_refused(train):
    renamed = train.iloc[:4].assign(patient="somebody else")
    with pytest.raises(ValueError, match=r"share no view, got \d+ in both"):
        tiny_classifier(train_split=ValidStudies(renamed)).fit(train)


def test_own_validation_studies_may_be_of_one_class_but_not_unlabelled(train, valid):
    normal = valid[valid.label == 0]
    net = tiny_classifier(train_split=ValidStudies(normal), max_epochs=1).fit(train)
    assert np.isfinite(net.history[-1, "valid_loss"])
    with pytest.raises(ValueError, match="label"):
        tiny_classifier(train_split=ValidStudies(valid.drop(columns="label"))).fit(train)


def test_any_split_that_straddles_patients_is_refused():
    table = table_of(40)
    net = tiny_classifier(train_split=ValidSplit(4, stratified=False)).initialize()
    net.study_types_ = sorted(table.study_type.unique())
    with pytest.raises(ValueError, match="share no patient"):
        net.get_split_datasets(table)


def test_splits_say_what_they_are():
    assert repr(PatientSplit(0.25)) == "PatientSplit(0.25, random_state=0)"
    assert repr(ValidStudies(table_of(1))).startswith("ValidStudies(<")


def test_tables_that_share_a_patient_or_a_view_are_told_apart(train, valid):
    check_apart(train, valid)
    guest = valid.head(1).assign(patient=train["patient"].iloc[0])
    own = re.escape(f"studies {train['study'].iloc[0]} and {valid['study'].iloc[0]}; split by")
    with pytest.raises(
        ValueError, match=rf"valid split to share no patient, got 1 in both \(patient.*\), .* {own}"
    ):
        check_apart(train, pd.concat([valid, guest]))
    with pytest.raises(ValueError, match="share no view"):
        check_apart(train, train.head(1).assign(patient="nobody"))


# --- who and what is the same ----------------------------------------------------------------


def spelled(train, valid, ids, other_ids):
    """Two tables with these patients, one study each."""
    return [
        part.head(len(names)).assign(
            patient=pd.Series(names, part.index[: len(names)], dtype=object)
        )
        for part, names in ((train, ids), (valid, other_ids))
    ]


@pytest.mark.parametrize(
    ("ids", "other_ids"),
    [
        ([1, 2], [2.0, 3.0]),
        ([1, 2], ["2", "3"]),
        (["a", "M\u00fcller"], ["Mu\u0308ller", "b"]),
        (["a", " 2 "], ["2.0", "b"]),
    ],
)
def test_patients_on_both_sides_are_found_under_any_spelling(train, valid, ids, other_ids):
    first, second = spelled(train, valid, ids, other_ids)
    with pytest.raises(ValueError, match="share no patient, got 1 in both"):
        check_apart(first, second)


def test_patients_on_both_sides_that_differ_in_leading_zeros_are_named(train, valid):
    with pytest.warns(UserWarning, match="leading zeros count as different people: 007 and 7"):
        check_apart(*spelled(train, valid, ["007", "a"], ["7", "b"]))


def test_split_keeps_a_patient_together_whatever_its_ids_are_written_as():
    spellings = [str, int, float, lambda n: f" {n} ", lambda n: f"{n}.0", np.int64]
    table = pd.DataFrame(
        {
            "study_type": "XR_HAND",
            "patient": pd.Series([make(n) for n in range(30) for make in spellings], dtype=object),
            "views": [(f"{i}.png",) for i in range(180)],
            "label": [0, 1] * 90,
        }
    )
    for seed in range(3):
        parts = map(studies_of, PatientSplit(0.2, random_state=seed)(StudyDataset(table)))
        first, second = ({int(float(p)) for p in part["patient"]} for part in parts)
        assert not first & second
        assert len(second) == 6


@pytest.mark.parametrize("way", ["dots", "relative", "link", "hard link", "copy"])
def test_file_on_both_sides_is_found_under_any_path(train, way, tmp_path):
    guest = train.head(1).assign(patient="nobody")
    path = guest["views"].iloc[0][0]
    other = str(tmp_path / "other.png")
    if way == "dots":
        other = path.replace("/train/", "/train/../train//")
    elif way == "relative":
        other = os.path.relpath(path)
    elif way == "link":
        os.symlink(path, other)
    elif way == "hard link":
        try:
            os.link(path, other)
        except OSError:
            pytest.skip("the pictures are on another disk")
    else:
        shutil.copy(path, other)
    guest["views"] = [(other,)]
    assert other != path
    with pytest.raises(
        ValueError, match=r"share no view, got 1 in both.*correct the patient column"
    ):
        check_apart(train, guest)


def test_copies_within_the_training_part_are_told(train, valid, tmp_path):
    path = train["views"].iloc[0][0]
    shutil.copy(path, tmp_path / "again.png")
    copy = train.head(1).assign(views=[(str(tmp_path / "again.png"),)], patient="nobody")
    with pytest.warns(UserWarning, match=r"2 views are copies .* 1 different images: .*again.png"):
        check_apart(pd.concat([train, copy]), valid)


@pytest.mark.parametrize("kind", ["label", "study"])
def test_own_validation_studies_hold_each_file_once(train, valid, kind):
    again = valid.head(1).copy()
    again["views"] = [again["views"].iloc[0][::-1]]
    again["study"] = "again"
    if kind == "label":
        again["label"] = 1 - again["label"]
    wrong = pd.concat([valid, again])
    expected = {"label": "each file in studies of one label", "study": "each study once|several"}
    if kind == "study" and len(again["views"].iloc[0]) == 1:
        wrong = pd.concat([wrong, again.assign(study="third")])
    with pytest.raises(ValueError, match=expected[kind]):
        tiny_classifier(train_split=ValidStudies(wrong)).fit(train)


# --- what train_split takes --------------------------------------------------------------------


def parts_of(train, split):
    """Return the keys of the two parts that a fit would be made of."""
    net = tiny_classifier(train_split=split).initialize()
    net.study_types_ = sorted(train.study_type.unique())
    return [list(studies_of(part).study) for part in net.get_split_datasets(train)]


def test_share_is_that_of_patient_split(train):
    assert parts_of(train, 0.3) == parts_of(train, PatientSplit(0.3))
    assert parts_of(train, np.float32(0.25)) == parts_of(train, PatientSplit(0.25))


def test_table_dataset_and_predefined_split_are_valid_studies(train, valid):
    expected = parts_of(train, ValidStudies(valid))
    dataset = StudyDataset(valid, image_size=64)
    for split in (valid, dataset, predefined_split(valid), predefined_split(dataset)):
        assert parts_of(train, split) == expected
        net = tiny_classifier(train_split=split)
        assert net.split_(StudyDataset(train, image_size=48))[1].image_size == 48
        assert repr(net.split_) == f"ValidStudies(<{len(valid)} studies>)"
        assert type(clone(net).train_split) is type(split)
        assert f"train_split=ValidStudies(<{len(valid)} studies>)" in repr(net)


@pytest.mark.parametrize(
    "splitter",
    [
        *[GroupKFold(5), StratifiedGroupKFold(4), GroupShuffleSplit(3, test_size=0.25)],
        *[LeaveOneGroupOut(), StratifiedGroupKFold(4, shuffle=True)],
    ],
    ids=str,
)
def test_first_fold_of_a_splitter_keeps_patients_apart(train, splitter):
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    first, second = parts_of(train, splitter)
    patient = train.set_index("study").patient
    assert not set(patient[first]) & set(patient[second])
    assert sorted(first + second) == sorted(train.study)
    assert parts_of(train, splitter) == [first, second]
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


@pytest.mark.filterwarnings("ignore:The groups parameter is ignored")
def test_splitter_that_knows_no_groups_never_straddles_patients():
    table = table_of(40)
    with pytest.raises(ValueError, match="share no patient.*split by the patient column"):
        parts_of(table, KFold(4))


def test_splitter_that_asks_for_more_patients_says_so(train):
    with pytest.raises(
        ValueError, match=r"of \d+ patients that train_split=GroupKFold.*n_splits=99"
    ):
        parts_of(train, GroupKFold(99))


def test_split_that_returns_no_pair_is_refused(train):
    with pytest.raises(TypeError, match="train_split to return a pair.*got StudyDataset"):
        parts_of(train, lambda dataset, y: dataset)


def test_validation_studies_that_are_no_table_are_refused(train):
    with pytest.raises(TypeError, match="a study table in ValidStudies, got 'valid.csv'"):
        parts_of(train, ValidStudies("valid.csv"))


def test_split_of_one_own_that_is_no_pair_or_made_of_a_class_is_refused():
    for split in (PatientSplit, 3, "0.2", (1, 2)):
        with pytest.raises(TypeError, match="expected train_split.*pass a share such as 0.2"):
            as_split(split)
    for share in (0.0, 1.0, -0.5, float("nan")):
        with pytest.raises(ValueError, match="expected train_split as a share between 0 and 1"):
            as_split(share)
    assert as_split(None) is None
    assert as_split(False) is None
