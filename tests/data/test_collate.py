import pickle

import torch

from mura_skorch.data import StudyCollate


def sample(n_views, fill=5, study_type=0, label=1.0):
    views = torch.full((n_views, 4, 4), fill, dtype=torch.uint8)
    return {"views": views, "study_type": study_type}, label


def test_batch_has_one_row_per_study_whatever_their_numbers_of_views():
    inputs, label = StudyCollate()([sample(1), sample(12), sample(3)])
    assert inputs["views"].shape == (3, 12, 4, 4)
    assert inputs["view_mask"].sum(dim=1).tolist() == [1, 12, 3]
    assert {value.shape[0] for value in inputs.values()} == {3}
    assert label.shape == (3,)


def test_dtypes_are_those_of_the_contract():
    inputs, label = StudyCollate()([sample(2)])
    assert inputs["views"].dtype == torch.uint8
    assert inputs["view_mask"].dtype == torch.bool
    assert inputs["study_type"].dtype == torch.int64
    assert label.dtype == torch.float32


def test_masked_views_are_the_given_ones_in_order():
    inputs, _ = StudyCollate()([sample(2, fill=1), sample(1, fill=2), sample(3, fill=3)])
    real = inputs["views"][inputs["view_mask"]]
    assert real[:, 0, 0].tolist() == [1, 1, 2, 3, 3, 3]
    assert inputs["views"][~inputs["view_mask"]].sum() == 0


def test_collate_can_be_sent_to_a_worker():
    assert repr(pickle.loads(pickle.dumps(StudyCollate()))) == "StudyCollate()"
