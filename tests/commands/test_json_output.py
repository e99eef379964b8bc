"""What commands print with ``--json``."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from served import untrained

from mura_skorch import read_studies, write_phantoms
from mura_skorch.cli.main import SUBCOMMANDS, main
from mura_skorch.cli.options import Parser
from mura_skorch.commands.json_output import plain_value
from mura_skorch.report import write_report
from mura_skorch.studies import write_studies
from mura_skorch.tracking import TrackedRun

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "json_output.md").read_text()
ROWS = re.findall(r"^\| `(\w+)` \| (.*) \|$", PAGE.partition("| key |")[0], flags=re.MULTILINE)
KEYS = {name: set(re.findall(r"`(\w+)`", text)) for name, text in ROWS}
KEYS["evaluate"] = KEYS["predict"]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A folder of phantoms, a saved model, predictions, a report and a run with predictions."""
    folder = tmp_path_factory.mktemp("json")
    size = {"n_train": 1, "n_valid": 6, "n_test": 0, "study_types": ["XR_HAND"]}
    studies = read_studies(write_phantoms(folder / "data", **size))
    write_studies(studies.drop(columns="split"), folder / "studies.csv")
    write_studies(studies.assign(label=pd.NA), folder / "unlabelled.csv")
    untrained(0).save(folder / "model")
    rng = np.random.default_rng(0)
    label = np.array([0, 1] * 10)
    table = pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(20)],
            "study_type": "XR_HAND",
            "patient": [f"00{i // 2}" for i in range(20)],
            "label": label,
            "score": (label + rng.uniform(size=20)) / 2,
        }
    )
    table.to_csv(folder / "table.csv", index=False)
    write_report(folder / "report", table)
    with TrackedRun(name="evaluation") as run:
        run.log_folder(folder / "report", "report")
    return {name: str(folder / name) for name in ("data", "studies.csv", "unlabelled.csv")} | {
        "model": str(folder / "model"),
        "table": str(folder / "table.csv"),
        "report": str(folder / "report"),
        "run": run.run_id,
    }


CALLS = {
    "explore": "explore --data {data} --no-images --out out",
    "evaluate": "evaluate --predictions {table} --out out",
    "report": "report {report} --out out",
    "report of a run": "report {run} --out out",
    "compare": "compare {run} {run}",
    "config": "config train",
    "config of a table": "config evaluate --predictions {table}",
    "cache": "cache list .",
}
OF_MODELS = {
    "predict": "predict --model {model} --data {unlabelled.csv} --out out",
    "predict with labels": "predict --model {model} --data {studies.csv} --cases 0 --out out",
    "evaluate a model": "evaluate --model {model} --data {data} --cases 0 --out out",
    "config of a model": "config predict --model {model} --data {studies.csv}",
}


def call(text, places):
    words = text.split()
    for name, place in places.items():
        words = [word.replace(f"{{{name}}}", place) for word in words]
    return main([*words, "--json"])


@pytest.mark.parametrize(
    "name", [*CALLS, *(pytest.param(name, marks=pytest.mark.slow) for name in OF_MODELS)]
)
def test_stdout_is_one_object_with_the_documented_keys(name, places, capsys):
    text = (CALLS | OF_MODELS)[name]
    call(text, places)
    printed = capsys.readouterr()
    found = json.loads(printed.out, parse_constant=pytest.fail)
    assert set(found) == KEYS[text.split()[0]]
    assert printed.err
    for key in ("report", "predictions", "page"):
        assert found.get(key) is None or Path(found[key]).is_file()


def test_every_command_with_the_option_is_documented():
    with_option = set()
    for name, module in SUBCOMMANDS.items():
        parser = Parser()
        module.add_arguments(parser)
        if "--json" in parser.format_help() or name == "cache":
            with_option.add(name)
    assert with_option == set(KEYS)


def test_an_error_leaves_stdout_empty(capsys):
    with pytest.raises(SystemExit, match="expected"):
        main(["explore", "--data", "nowhere", "--json"])
    assert capsys.readouterr().out == ""


@pytest.mark.slow
def test_a_process_prints_nothing_else_either(places):
    command = [sys.executable, "-m", "mura_skorch", "compare", places["run"], places["run"]]
    found = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    assert json.loads(found.stdout)["n_studies"] == 20


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text()
        | st.sampled_from([np.float32(1), np.int64(2), pd.NA, pd.NaT, Path("a"), np.zeros(2)]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)  # fmt: skip
def test_any_result_can_be_written(value):
    assert json.loads(json.dumps(plain_value(value), allow_nan=False)) == plain_value(value)


def test_undefined_numbers_of_tables_are_null():
    table = pd.DataFrame({"kappa": [np.nan, 0.5], "n": pd.array([1, pd.NA], dtype="Int8")})
    assert plain_value(table) == [{"kappa": None, "n": 1}, {"kappa": 0.5, "n": None}]
