import numpy as np
import pandas as pd
import pytest
from nets import tiny_classifier
from sklearn.ensemble import BaggingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import resample

from mura_skorch import MuraEnsemble
from mura_skorch.studies import check_studies
from mura_skorch.studies.bagging import as_table


def quick(**params):
    return tiny_classifier(**{"max_epochs": 1, **params})


@pytest.mark.parametrize(
    "left_out", [[], ["note"], ["label"], ["label", "note"], ["split"], ["split", "label", "note"]]
)
def test_columns_of_read_studies_are_known_by_their_order(train, left_out):
    table = train.drop(columns=left_out)
    found = as_table(table.to_numpy())
    assert found.columns.tolist() == table.columns.tolist()
    assert found["views"].tolist() == table["views"].tolist()


def test_anything_else_is_left_as_it_is(train):
    for X in (train, [1], None, np.zeros((3, 7)), np.array(["a"], dtype=object)):
        assert as_table(X) is X


def swapped(table):
    return table[["study", "split", "patient", "study_type", "views", "label", "note"]]


@pytest.mark.parametrize(
    "change",
    [
        swapped,
        lambda table: table.assign(patient="everybody"),
        lambda table: table.assign(study_type="XR_ARM"),
        lambda table: table.assign(study=range(len(table))),
        lambda table: table.drop(columns="study"),
        lambda table: table.drop(columns="patient"),
        lambda table: table.assign(site="north"),
        lambda table: table.assign(views="a.png"),
        lambda table: table.assign(label=3),
    ],
)
def test_columns_that_the_key_does_not_confirm_are_not_guessed(train, change):
    with pytest.raises(TypeError, match="whose columns have no names.*in this order"):
        as_table(change(train).to_numpy(dtype=object))


def test_array_trains_and_predicts_as_its_table(train, valid):
    from_array = quick().fit(train.to_numpy())
    expected = quick().fit(train).predict_proba(valid)
    assert np.array_equal(from_array.predict_proba(valid.to_numpy()), expected)
    assert from_array.score(valid.to_numpy()) == from_array.score(valid)
    assert from_array.note_ == "phantoms: no clinical meaning"


# --- studies drawn with replacement ----------------------------------------------------------


def test_study_twice_in_a_table_is_a_mistake_unless_it_is_said_to_be_drawn(train):
    drawn = resample(train, random_state=0)
    with pytest.raises(ValueError, match="each study once.*need a column draw"):
        check_studies(drawn, for_fit=True)
    checked, labels = check_studies(drawn.assign(draw=range(len(drawn))), for_fit=True)
    assert len(checked) == len(labels) == len(train)


def test_study_drawn_twice_cannot_have_two_labels_or_two_keys(train):
    twice = pd.concat([train, train.iloc[:1]]).assign(draw=range(len(train) + 1))
    labels = twice["label"].to_numpy(dtype=int)
    check_studies(twice, labels, for_fit=True)
    labels[-1] = 1 - labels[-1]
    with pytest.raises(ValueError, match="each study once, got 1 repeated"):
        check_studies(twice, labels, for_fit=True)
    with pytest.raises(ValueError, match="expected y of the length of the table, 33, got 32"):
        check_studies(twice, labels[:-1], for_fit=True)
    keys = [*train["study"], "train/XR_HAND/other/study1_positive"]
    with pytest.raises(ValueError, match="each study once, got 1 repeated"):
        check_studies(twice.assign(study=keys), for_fit=True)


def test_study_drawn_twice_counts_twice_in_the_loss(train):
    alone = train[train.study_type == "XR_HAND"]
    abnormal = alone[alone.label == 1]
    drawn = pd.concat([alone, abnormal])
    net = quick(train_split=None, criterion__count="studies")
    net.fit(drawn.assign(draw=range(len(drawn))))
    share = len(abnormal) * 2 / len(drawn)
    assert net.criterion_.class_weight[0, 0].item() == pytest.approx(share)


def test_drawn_studies_of_a_patient_stay_on_one_side(train):
    drawn = resample(train, random_state=0)
    net = quick().fit(drawn.assign(draw=range(len(drawn))))
    parts = net.get_split_datasets(drawn.assign(draw=range(len(drawn))))
    first, second = (part.dataset.studies.iloc[part.indices]["patient"] for part in parts)
    assert not set(first) & set(second)


# --- bagging ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [quick, lambda: make_pipeline(quick()), lambda: MuraEnsemble([("a", quick())])],
    ids=["classifier", "pipeline", "ensemble"],
)
def test_bag_of_bootstraps_trains_and_averages(make, train, valid):
    bag = BaggingClassifier(make(), n_estimators=2, random_state=0).fit(train, train["label"])
    proba = bag.predict_proba(valid)
    members = [model.predict_proba(valid) for model in bag.estimators_]
    np.testing.assert_allclose(proba, np.mean(members, axis=0), atol=1e-6)
    assert not np.array_equal(*members)
    assert 0 <= bag.score(valid, valid["label"]) <= 1


def test_bag_of_two_processes_is_the_bag_of_one(train, valid):
    X, y = train.drop(columns="label"), train["label"].astype(int)
    settings = {"n_estimators": 2, "max_samples": 0.7, "random_state": 0}
    alone = BaggingClassifier(quick(), **settings).fit(X, y)
    both = BaggingClassifier(quick(), n_jobs=2, **settings).fit(X, y)
    valid = valid.drop(columns="label")
    np.testing.assert_allclose(both.predict_proba(valid), alone.predict_proba(valid), atol=1e-6)


def test_bag_without_replacement(train, valid):
    bag = BaggingClassifier(quick(), n_estimators=2, bootstrap=False, max_samples=0.7)
    assert bag.fit(train, train["label"]).predict(valid).shape == (len(valid),)


def test_bag_of_a_table_without_keys_says_what_is_missing(train):
    bare = train[["study_type", "patient", "views"]]
    with pytest.raises(TypeError, match="Give it a table with the columns study, split"):
        BaggingClassifier(quick()).fit(bare, train["label"])
