import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from databases import database

from mura_skorch import write_phantoms
from mura_skorch.evaluation import compare_seeds

SCRIPT = Path(__file__).parents[2] / "experiments" / "ablate.py"
NOTE = "phantoms: no clinical meaning"
QUICK = ["--image-size", "32", "--max-epochs", "1", "--seeds", "2", "--jobs", "1"]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="ablate")["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """So small that DenseNet-169 trains on it in a second."""
    return write_phantoms(
        tmp_path_factory.mktemp("data") / "phantoms",
        n_train=8,
        n_valid=6,
        n_test=1,
        study_types=["XR_WRIST"],
    )


@pytest.fixture
def own_store(tmp_path, restored_store):
    """A database of the test's own."""
    mlflow.set_tracking_uri(database(tmp_path))


def all_runs():
    runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
    return {run.info.run_name: run for run in runs}


@pytest.mark.slow
def test_two_settings_are_compared_seed_by_seed(main, data, own_store, capsys):
    Path("b.txt").write_text("flip_average=True  # the only difference\n")
    assert main(["defaults", "b.txt", "--data", str(data), "--out", "out", *QUICK]) == 0
    printed = capsys.readouterr().out
    for words in (NOTE, "A: defaults", "4 of 4 models", "2 seeds each, tested on 6 studies", "SD"):
        assert words in printed
    predictions = pd.read_csv("out/predictions.csv")
    scores = [
        predictions[predictions.setting == name].pivot_table("score", "seed", "study")
        for name in "AB"
    ]
    test = predictions.drop_duplicates("study").set_index("study").loc[scores[0].columns]
    expected = compare_seeds(test.label, *scores, groups=test.patient)
    found = pd.read_csv("out/results.csv")
    numbers = expected.select_dtypes("number")
    pd.testing.assert_frame_equal(found[numbers.columns], numbers, check_dtype=False)
    runs = all_runs()
    assert set(runs) == {"ablate", "A_seed_0", "A_seed_1", "B_seed_0", "B_seed_1"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    parent = runs.pop("ablate")
    assert {run.data.tags["mlflow.parentRunId"] for run in runs.values()} == {parent.info.run_id}
    assert "test/kappa_difference" in parent.data.metrics
    assert all("test/kappa" in run.data.metrics for run in runs.values())
    assert runs["B_seed_0"].data.params["flip_average"] == "True"
    assert "flip_average" not in runs["A_seed_0"].data.params
    logged = {item.path for item in mlflow.MlflowClient().list_artifacts(parent.info.run_id)}
    assert {"results.csv", "seeds.csv", "predictions.csv"} <= logged
    assert set(pd.read_csv("out/seeds.csv")["note"]) == {NOTE}


def test_network_of_ones_own_is_compared(main, data, own_store):
    own = SCRIPT.parent / "records" / "2026-11-29_ablations" / "small_network.py"
    call = ["defaults", "module__max_views=1", "--module", f"{own}:SmallNetwork"]
    assert main([*call, "--data", str(data), "--out", "out", *QUICK]) == 0
    runs = all_runs()
    assert runs["A_seed_0"].data.params["module"] == "SmallNetwork"
    assert runs["B_seed_1"].data.params["module__max_views"] == "1"


@pytest.mark.faults
def test_resume_reproduces_uninterrupted_results(main, data, own_store):
    call = ["defaults", "callbacks__ema__decay=0.9", "--data", str(data), *QUICK]
    call[call.index("--max-epochs") + 1] = "3"
    script = subprocess.Popen(
        [sys.executable, SCRIPT, *call, "--out", "out"],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in script.stdout:
        if line.split()[:3] == ["B_seed_0", "epoch", "2/3"]:
            break
    os.kill(script.pid, signal.SIGTERM)
    rest = script.communicate(timeout=60)[0]
    assert script.returncode == 143
    assert "ablate.py --resume out" in rest
    assert main(["--resume", "out"]) == 0
    assert main([*call, "--out", "whole"]) == 0
    for name in ("predictions", "results", "seeds"):
        tables = [pd.read_csv(f"{out}/{name}.csv") for out in ("out", "whole")]
        pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["defaults", "lr=fast"], "ablate: expected lr to be a number"),
        (["defaults", "learning_rate=1"], "did you mean lr?"),
        (["defaults", "random_state=1"], "without random_state, which the script sets"),
        (["defaults", "nowhere.txt"], "got nowhere.txt, which is none"),
        (["defaults", "defaults", "--module", "nets.py:Small"], "--module FILE:CLASS"),
        (["defaults", "defaults", "--seeds", "0"], "--seeds of 1 or more, got 0"),
        (["defaults", "defaults", "--study-types", "XR_HIP"], "--study-types among"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(main, data, settings, message):
    with pytest.raises(SystemExit, match="ablate: ") as error:
        main([*settings, "--data", str(data), "--out", "out"])
    assert message in str(error.value)
    assert not Path("out").exists()


def test_missing_setting_is_asked_for(main, capsys):
    with pytest.raises(SystemExit):
        main(["defaults"])
    assert "expected two settings, A and B" in capsys.readouterr().err
