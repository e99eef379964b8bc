import sys
from pathlib import Path

import pytest

from mura_skorch.commands.runs import own_program, runs_sentence


@pytest.fixture
def environment(monkeypatch):
    """An environment that is not activated, with a program."""
    folder = Path("my env/bin")
    folder.mkdir(parents=True)
    for name in ("python", "mlflow"):
        (folder / name).write_text("#!/bin/sh\n")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str((folder / "python").resolve()))
    monkeypatch.setenv("PATH", "/nowhere")
    return folder


def test_program_of_an_environment_that_is_not_active_is_called_by_its_path(environment):
    assert own_program("mlflow") == "'my env/bin/mlflow'"
    assert runs_sentence("3").startswith("Runs: start 'my env/bin/mlflow' ui here and open http")


def test_program_on_the_path_is_called_by_its_name(environment, monkeypatch):
    monkeypatch.setenv("PATH", str(environment.resolve()))
    assert own_program("mlflow") == "mlflow"


def test_program_that_is_nowhere_keeps_its_name(environment):
    assert own_program("mura-skorch") == "mura-skorch"


def test_runs_on_a_server_need_no_page_of_ones_own(monkeypatch):
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: "http://tracking:5000")
    assert runs_sentence("3").startswith("Runs: open http://tracking:5000/#/experiments/3/")
