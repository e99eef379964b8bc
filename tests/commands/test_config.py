"""The command ``mura-skorch config``."""

import json

import pytest

from mura_skorch import write_phantoms
from mura_skorch.cli.main import main
from mura_skorch.studies import read_studies, write_studies

SIZE = {"n_train": 4, "n_valid": 2, "n_test": 0, "study_types": ["XR_HAND"]}


def config(capsys, *words):
    assert main(["config", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_defaults_are_filled_in_from_the_data(capsys, tmp_path):
    studies = read_studies(write_phantoms(tmp_path / "data", **SIZE))
    write_studies(studies, "drawn.csv")
    write_studies(studies.drop(columns="note"), "clinic.csv")
    drawn = config(capsys, "train", "--data", "drawn.csv", "--lr", "0.01")
    assert drawn["settings"]["max_epochs"] == 3
    assert drawn["settings"]["lr"] == drawn["model"]["lr"] == 0.01
    assert drawn["given"] == ["data", "lr"]
    assert drawn["data"]["splits"] == {"train": 4, "valid": 2}
    clinic = config(capsys, "train", "--data", "clinic.csv")
    assert clinic["settings"]["max_epochs"] == 10
    assert clinic["model"]["module__weights"] == "IMAGENET1K_V1"


def test_nothing_is_run_and_nothing_drawn(capsys, tmp_path):
    assert config(capsys, "train")["settings"]["data"] == "phantoms"
    assert list(tmp_path.iterdir()) == []


def test_text_marks_what_is_a_default(capsys):
    assert main(["config", "explore", "--data", "clinic.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "mura-skorch explore would run with"
    assert "  data = clinic.csv" in lines
    assert "  jobs = -1  (default)" in lines


@pytest.mark.parametrize("words", [["comapre"], ["config"], ["train", "--lr", "high"]])
def test_a_wrong_call_is_an_error_of_the_call(words, capsys):
    with pytest.raises(SystemExit) as error:
        main(["config", *words])
    assert error.value.code == 2


def test_data_that_the_command_would_refuse_is_refused():
    with pytest.raises(SystemExit, match="mura-skorch config: .*expected a table of studies"):
        main(["config", "train", "--data", "nowhere.csv"])
