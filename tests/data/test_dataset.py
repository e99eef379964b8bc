import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from mura_skorch.data import ArrayViews, StudyDataset, is_cached, prepare_views, studies_of


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


# ----------------------------------------------------------------- source of views


def missing(n_studies=2):
    return pd.DataFrame(
        {"study_type": "A", "views": [(f"no/such/image{k}.png",) for k in range(n_studies)]}
    )


@pytest.mark.parametrize("on_bad_view", ["raise", "skip"])
@pytest.mark.parametrize("cache", [None, "cache"])
def test_constructor_reads_no_image(cache, on_bad_view, tmp_path):
    dataset = StudyDataset(missing(), cache=cache, on_bad_view=on_bad_view)
    assert len(dataset) == 2
    assert list(tmp_path.iterdir()) == []
    if cache is not None or on_bad_view == "skip":
        with pytest.raises((FileNotFoundError, ValueError), match="no/such|readable"):
            dataset.prepare()


def test_views_in_memory_are_those_of_the_files(valid):
    files = StudyDataset(valid, image_size=16)
    arrays = ArrayViews(np.concatenate([files[row][0]["views"] for row in range(len(valid))]))
    unnamed = valid.assign(views=[("unknown",) * len(views) for views in valid["views"]])
    in_memory = StudyDataset(unnamed, views=arrays).prepare()
    for row in range(len(valid)):
        assert torch.equal(in_memory[row][0]["views"], files[row][0]["views"])
    assert is_cached(Subset(in_memory, [0]))
    assert not is_cached(files)


def test_views_in_memory_stay_as_they_are_when_a_sample_is_written_to():
    arrays = np.zeros((2, 4, 4), dtype=np.uint8)
    dataset = StudyDataset(missing(), views=ArrayViews(arrays))
    dataset[1][0]["views"].fill_(7)
    assert not arrays.any()


@pytest.mark.parametrize("settings", [{"cache": "cache"}, {"on_bad_view": "skip"}])
def test_given_views_have_neither_cache_nor_files_to_skip(settings):
    with pytest.raises(ValueError, match="leave views out to read the files"):
        StudyDataset(missing(), views=ArrayViews(np.zeros((2, 4, 4), np.uint8)), **settings)


def test_prepare_drops_unreadable_views_once(tmp_path):
    paths = write_views(tmp_path, [9, 3])
    (tmp_path / "image1.png").write_bytes(b"")
    table = pd.DataFrame({"study_type": ["A", "B"], "views": [paths[:1], paths[1:]], "label": 1})
    dataset = StudyDataset(table, on_bad_view="skip")
    part = Subset(dataset, [0])
    with pytest.raises(ValueError, match=r"2 studies became 1; call prepare\(\)"):
        prepare_views(part)
    bad_views = dataset.bad_views
    assert dataset.prepare() is dataset
    assert dataset.bad_views is bad_views
    assert (len(dataset), dataset.study_types, len(bad_views)) == (1, ["A"], 1)
    assert prepare_views(part) is part


def test_estimator_prepares_a_dataset_that_it_is_given(fitted, valid, tmp_path):
    dataset = StudyDataset(
        valid, image_size=32, study_types=fitted.study_types_, cache=tmp_path / "cache"
    )
    np.testing.assert_array_equal(fitted.predict_proba(dataset), fitted.predict_proba(valid))
