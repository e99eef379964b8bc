import shutil
from pathlib import Path

import pytest

from mura_skorch import read_studies
from mura_skorch.commands.data import choose_split, find_data, read_train_valid
from mura_skorch.studies import write_studies


def test_phantoms_are_drawn_only_once_and_only_if_no_folder_is_given(capsys):
    assert find_data(Path("mine")) == Path("mine")
    assert not Path("drawn").exists()
    size = {"n_train": 4, "n_valid": 4, "n_test": 0, "study_types": ["XR_HAND"]}
    for said in ("No --data: drawing phantoms into drawn/ ...\n", ""):
        assert find_data(None, Path("drawn"), **size) == Path("drawn")
        assert capsys.readouterr().out == said
    assert len(read_train_valid(Path("drawn"))) == len(read_studies("drawn")) == 8


def test_folder_without_a_valid_split_is_refused(phantom_root, tmp_path):
    shutil.copytree(phantom_root / "train", tmp_path / "half" / "train")
    with pytest.raises(ValueError, match="expected a train and a valid split in .*'train'"):
        read_train_valid(tmp_path / "half")


def test_table_without_splits_is_taken_whole_unless_a_split_is_wanted(phantom_root):
    studies = read_studies(phantom_root)
    chosen, names = choose_split(studies, None, "--split", "here")
    assert "train" not in names
    assert set(chosen["split"]) == set(names)
    whole = studies.drop(columns="split")
    chosen, names = choose_split(whole, None, "--split", "here")
    assert len(chosen) == len(studies)
    assert names == []
    with pytest.raises(ValueError, match="expected a column split in here for --split valid"):
        choose_split(whole, "valid", "--split", "here")
    with pytest.raises(ValueError, match="expected --split among .* in here, got other"):
        choose_split(studies, "other", "--split", "here")


def test_training_on_a_table_needs_its_splits(phantom_root):
    studies = read_studies(phantom_root)
    write_studies(studies, "whole.csv")
    assert len(read_train_valid("whole.csv")) == len(studies)
    write_studies(studies.drop(columns="split"), "half.csv")
    with pytest.raises(
        ValueError, match="expected a column split with train and valid in half.csv"
    ):
        read_train_valid("half.csv")
