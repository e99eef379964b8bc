from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import pytest
from full_size import full_size_studies, write_full_size
from PIL import Image

from mura_skorch.evaluation.published import (
    STUDY_COUNTS,
    compare_counts,
    is_mura,
    published_counts,
    resembles_mura,
)
from mura_skorch.evaluation.published.counts import IMAGE_COUNTS, PATIENT_COUNTS, VIEW_COUNTS
from mura_skorch.exploration import describe, explore_studies
from mura_skorch.metrics import OVERALL
from mura_skorch.studies import read_studies


@pytest.fixture
def full_root():
    """A folder of MURA's structure and size; every image is the same tiny picture."""
    # In memory where that is possible: some disks take a minute to delete it.
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        folder = Path(name)
        Image.fromarray(np.eye(8, dtype=np.uint8)).save(folder / "picture.png")
        yield write_full_size(folder / "MURA-v1.1", folder / "picture.png")


@pytest.fixture(scope="module")
def full():
    """The table of such a folder, without the folder."""
    rows = []
    for study, n_views in full_size_studies().items():
        views = tuple(f"{study}/image{i + 1}.png" for i in range(n_views))
        rows.append((study, *study.split("/")[:3], views, study[-8:] == "positive"))
    table = pd.DataFrame(
        rows, columns=["study", "split", "study_type", "patient", "views", "label"]
    )
    return table.astype({"label": "Int8"})


# ---- the published figures agree with each other


def test_image_counts_sum_to_published_totals():
    totals = {s: np.sum(list(IMAGE_COUNTS[s].values()), axis=0).tolist() for s in IMAGE_COUNTS}
    assert totals == {"train": [21935, 14873], "valid": [1667, 1530]}


def test_view_counts_agree_with_studies_and_images():
    for split, counts in VIEW_COUNTS.items():
        assert sum(counts.values()) == np.sum(list(STUDY_COUNTS[split].values()))
        images = sum(n_views * n for n_views, n in counts.items())
        assert images == np.sum(list(IMAGE_COUNTS[split].values()))


def test_patient_counts_are_between_patients_and_studies():
    for split, counts in PATIENT_COUNTS.items():
        types = {name: n for name, n in counts.items() if name != OVERALL}
        assert sum(types.values()) > counts[OVERALL]
        assert all(n <= sum(STUDY_COUNTS[split][name]) for name, n in types.items())


def test_class_weights_from_counts_equal_the_paper():
    counts = published_counts().set_index(["split", "study_type"]).loc["train"]
    weights = counts["normal_views"] / (counts["normal_views"] + counts["abnormal_views"])
    assert weights["XR_ELBOW"] == pytest.approx(0.5932, abs=5e-5)
    assert weights["XR_SHOULDER"] == pytest.approx(0.5026, abs=5e-5)


# ---- a table beside them


@pytest.mark.slow
def test_exploration_of_mura_agrees_with_every_published_count(full):
    found = explore_studies(full, read_images=False)
    assert is_mura(full)
    assert found.published["agrees"].all()
    # 2 splits x 8 rows x 5 counts, and the numbers of studies of so many views.
    assert len(found.published) == 80 + len(VIEW_COUNTS["train"]) + len(VIEW_COUNTS["valid"])
    assert any(
        "published counts of MURA v1.1" in finding.text and finding.kind == "good"
        for finding in describe(found)
    )
    spanning = found.spanning.set_index("split")["spanning_share"]
    assert spanning.round(2).to_dict() == {"train": 0.13, "valid": 0.32}
    assert found.studies_per_patient.query("study_type != 'overall'")["n_studies"].max() <= 4
    assert found.shared_patients.empty


@pytest.mark.slow
def test_full_size_folder_is_read_and_explored_with_its_images(full_root):
    studies = read_studies(full_root)
    found = explore_studies(studies)
    assert (len(studies), len(found.images)) == (14656, 40005)
    assert found.published["agrees"].all()
    assert found.unreadable.empty
    assert len(found.duplicates) == 40005  # one picture, copied


def test_missing_study_is_listed(full):
    found = explore_studies(full.drop(index=0), read_images=False)
    published = found.published
    differing = published[~published["agrees"]]
    assert resembles_mura(published)
    assert 4 <= len(differing) <= 10
    assert (differing["published"] - differing["found"]).between(1, 11).all()
    assert any("counts differ from the published" in f.text for f in describe(found))


def test_single_type_of_mura_is_compared(full):
    found = explore_studies(full[full.study_type == "XR_HAND"], read_images=False)
    assert set(found.published["study_type"]) == {"XR_HAND"}
    assert found.published["agrees"].all()


def test_single_split_of_mura_is_compared(full):
    found = explore_studies(full[full.split == "valid"], read_images=False)
    assert set(found.published["split"]) == {"valid"}
    assert found.published["agrees"].all()


def test_other_datasets_do_not_resemble_mura(studies):
    found = explore_studies(studies, read_images=False)
    assert not resembles_mura(found.published)
    assert any(
        "The counts are not those of MURA v1.1." in finding.text for finding in describe(found)
    )


def test_other_types_and_splits_are_not_compared():
    counts = published_counts().assign(split="2019", study_type="XR_KNEE")
    assert not resembles_mura(compare_counts(counts))


def test_type_unknown_to_mura_has_no_published_counts():
    counts = published_counts()
    counts = pd.concat([counts, counts[:1].assign(study_type="XR_KNEE")])
    compared = compare_counts(counts).set_index("study_type")
    assert not compared.loc["XR_KNEE", "agrees"].any()
    assert compared.drop(index="XR_KNEE")["agrees"].all()
