"""The command ``mura-skorch``, and the scripts that run one of its subcommands."""

import argparse
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from mura_skorch.cli import external, predict, reproduce_paper, sweep
from mura_skorch.cli.main import EPILOG, SUBCOMMANDS, main
from mura_skorch.cli.options import Parser
from mura_skorch.commands.reproduce_paper import PROTOCOLS
from mura_skorch.commands.sweep_settings import METRICS
from mura_skorch.inference.engines import EngineSetting, PrecisionSetting
from mura_skorch.studies.public_datasets import LAYOUTS

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    "ablate.py",
    "compare_runs.py",
    "explore_dataset.py",
    "external.py",
    "features.py",
    "per_body_part.py",
    "pointing_game.py",
    "predict.py",
    "reproduce_paper.py",
    "review_labels.py",
    "robustness.py",
    "sweep.py",
]
# Prints to stderr the large libraries that a program has imported, and its CPU seconds.
SPY = """
import atexit, resource, runpy, sys
LARGE = {"joblib", "matplotlib", "mlflow", "numpy", "pandas", "sklearn", "skorch", "torch"}

@atexit.register
def report():
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(sorted(LARGE & set(sys.modules)), used.ru_utime + used.ru_stime, file=sys.stderr, sep="|")

program, *sys.argv[1:] = sys.argv[1:]
if program.endswith(".py"):
    sys.argv[0] = program
    runpy.run_path(program, run_name="__main__")
else:
    runpy.run_module(program, run_name="__main__", alter_sys=True)
"""


