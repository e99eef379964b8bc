import json

import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation import characteristics_table, describe_studies
from mura_skorch.evaluation.characteristics import add_descriptions
from mura_skorch.utils.provenance import data_digest


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "study": list("abcdef"),
            "study_type": ["XR_HAND"] * 4 + ["XR_WRIST"] * 2,
            "patient": [1, 1, 2, 3, 3, 4],
            "views": [("1", "2"), ("3",), ("4",), ("5",), ("6", "7", "8"), ("9",)],
            "label": pd.array([1, 0, 0, pd.NA, 1, 0], dtype="Int8"),
            "Age": [10, 20, 30, 40, np.nan, 50],
            "sex": ["F", "F", "M", "M", "M", None],
        }
    )


def test_counts_are_those_of_the_table(table):
    found = describe_studies(table)
    counts = {name: found[name] for name in ("patients", "studies", "views", "abnormal")}
    assert counts == {"patients": 4, "studies": 6, "views": 9, "abnormal": 2}
    assert found["unlabelled"] == 1
    assert found["types"]["XR_WRIST"]["patients"] == 2
    assert found["columns"]["age"] == {"quartiles": [20.0, 30.0, 40.0], "missing": 1}
    assert found["columns"]["sex"]["counts"] == {"F": 2, "M": 3}


def test_description_holds_no_id_and_is_json(table):
    names = {"study": [f"key-{k}" for k in "abcdef"], "patient": [f"id-{k}" for k in "abcdef"]}
    text = json.dumps(describe_studies(table.assign(**names)))
    assert "key-" not in text
    assert "id-" not in text


def test_study_table_and_prediction_table_have_one_digest_and_one_description(table):
    scored = table.assign(n_views=table["views"].map(len), score=0.5).drop(columns="views")
    assert describe_studies(scored) == describe_studies(table)
    columns = ["study", "study_type", "patient", "label", "n_views"]
    assert describe_studies(table)["digest"] == data_digest(scored[columns])


def test_column_of_many_sites_is_only_counted():
    table = pd.DataFrame({"study_type": "XR_HAND", "views": [("1",)] * 30, "site": range(30)})
    found = describe_studies(table)["columns"]["site"]
    assert (found["counts"], found["more_values"]) == ({}, 30)


def test_table_has_a_column_per_partition_and_only_rows_with_something(table):
    parts = {"training": describe_studies(table[:4]), "scored": describe_studies(table[4:])}
    found = characteristics_table(parts).set_index("characteristic")
    assert list(found) == ["training", "scored"]
    assert found.loc["abnormal studies"].tolist() == ["1 (33 %)", "1 (50 %)"]
    assert found.loc["XR_WRIST: studies"].tolist() == ["0 (0 %)", "2 (100 %)"]
    assert found.loc["age in years: median (quartiles)", "training"] == "25 (18 to 32)"
    assert found.loc["sex: F"].tolist() == ["2 (50 %)", "0 (0 %)"]
    assert not any(name.startswith("site") for name in found.index)


def test_descriptions_of_different_types_add_up(table):
    hands, wrists = (table[table["study_type"] == name] for name in ("XR_HAND", "XR_WRIST"))
    added, both = add_descriptions(*map(describe_studies, (hands, wrists))), describe_studies(table)
    for name in ("studies", "views", "abnormal", "types"):
        assert added[name] == both[name]
    assert added["columns"]["sex"] == both["columns"]["sex"]
    assert added["digest"] == "several"
    assert "age" not in added["columns"]
    assert added["patients"] == both["patients"] + 1  # one has studies of both types


def test_empty_table_is_described():
    empty = pd.DataFrame({"study_type": [], "patient": [], "label": [], "n_views": []})
    found = describe_studies(empty)
    assert (found["studies"], found["patients"], found["types"]) == (0, 0, {})
    assert len(characteristics_table({"scored here": found}))
