import numpy as np
import pandas as pd
import pytest

from mura_skorch.inspection import nearest_studies


@pytest.fixture
def train():
    return pd.DataFrame(
        {
            "study": ["a", "b", "c", "d"],
            "patient": ["1", "2", "2", "3"],
            "study_type": ["XR_HAND", "XR_HAND", "XR_WRIST", "XR_HAND"],
            "label": pd.array([0, 1, pd.NA, 1], dtype="Int8"),
            "views": [(f"{name}.png",) for name in "abcd"],
        }
    )


FEATURES = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 0.0]], dtype="float32")


def found(patients, features, train, **options):
    studies = pd.DataFrame({"study": [f"s{p}" for p in patients], "patient": patients})
    return nearest_studies(studies, np.array(features), train, FEATURES, **options)


def test_nearest_come_first_with_their_cosine_distance(train):
    table = found(["9"], [[2.0, 0.1]], train, n_nearest=4)
    assert table["nearest"].tolist() == ["a", "b", "c", "d"]
    assert table["rank"].tolist() == [1, 2, 3, 4]
    cosine = FEATURES @ [2.0, 0.1] / np.linalg.norm(FEATURES, axis=1) / np.hypot(2.0, 0.1)
    np.testing.assert_allclose(table["distance"], 1 - cosine, atol=1e-6)
    assert table["views"].tolist() == [("a.png",), ("b.png",), ("c.png",), ("d.png",)]


def test_length_of_features_does_not_matter(train):
    one, other = (found(["9"], [[k, 3 * k]], train) for k in (1.0, 100.0))
    pd.testing.assert_frame_equal(one, other)


def test_own_patient_is_never_nearest_in_any_form_of_the_id(train):
    for patient in ("2", 2, 2.0, " 2 "):
        table = found([patient], [[0.0, 1.0]], train, n_nearest=4)
        assert table["nearest"].tolist() == ["a", "d"]


def test_only_studies_of_the_own_patient_give_no_rows(train):
    table = found(["1"], [[1.0, 0.0]], train.assign(patient=1))
    assert table.empty


def test_many_studies_are_found_as_one_by_one(train, monkeypatch):
    monkeypatch.setattr("mura_skorch.inspection.neighbours.CHUNK", 2)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(5, 2))
    table = found(list("56789"), features, train)
    singles = [found([p], [own], train) for p, own in zip("56789", features, strict=True)]
    pd.testing.assert_frame_equal(table, pd.concat(singles, ignore_index=True))


def test_what_cannot_be_compared_is_refused(train):
    with pytest.raises(ValueError, match="expected a column patient in train"):
        found(["9"], [[1.0, 0.0]], train.drop(columns="patient"))
    with pytest.raises(ValueError, match="each of the 1 rows of studies, got 2"):
        found(["9"], [[1.0, 0.0]] * 2, train)
    with pytest.raises(ValueError, match="expected finite features"):
        found(["9"], [[np.nan, 0.0]], train)