def run(*words):
    return subprocess.run(
        [sys.executable, "-m", "mura_skorch", *words], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "words",
    [
        ["mura_skorch"],
        ["mura_skorch", "--help"],
        *(["mura_skorch", name, "--help"] for name in SUBCOMMANDS),
        *([str(ROOT / "experiments" / name), "--help"] for name in SCRIPTS),
    ],
    ids=" ".join,
)
def test_help_imports_no_large_library_and_takes_under_1_5_seconds(words):
    pytest.importorskip("resource")
    found = subprocess.run(
        [sys.executable, "-c", SPY, *words], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("usage: ")
    imported, seconds = found.stderr.splitlines()[-1].split("|")
    assert imported == "[]"
    assert float(seconds) < 1.5  # of CPU time, which other processes do not change: 0.1 is usual


def options_of(parser):
    """Yield the arguments of a parser and of its subcommands; argparse has no public list."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for choice in action.choices.values():
                yield from options_of(choice)
        else:
            yield action


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_help_shows_every_default(name):
    parser = Parser()
    SUBCOMMANDS[name].add_arguments(parser)
    for option in options_of(parser):
        assert option.help, f"{option.dest} has no help"
        default = option.default
        if default is None or default is False or default in ([], argparse.SUPPRESS):
            continue
        shown = option.help.replace("%(default)s", str(default))
        # The name of a new folder holds the time.
        text = "results/" if option.dest == "out" else str(default)
        assert f"default: {text}" in shown


@pytest.mark.parametrize(
    "name", ["ablate", "features", "reproduce_paper", "review_labels", "sweep", "train"]
)
def test_help_shows_the_defaults_that_depend_on_the_data(name):
    parser = Parser()
    importlib.import_module(f"mura_skorch.cli.{name}").add_arguments(parser)
    defaults = importlib.import_module(f"mura_skorch.commands.{name}").DEFAULTS
    help_of = {option.dest: option.help for option in options_of(parser)}
    of_the_machine = {"jobs": "1, phantoms: one per core", "threads": "one per core, phantoms: 1"}
    for name, (radiographs, phantoms) in defaults.items():
        text = (
            str(radiographs) if radiographs == phantoms else f"{radiographs}, phantoms: {phantoms}"
        )
        assert f"default: {of_the_machine.get(name, text)}" in help_of[name]


def test_engines_are_those_of_a_classifier():
    assert get_args(EngineSetting) == predict.ENGINES
    assert get_args(PrecisionSetting) == predict.PRECISIONS


def test_layouts_are_those_that_can_be_read():
    assert tuple(LAYOUTS) == external.LAYOUTS


def test_metrics_are_those_of_a_sweep():
    assert tuple(METRICS) == sweep.METRICS


def test_protocols_are_those_of_the_paper():
    assert tuple(PROTOCOLS) == reproduce_paper.PROTOCOLS


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_command_says_in_a_line_what_it_does_and_shows_a_call(name):
    summary, *rest = SUBCOMMANDS[name].__doc__.splitlines()
    assert summary.endswith(".")
    assert any(line.startswith(f"mura-skorch {name}") for line in rest)


def test_without_a_command_the_help_is_printed(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: mura-skorch")
    assert re.findall(r"^    ([a-z-]+)(?: |$)", text, re.MULTILINE) == list(SUBCOMMANDS)
    assert "exit status:" in text


@pytest.mark.parametrize(
    ("word", "remedy"),
    [("comapre", "did you mean compare?"), ("xyz", "see mura-skorch --help")],
)
def test_unknown_command_is_an_error_that_names_the_nearest(word, remedy):
    found = run(word)
    assert found.returncode == 2
    assert found.stderr.endswith(f"expected a command, got '{word}'; {remedy}\n")


@pytest.mark.parametrize(
    ("words", "usage", "message"),
    [
        (["explore", "--dta", "there"], "explore", "got --dta; did you mean --data?"),
        (["explore", "--dta=there"], "explore", "got --dta; did you mean --data?"),
        (["explore", "--xyz"], "explore", "got --xyz; see mura-skorch explore --help"),
        (["explore", "there"], "explore", "got there; see mura-skorch explore --help"),
        (["cache", "list", "c", "--jsn"], "cache list", "got --jsn; did you mean --json?"),
        (["config", "train", "--lrr", "1"], "train", "got --lrr; did you mean --lr?"),
        (["config", "tran"], "config", "got 'tran'; did you mean train?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_word_is_an_error_that_shows_the_usage_of_its_command(words, usage, message, capsys):
    with pytest.raises(SystemExit) as error:
        main(words)
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"usage: mura-skorch {usage} ")
    assert printed.endswith(f"{message}\n")


def test_error_is_one_line_on_stderr_with_status_1():
    found = run("explore", "--data", "nowhere")
    assert (found.returncode, found.stdout) == (1, "")
    assert re.match(r"mura-skorch explore: \S*nowhere: expected .*, got ", found.stderr)
    assert found.stderr.count("\n") == 1


def test_reader_that_ends_first_is_no_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "mura_skorch", "config", "explore"]
    found = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (found.returncode, found.stderr) == (141, "")


@pytest.mark.parametrize(
    "words",
    [
        ["explore", "--data", "phantoms"],
        ["train", "--data", "phantoms"],
        ["predict", "--model", "model", "--data", "phantoms"],
        ["compare", "a", "b"],
        ["review-labels", "--data", "phantoms"],
        ["features", "--data", "phantoms"],
        ["external", "--model", "model", "--data", "phantoms"],
        ["robustness", "--model", "model", "--data", "phantoms"],
    ],
    ids=lambda words: words[0],
)
def test_folder_that_nobody_may_write_to_is_an_error_before_any_work(words, monkeypatch):
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # as for those who are not root
    message = f"^mura-skorch {words[0]}: expected a writable folder to write there, got "
    with pytest.raises(SystemExit, match=message):
        main([*words, "--out", "here/table.csv"])
    assert not Path("here").exists()


def test_ctrl_c_ends_a_command_with_status_130(monkeypatch, capsys):
    def interrupted(args):
        raise KeyboardInterrupt

    monkeypatch.setattr(SUBCOMMANDS["explore"], "run", interrupted)
    assert main(["explore"]) == 130
    assert capsys.readouterr().err == "mura-skorch explore: stopped by Ctrl-C\n"


def test_page_of_the_command_line_names_every_command_and_exit_status():
    page = (ROOT / "docs" / "reference" / "command_line.md").read_text()
    assert set(re.findall(r"^\| `mura-skorch ([\w-]+)`", page, re.MULTILINE)) == set(SUBCOMMANDS)
    statuses = re.findall(r"^  (\d+) ", EPILOG, re.MULTILINE)
    assert {*re.findall(r"^\| (\d+) \|", page, re.MULTILINE)} == {*statuses}
