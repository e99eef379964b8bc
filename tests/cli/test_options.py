from pathlib import Path

import pytest

from mura_skorch.cli import options
from mura_skorch.cli.options import add_option, make_parser


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


@pytest.mark.parametrize("word", ["10", "0", "1", "-0.1", "nan", "many"])
@pytest.mark.parametrize("name", ["--prevalence", "--valid-share"])
def test_shares_are_between_0_and_1(name, word, capsys):
    with pytest.raises(SystemExit):
        parsed(name, name, word)
    assert "expected a share between 0 and 1, got" in capsys.readouterr().err


def test_prevalences_are_shares():
    found = parsed("--prevalence", "--prevalence", "0.05", ".2")
    assert found == {"prevalence": [0.05, 0.2]}
