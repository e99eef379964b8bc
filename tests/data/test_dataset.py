import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils.data import Subset

from mura_skorch.data import StudyDataset, studies_of


def write_views(folder, greys):
    """Return paths of flat pictures of the given greys."""
    paths = tuple(str(folder / f"image{i}.png") for i in range(len(greys)))
    for path, grey in zip(paths, greys, strict=True):
        Image.fromarray(np.full((20, 30), grey, dtype=np.uint8)).save(path)
    return paths


def test_sample_holds_all_views_in_the_order_of_the_table(tmp_path):
    table = pd.DataFrame(
        {"study_type": ["XR_HAND"], "views": [write_views(tmp_path, [9, 3, 7])], "label": [1]}
    )
    inputs, label = StudyDataset(table, image_size=8)[0]
    assert inputs["views"].shape == (3, 8, 8)
    assert inputs["views"].dtype == torch.uint8
    assert inputs["views"][:, 0, 0].tolist() == [9, 3, 7]
    assert label == 1.0


def test_study_types_index_the_given_list_and_unseen_ones_its_end():
    table = pd.DataFrame({"study_type": ["B", "C", "A"], "views": [("x",)] * 3})
    assert StudyDataset(table).codes.tolist() == [1, 2, 0]
    assert StudyDataset(table, study_types=["A", "B"]).codes.tolist() == [1, 2, 0]


def test_unlabelled_studies_carry_nan(studies):
    dataset = StudyDataset(studies)
    unlabelled = studies["label"].isna().to_numpy()
    assert unlabelled.any()
    assert np.isnan(dataset.labels[unlabelled]).all()
    assert not np.isnan(dataset.labels[~unlabelled]).any()


def test_given_labels_replace_those_of_the_table():
    table = pd.DataFrame({"study_type": ["A", "A"], "views": [("x",)] * 2, "label": [0, 0]})
    dataset = StudyDataset(table, [1, 0])
    assert dataset.labels.tolist() == [1, 0]
    assert studies_of(dataset)["label"].tolist() == [1, 0]
    assert table["label"].tolist() == [0, 0]


def test_table_behind_a_subset_of_a_subset_keeps_the_order(train):
    part = Subset(Subset(StudyDataset(train), [5, 3, 8, 1]), [2, 0])
    assert studies_of(part)["study"].tolist() == train["study"].iloc[[8, 5]].tolist()


def test_dataset_of_other_studies_keeps_preparation_and_codes(train, valid):
    dataset = StudyDataset(train, image_size=16, study_types=["XR_HAND", "XR_WRIST"])
    wrists = valid[valid.study_type == "XR_WRIST"]
    other = dataset.with_studies(wrists)
    assert other[0][0]["views"].shape[1:] == (16, 16)
    assert set(other.codes) == {1}
