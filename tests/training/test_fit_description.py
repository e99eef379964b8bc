import json

import pytest
from nets import TinyNet, tiny_classifier

from mura_skorch import MuraClassifier, ValidStudies
from mura_skorch.training.fit_record import FitRecord
from mura_skorch.utils.identity import count_patients


def test_record_counts_both_parts_and_no_shared_patient(fitted, train):
    found = fitted.record_.fitted_on
    parts = found["parts"]
    assert list(parts) == ["training", "validation"]
    for name in ("studies", "views", "abnormal", "patients"):
        total = sum(part[name] for part in parts.values())
        expected = {
            "studies": len(train),
            "views": train["views"].map(len).sum(),
            "abnormal": (train["label"] == 1).sum(),
            "patients": count_patients(train["patient"]),
        }
        assert total == expected[name]
    assert (found["n_shared"], found["is_separate"]) == (0, False)
    assert found["given"] == len(train)
    assert found["read"]["studies"] > len(train)


def test_validation_table_of_its_own_is_named_so(train, valid):
    clf = tiny_classifier(max_epochs=1, train_split=ValidStudies(valid)).fit(train)
    found = clf.record_.fitted_on
    assert found["is_separate"]
    assert found["parts"]["validation"]["studies"] == len(valid)
    assert found["parts"]["training"]["studies"] == found["given"] == len(train)


def test_fit_on_everything_has_one_part(train):
    found = tiny_classifier(max_epochs=1, train_split=None).fit(train).record_.fitted_on
    assert list(found["parts"]) == ["training"]


def test_unreadable_views_and_studies_are_counted(train, tmp_path):
    broken = [tmp_path / "one.png", tmp_path / "other.png"]
    for number, file in enumerate(broken):
        file.write_bytes(b"no picture" * (number + 1))
    views = list(train["views"])
    views[0], views[1] = (str(broken[0]),), (*views[1], str(broken[1]))
    table = train.assign(views=views)
    clf = tiny_classifier(max_epochs=1, on_bad_view="skip", max_bad_share=0.5)
    with pytest.warns(UserWarning, match="unreadable views are left out"):
        clf.fit(table)
    found = clf.record_.fitted_on
    assert (found["unreadable_studies"], found["unreadable_views"]) == (1, 2)
    n_parts = sum(part["studies"] for part in found["parts"].values())
    assert n_parts == found["given"] - 1


def test_loaded_model_keeps_the_description_and_holds_no_id(fitted, train, tmp_path):
    fitted.save(tmp_path)
    loaded = MuraClassifier.load(tmp_path, module=TinyNet)
    assert loaded.record_.fitted_on == fitted.record_.fitted_on
    text = json.dumps(loaded.record_.fitted_on)
    assert not any(f'"{patient}"' in text for patient in train["patient"])
    assert loaded.trained_patients_ == loaded.validated_patients_ == set()


def test_record_of_an_older_model_has_no_description():
    assert FitRecord.from_dict({"seed": 3}).fitted_on == {}
