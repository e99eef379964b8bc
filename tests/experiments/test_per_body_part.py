import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from databases import database
from joblib.externals.loky import get_reusable_executor
from processes import children_of

from mura_skorch import write_phantoms
from mura_skorch.commands.script_state import lock_folder

SCRIPT = Path(__file__).parents[2] / "experiments" / "per_body_part.py"
QUICK = ["--image-size", "32", "--max-epochs", "1", "--weights", "none"]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="per_body_part")["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three types, so small that DenseNet-169 trains on each in a second."""
    return write_phantoms(
        tmp_path_factory.mktemp("data") / "phantoms",
        n_train=8,
        n_valid=4,
        n_test=1,
        study_types=["XR_ELBOW", "XR_HAND", "XR_WRIST"],
    )


@pytest.fixture
def own_store(tmp_path, restored_store):
    """A database of the test's own."""
    mlflow.set_tracking_uri(database(tmp_path))
    yield
    get_reusable_executor().shutdown(wait=True)  # workers keep the environment they began with


def all_runs():
    return mlflow.search_runs(search_all_experiments=True, output_format="list")


def statuses():
    return {run.info.run_name: run.info.status for run in all_runs()}


def start_long_script(data, jobs):
    """Start a training that would last for minutes; return once its first epoch is over."""
    command = [sys.executable, SCRIPT, "--data", data, "--out", "out", *QUICK, "--jobs", jobs]
    command[command.index("--max-epochs") + 1] = "500"
    script = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in script.stdout:
        if "epoch" in line and "left" in line:
            break
    return script


def study_level_results():
    metrics = pd.read_csv("out/metrics.csv")
    return metrics[metrics["level"] != "view"]


@pytest.mark.slow
def test_one_child_per_type_and_the_pooled_one_with_table_and_figure(main, data, own_store, capfd):
    assert main(["--data", str(data), "--out", "out", "--pooled", *QUICK, "--jobs", "1"]) == 0
    printed = capfd.readouterr().out
    note = "phantoms: no clinical meaning"
    for word in ("views/s", "left", note, "mlflow ui", "compareRunsMode=CHART"):
        assert word in printed
    table = printed[printed.index("study type") :]
    assert "pooled" in table.splitlines()[0]
    assert "paper" not in table.splitlines()[0]
    assert all(name in table for name in ("XR_ELBOW", "XR_HAND", "XR_WRIST", "overall"))
    runs = {run.info.run_name: run for run in all_runs()}
    assert set(runs) == {"per_body_part", "XR_ELBOW", "XR_HAND", "XR_WRIST", "all"}
    parent = runs.pop("per_body_part")
    children = {run.data.tags["mlflow.parentRunId"] for run in runs.values()}
    assert children == {parent.info.run_id}
    assert all("test/kappa" in run.data.metrics for run in [parent, *runs.values()])
    # The parent's overall figures pool three models; each child's are one model's.
    assert "test/probabilities/auroc_mean_of_types" in parent.data.metrics
    assert not any("mean_of" in name for run in runs.values() for name in run.data.metrics)
    assert parent.data.tags["note"] == note
    page = Path("out/report.html").read_text()
    for name, run in runs.items():
        assert re.search(rf"^  {name} +{run.info.run_id}$", printed, re.MULTILINE)
    call = f"predict --model {runs['XR_ELBOW'].info.run_id} --data {data}\n"
    assert call in printed[printed.index("Predict with one: ") :]
    for name, run in {"this page": parent, **runs}.items():
        row = rf"MLflow run of {name}</th>\s*<td>{run.info.run_id}</td>"
        assert re.search(row, page), name
    card = Path("out/model_card.md").read_text()
    assert "Trained on the study types XR_ELBOW, XR_HAND, XR_WRIST." in card
    train = {path.name for path in (data / "train").glob("*/*")}
    valid = {path.name for path in (data / "valid").glob("*/*")}
    apart = f"The {len(valid)} patients scored here share none with the {len(train)} of training"
    assert apart in page
    assert "sum over" not in page
    client = mlflow.MlflowClient()
    logged = {item.path for item in client.list_artifacts(parent.info.run_id, "report")}
    assert {"report/predictions.csv", "report/metrics.csv", "report/report.html"} <= logged
    predictions = pd.read_csv("out/predictions.csv")
    assert len(predictions) == 12
    assert predictions[["score", "pooled_score"]].notna().all(axis=None)
    results = study_level_results()
    types = ["XR_ELBOW", "XR_HAND", "XR_WRIST"]
    assert results["study_type"].tolist() == [*types, "mean of types", "overall"]
    assert results["n_models"].tolist() == [1, 1, 1, 3, 3]
    assert "pools the scores of 3 models" in table
    assert predictions["scored_by"].tolist() == predictions["study_type"].tolist()
    assert set(results["note"]) == {note}


@pytest.mark.slow
def test_two_jobs_on_a_fresh_database_give_the_same_numbers(main, data, own_store, tmp_path):
    (tmp_path / "mlflow.db").unlink()
    common = ["--data", str(data), "--study-types", "XR_HAND", "XR_WRIST", *QUICK]
    assert main([*common, "--jobs", "2", "--out", "two"]) == 0
    assert main([*common, "--jobs", "1", "--out", "one"]) == 0
    tables = [pd.read_csv(f"{out}/predictions.csv").sort_values("study") for out in ("one", "two")]
    assert tables[0]["score"].tolist() == tables[1]["score"].tolist()
    assert set(statuses().values()) == {"FINISHED"}


@pytest.mark.slow
def test_one_failing_type_does_not_lose_the_others(main, data, own_store, tmp_path, capsys):
    broken = shutil.copytree(data, tmp_path / "broken")
    view = next((broken / "train" / "XR_HAND").rglob("*.png"))
    view.write_bytes(b"no picture")
    assert main(["--data", str(broken), "--out", "out", *QUICK, "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "FAILED: " in printed
    assert view.name in printed
    found = statuses()
    assert found["XR_HAND"] == "FAILED"
    assert found["XR_ELBOW"] == found["XR_WRIST"] == "FINISHED"
    assert set(pd.read_csv("out/predictions.csv")["study_type"]) == {"XR_ELBOW", "XR_WRIST"}
    results = study_level_results().set_index("study_type")
    assert results.loc["XR_HAND", "status"].startswith("FAILED")
    assert results.loc["overall", "n"] == 8


@pytest.mark.slow
def test_killed_worker_does_not_lose_what_had_finished(data, own_store, tmp_path):
    script = start_long_script(data, "2")
    for child in children_of(script.pid):  # workers, and what tracks their resources
        os.kill(child, signal.SIGKILL)
    printed = script.communicate(timeout=60)[0]
    assert script.returncode == 1
    assert "a worker was killed; lower --jobs" in printed
    assert "RUNNING" not in statuses().values()
    assert Path("out/report.html").is_file()


def stopped(arguments, word, number):
    """Send a script the signal once it has printed a line with the words; return code and rest."""
    script = subprocess.Popen(
        [sys.executable, SCRIPT, *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in script.stdout:
        if line.split()[:3] == word.split():
            break
    os.kill(script.pid, number)
    rest = script.communicate(timeout=60)[0]
    return script.returncode, rest


@pytest.mark.faults
def test_resume_reproduces_uninterrupted_results(main, data, own_store, monkeypatch):
    call = ["--study-types", "XR_ELBOW", "XR_HAND", "--data", str(data)]
    call += [*QUICK, "--jobs", "1", "--max-epochs", "3"]
    code, rest = stopped([*call, "--out", "out"], "XR_ELBOW epoch 2/3", signal.SIGTERM)
    assert code == 143
    assert re.search(r"Resume with: python \S*per_body_part\.py --resume out\n", rest)
    code, _ = stopped(["--resume", "out"], "XR_HAND epoch 1/3", signal.SIGKILL)
    assert code == -signal.SIGKILL
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # torchrun repeats the call as it was
    assert main([*call, "--out", "out"]) == 0
    assert main([*call, "--out", "whole"]) == 0
    tables = [pd.read_csv(f"{out}/predictions.csv") for out in ("out", "whole")]
    pd.testing.assert_frame_equal(*tables)
    assert sorted(os.listdir("out")) == sorted(os.listdir("whole"))
    runs = [run for run in all_runs() if run.info.run_name != "per_body_part"]
    assert len(runs) == 4  # two of either call
    client = mlflow.MlflowClient()
    for run in runs:
        assert run.info.status == "FINISHED"
        for name, steps in {"train_loss": [1, 2, 3], "test/kappa": [0]}.items():
            history = client.get_metric_history(run.info.run_id, name)
            assert [point.step for point in history] == steps


def test_call_that_was_stopped_is_not_begun_again_by_chance(main, data, own_store, tmp_path):
    (tmp_path / "out" / "state").mkdir(parents=True)
    (tmp_path / "out" / "state" / "arguments.json").touch()
    with pytest.raises(SystemExit, match="resume it with --resume out"):
        main(["--data", str(data), "--out", "out", *QUICK])
    with pytest.raises(SystemExit, match="no readable state/arguments.json"):
        main(["--resume", "out"])
    with pytest.raises(SystemExit):
        main(["--resume", "out", "--lr", "1"])


def test_second_call_in_one_folder_is_told(main, data, own_store):
    with lock_folder(Path("out")), pytest.raises(SystemExit, match="free --out, got out, which"):
        main(["--data", str(data), "--out", "out", *QUICK])


def test_reserved_name_of_a_study_type_is_refused(main, data, own_store, tmp_path):
    renamed = shutil.copytree(data, tmp_path / "renamed", ignore=shutil.ignore_patterns("*.csv"))
    for split in ("train", "valid", "test"):
        (renamed / split / "XR_HAND").rename(renamed / split / "overall")
    with pytest.raises(SystemExit, match="study types other than all and overall"):
        main(["--data", str(renamed), *QUICK])


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_starts_no_further_type_and_exits_130(data, own_store, tmp_path, jobs):
    script = start_long_script(data, jobs)
    os.killpg(script.pid, signal.SIGINT)
    script.communicate(timeout=60)
    assert script.returncode == 130
    found = statuses()
    assert found.pop("per_body_part") == "KILLED"
    assert set(found.values()) == {"KILLED"}
    assert len(found) <= int(jobs)
    assert Path("out/report.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere"),
        (["--study-types", "XR_KNEE"], "XR_KNEE"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_bad_arguments_end_at_once_with_one_sentence(main, data, own_store, arguments, message):
    Path("mlflow.db").unlink()
    with pytest.raises(SystemExit, match=message):
        main(["--data", str(data), *arguments])
    assert not Path("mlflow.db").exists(), "no run was opened"
    assert not Path("results").exists()


@pytest.mark.slow
def test_real_wrists(main, real_root, own_store):
    assert main(["--data", str(real_root), "--out", "out", "--threads", "2",
                 "--weights", "none", "--image-size", "48", "--max-epochs", "2"]) == 0  # fmt: skip
    assert len(pd.read_csv("out/predictions.csv")) == 55
    run = next(run for run in all_runs() if run.info.run_name == "XR_WRIST")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "valid_loss")
    assert len(history) == 2
    assert run.info.status == "FINISHED"
