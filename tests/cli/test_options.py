import shutil
from pathlib import Path

import pytest

from mura_skorch import read_studies
from mura_skorch.cli import options
from mura_skorch.cli.options import add_option, find_data, make_parser, read_train_valid


def parsed(name, *words, **changes):
    parser = make_parser("Which one?")
    add_option(parser, name, **changes)
    return vars(parser.parse_args(words))


@pytest.mark.parametrize("name", options.OPTIONS)
def test_every_shared_option_can_be_added(name):
    assert list(parsed(name)) == [name.removeprefix("--").replace("-", "_")]


def test_experiments_change_defaults_but_not_the_shared_ones():
    assert parsed("--lr", default=0.5) == {"lr": 0.5}
    assert parsed("--lr") == {"lr": None}


def test_output_folder_is_new_below_results_unless_it_is_given():
    assert parsed("--out")["out"].parent == Path("results")
    assert parsed("--out", "--out", "here") == {"out": Path("here")}


def test_prevalences_are_shares():
    found = parsed("--prevalence", "--prevalence", "0.05", ".2")
    assert found == {"prevalence": [0.05, 0.2]}
    for word in ("10", "0", "many"):
        with pytest.raises(SystemExit):
            parsed("--prevalence", "--prevalence", word)


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
