import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from mura_skorch.commands import script_state
from mura_skorch.commands.script_state import (
    STATE_FILES,
    check_new,
    check_settings,
    checkpoint_path,
    clear,
    load_args,
    lock_folder,
    resume_command,
    save_args,
)

OUT = Path("out")


@pytest.fixture(autouse=True)
def out(own_folder):
    OUT.mkdir()


def test_saved_arguments_come_back_with_absolute_paths():
    save_args(OUT, Namespace(lr=0.1, types=["XR_HAND"], cache=None, data=Path("data")))
    assert load_args(OUT) == Namespace(
        lr=0.1, types=["XR_HAND"], cache=None, data=Path("data").absolute()
    )


def test_folder_is_new_until_arguments_are_saved_and_again_once_cleared():
    check_new(OUT)
    save_args(OUT, Namespace(lr=0.1))
    with pytest.raises(ValueError, match="resume it with --resume out"):
        check_new(OUT)
    clear(OUT)
    check_new(OUT)
    with pytest.raises(ValueError, match="no readable state/arguments.json"):
        load_args(OUT)


def test_damaged_arguments_are_an_error_that_names_the_folder():
    save_args(OUT, Namespace(lr=0.1))
    (OUT / "state" / "arguments.json").write_text('{"lr": ')
    with pytest.raises(ValueError, match="got out, which has no readable"):
        load_args(OUT)


def test_folder_is_locked_once_and_free_afterwards():
    with lock_folder(OUT), pytest.raises(ValueError, match="free --out, got out"), lock_folder(OUT):
        pass
    with lock_folder(OUT):
        pass
    assert list(OUT.iterdir()) == []


def test_folder_is_free_after_an_error():
    with pytest.raises(ZeroDivisionError), lock_folder(OUT):
        raise ZeroDivisionError
    with lock_folder(OUT):
        pass


def test_state_files_are_all_that_lock_and_state_write():
    with lock_folder(OUT):
        save_args(OUT, Namespace())
        assert {path.name for path in OUT.iterdir()} == set(STATE_FILES)


def test_checkpoints_of_different_fits_have_different_files_in_one_folder():
    paths = [checkpoint_path(OUT, name) for name in ("XR_HAND", "a/b", "a/c")]
    assert len(set(paths)) == 3
    assert {path.parent for path in paths} == {OUT / "state"}


def test_first_settings_are_saved_and_others_are_refused_by_name():
    check_settings(OUT, {"lr": 0.1, "size": 64})
    check_settings(OUT, {"lr": 0.1, "size": 64})
    with pytest.raises(ValueError, match="got different lr, depth; pass another --out"):
        check_settings(OUT, {"lr": 0.2, "size": 64, "depth": 3})
    assert json.loads((OUT / "settings.json").read_text()) == {"lr": 0.1, "size": 64}


@pytest.mark.parametrize(
    ("program", "command"),
    [
        ("experiments/ablate.py", "python experiments/ablate.py --resume out"),
        ("/usr/bin/mura-skorch", "mura-skorch train --resume out"),
        ("/package/mura_skorch/__main__.py", "mura-skorch train --resume out"),
    ],
)
def test_resume_command_is_the_one_that_was_called(program, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", [program, "train", "--out", "out"])
    assert resume_command(OUT) == command
    monkeypatch.setattr(script_state, "count_processes", lambda: 2)
    call = command.removeprefix("python ")
    assert resume_command(OUT).startswith(f"torchrun OPTIONS -m mura_skorch.distributed {call}, ")
