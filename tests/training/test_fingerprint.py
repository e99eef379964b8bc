"""What decides whether an interrupted training may be resumed."""

import re
from pathlib import Path

import pandas as pd
import pytest
import torch
from nets import tiny_classifier
from torch.utils.data import Subset

from mura_skorch.data import StudyDataset
from mura_skorch.training.fingerprint import differences, digest_of, fingerprint_of
from mura_skorch.training.fit_data import FitData


@pytest.fixture
def table(tmp_path):
    rows = []
    for number in range(4):
        folder = tmp_path / "anna" / f"study{number}"
        folder.mkdir(parents=True)
        views = tuple(str(folder / f"image{i}.png") for i in range(2))
        for view in views:
            Path(view).write_bytes(bytes(10 + number))
        rows.append(
            {"study": f"s{number}", "study_type": "XR_HAND", "patient": f"p{number // 2}"}
            | {"views": views, "label": number % 2}
        )
    return pd.DataFrame(rows)


def test_digest_counts_the_studies_and_is_the_same_each_time(table):
    found = digest_of(StudyDataset(table))
    assert found.startswith("4 with digest ")
    assert found == digest_of(StudyDataset(table.copy()))
    assert digest_of(None) == "none"


def other_label(table):
    return table.assign(label=[1, 1, 0, 1])


def other_patient(table):
    return table.assign(patient=["p0", "p0", "p1", "p2"])


def other_type(table):
    return table.assign(study_type=["XR_HAND", "XR_HAND", "XR_HAND", "XR_WRIST"])


def other_size_of_a_file(table):
    Path(table["views"][0][0]).write_bytes(bytes(99))
    return table


def other_order_of_studies(table):
    return table.iloc[::-1]


def other_order_of_views(table):
    return table.assign(views=[views[::-1] for views in table["views"]])


def fewer_studies(table):
    return table.head(3)


@pytest.mark.parametrize(
    "change",
    [
        other_label,
        other_patient,
        other_type,
        other_size_of_a_file,
        other_order_of_studies,
        other_order_of_views,
        fewer_studies,
    ],
)
def test_digest_tells_what_the_result_depends_on(table, change):
    before = digest_of(StudyDataset(table))
    assert digest_of(StudyDataset(change(table))) != before


def test_digest_does_not_depend_on_the_folder_or_on_extra_columns(table, tmp_path):
    before = digest_of(StudyDataset(table))
    moved = (tmp_path / "anna").rename(tmp_path / "bert")
    views = [tuple(v.replace("anna", moved.name) for v in views) for views in table["views"]]
    assert digest_of(StudyDataset(table.assign(views=views, site="north"))) == before


def test_digest_of_a_subset_is_that_of_its_table(table):
    subset = Subset(StudyDataset(table), [2, 0])
    assert digest_of(subset) == digest_of(StudyDataset(table.iloc[[2, 0]]))


def test_views_without_a_file_have_a_digest(table):
    missing = table.assign(views=[("absent.png",)] * 4)
    assert digest_of(StudyDataset(missing)).startswith("4 with digest ")


def test_differences_name_both_values_and_what_only_one_side_has():
    before = {"lr": "0.1", "level": "study", "seed": "0"}
    now = {"lr": "0.2", "level": "study", "count": "views"}
    assert differences(before, now).split("; ") == [
        "lr was 0.1 and is 0.2",
        "seed was 0 and is None",
        "count was None and is views",
    ]
    assert differences(before, dict(before)) == ""


def fingerprint(table, **params):
    net = tiny_classifier(train_split=None, **params).initialize()
    data = FitData(StudyDataset(table), None, ["XR_HAND"], class_counts=None, unreadable=None)
    return fingerprint_of(net, data)


def test_fingerprint_holds_what_changes_a_number_and_nothing_else(table):
    plain = fingerprint(table)
    assert plain["lr"] == "0.001"
    assert plain["validation studies"] == "none"
    free = {"verbose": 1, "device": "cpu", "dataset__cache": "cache"}
    assert fingerprint(table, iterator_train__num_workers=2, **free) == plain
    deciding = [{"lr": 0.5}, {"optimizer": torch.optim.SGD}, {"criterion__level": "view"}]
    assert all(fingerprint(table, **params) != plain for params in deciding)


def test_fingerprint_names_no_folder_and_no_address_in_memory(table, tmp_path):
    found = fingerprint(table, callbacks__best__dirname=tmp_path / "anna" / "best")
    assert found["callbacks__best__dirname"] == "best"
    assert "anna" not in str(found)
    assert not re.search("0x[0-9a-f]{6}", str(fingerprint(table, module__augment=Jitter())))


class Jitter:
    """An augmentation without a text of its own."""

    def __call__(self, views):
        return views
