import shutil
from pathlib import Path

import pytest

from mura_skorch import read_studies
from mura_skorch.commands.data import find_data, read_train_valid


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
