"""What a fit knows of its data."""

import warnings

import numpy as np
import pytest
from nets import tiny_classifier
from skorch.callbacks import Callback

from mura_skorch import PatientSplit, ValidStudies
from mura_skorch.data import StudyDataset, studies_of
from mura_skorch.studies import check_studies
from mura_skorch.training import fingerprint, fit_data
from mura_skorch.training.fit_data import prepare_fit


def make_dataset(X, y, study_types):
    return StudyDataset(X, y, study_types=study_types, image_size=32)


def prepare(table, **settings):
    X, y = check_studies(table, for_fit=True)
    settings = {"split": PatientSplit(0.25), **settings}
    return prepare_fit(X, y, make_dataset=make_dataset, **settings)


def test_parts_counts_and_types_are_those_of_the_table(train):
    data = prepare(train, known_types=["XR_ELBOW"])
    assert data.study_types == ["XR_ELBOW", "XR_HAND", "XR_WRIST"]
    part = studies_of(data.train)
    assert len(part) + len(studies_of(data.valid)) == len(train)
    assert data.class_counts.label.tolist() == part["label"].tolist()
    assert data.class_counts.n_views.tolist() == part["views"].map(len).tolist()
    names = [data.study_types[code] for code in data.class_counts.study_type]
    assert names == part["study_type"].tolist()
    assert data.unreadable is None


def test_each_digest_is_computed_once_and_only_if_it_is_read(train, monkeypatch):
    counted = []

    def count(dataset):
        counted.append(dataset)
        return fingerprint.digest_of(dataset)

    monkeypatch.setattr(fit_data, "digest_of", count)
    data = prepare(train)
    assert counted == []
    assert data.valid_digest == data.valid_digest == fingerprint.digest_of(data.valid)
    assert counted == [data.valid]
    assert data.train_digest != data.valid_digest


def test_without_a_split_everything_is_trained_on(train):
    data = prepare(train, split=None)
    assert data.valid is None
    assert data.valid_digest == "none"
    assert len(studies_of(data.train)) == len(train)


def test_rule_without_validation_data_is_refused(train):
    with pytest.raises(ValueError, match="validation data to choose the threshold by 'youden'"):
        prepare(train, split=None, rule="youden")


def test_patients_that_were_trained_on_are_not_validated_on(train, valid):
    first = prepare(train, split=ValidStudies(valid))
    with pytest.raises(ValueError, match="never trained on, got"):
        prepare(train, trained_patients=set(studies_of(first.train)["patient"]))


def test_getting_the_parts_of_a_table_changes_nothing(train):
    net = tiny_classifier().initialize()
    before = net.record_, net.criterion_.class_weight.clone(), net.trained_patients_
    parts = net.get_split_datasets(train)
    assert [len(part) for part in parts] == [len(part) for part in net.get_split_datasets(train)]
    assert (net.record_, net.trained_patients_) == (before[0], before[2])
    assert np.array_equal(net.criterion_.class_weight, before[1])
    assert not hasattr(net, "bad_views_")


def test_warning_about_the_table_comes_once_in_a_fit(train):
    table = train.copy()
    first, second = table.index[:2]
    table.at[first, "views"] = table.at[first, "views"] + table.at[second, "views"][:1]
    table.loc[[first, second], ["patient", "label"]] = ["one", 0]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiny_classifier(max_epochs=1, train_split=None).fit(table)
    said = [str(item.message) for item in caught if "in several studies" in str(item.message)]
    assert len(said) == 1


class Receiver(Callback):
    """Store what training begins with."""

    def on_train_begin(self, net, X=None, data=None, is_comparable=None, **kwargs):
        self.seen_ = X, data, is_comparable


def test_callbacks_receive_the_data_of_the_fit(train):
    receiver = Receiver()
    net = tiny_classifier(max_epochs=1, callbacks=[("receiver", receiver)]).fit(train)
    X, data, _ = receiver.seen_
    assert list(X["study"]) == list(train["study"])
    assert data.study_types == net.study_types_
    assert net.record_.digests == {"validation": data.valid_digest}
    net.partial_fit(train)
    assert receiver.seen_[2] is True
