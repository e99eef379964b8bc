import html
import os
import re
import runpy
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from databases import database
from servers import Postgres

from mura_skorch import write_phantoms
from mura_skorch.commands.settings import read_settings

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "sweep.py"
NOTE = "phantoms: no clinical meaning"
QUICK = [
    *("--module", f"{ROOT}/tests/helpers/nets.py:TinyNet"),
    *("--set", "module__weights=None,precision=float32"),
    *("--space", "lr=1e-4:1e-1:log", "batch_size=4,8"),
    *("--image-size", "32", "--max-epochs", "2", "--threads", "1", "--heartbeat", "1"),
    *("--valid-share", "0.3", "--out", "out"),
]


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="sweep")["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Phantoms of which no program can read the valid split's images."""
    folder = write_phantoms(
        tmp_path_factory.mktemp("data") / "phantoms",
        n_train=16,
        n_valid=6,
        n_test=1,
        study_types=["XR_WRIST"],
    )
    for number, file in enumerate(sorted((folder / "valid").rglob("*.png"))):
        file.write_bytes(b"unreadable %d" % number)
    return folder


@pytest.fixture
def own_store(tmp_path, restored_store):
    """A database of the test's own."""
    mlflow.set_tracking_uri(database(tmp_path))


def call(data, *changes):
    """Return the arguments; a later one replaces an earlier one."""
    return ["--data", str(data), *QUICK, *map(str, changes)]


def all_runs():
    return mlflow.search_runs(search_all_experiments=True, output_format="list")


def parent_and_trials():
    """Return the run of the sweep, and the runs of its trials by number."""
    runs = {run.info.run_id: run for run in all_runs()}
    (parent,) = [run for run in runs.values() if "mlflow.parentRunId" not in run.data.tags]
    trials = {
        int(run.info.run_name.removeprefix("trial ")): run
        for run in runs.values()
        if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id
    }
    return parent, trials


def start(data, *changes):
    """Start a worker; its lines are read from ``stdout``."""
    environment = {**os.environ, "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()}
    return subprocess.Popen(
        [sys.executable, SCRIPT, *call(data, *changes)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip


def read_until(worker, pattern):
    """Read the lines of a worker up to one that a pattern finds."""
    lines = []
    for line in worker.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    raise AssertionError(f"{pattern} is not in:\n{''.join(lines)}")


@pytest.mark.slow
def test_every_trial_is_on_record_and_the_valid_split_is_not_read(main, data, own_store, capsys):
    assert main(call(data, "--trials", 4)) == 0
    printed = capsys.readouterr().out
    assert NOTE in printed
    assert "4 of 4 trials" in printed
    parent, trials = parent_and_trials()
    assert sorted(trials) == [0, 1, 2, 3]
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED"}
    table = pd.read_csv("out/trials.csv")
    assert set(table["state"]) == {"complete"}
    assert set(table["note"]) == {NOTE}
    for row in table.itertuples():
        params, metrics = trials[row.trial].data.params, trials[row.trial].data.metrics
        assert float(params["lr"]) == pytest.approx(row.lr)
        assert params["batch_size"] == str(row.batch_size)
        assert metrics["valid/loss"] == pytest.approx(row.value)
    assert table["lr"].nunique() == 4
    logged = {item.path for item in mlflow.MlflowClient().list_artifacts(parent.info.run_id)}
    assert {"sweep.html", "trials.csv", "history.png", "importance.png"} <= logged
    assert not list(Path("out/state").iterdir()), "checkpoints of trials that ended"


@pytest.mark.slow
def test_page_has_the_lines_that_train_the_best_trial(main, data, own_store):
    assert main(call(data, "--trials", 2, "--space", "lr=1e-4:1e-1:log", "optimizer=Adam")) == 0
    page = html.unescape(Path("out/sweep.html").read_text())
    recipe, command = re.findall("<code>((?:import|mura-skorch) .*?)</code>", page, re.DOTALL)
    found = {}
    exec(recipe, found)
    table = pd.read_csv("out/trials.csv").set_index("trial")
    best = table.loc[table["value"].idxmin()]
    assert min(found["clf"].history[:, "valid_loss"]) == pytest.approx(best["value"])
    settings = read_settings(shlex.split(command)[3])
    assert settings["lr"] == pytest.approx(best["lr"])
    assert settings["optimizer"] == "Adam"
    assert settings["precision"] == "float32"


@pytest.mark.slow
def test_same_command_runs_no_trial_twice_and_more_trials_are_added(main, data, own_store):
    assert main(call(data, "--trials", 2)) == 0
    before = pd.read_csv("out/trials.csv")
    assert main(call(data, "--trials", 2)) == 0
    pd.testing.assert_frame_equal(pd.read_csv("out/trials.csv"), before)
    assert main(call(data, "--trials", 3)) == 0
    after = pd.read_csv("out/trials.csv")
    pd.testing.assert_frame_equal(after.head(2), before)
    assert len(parent_and_trials()[1]) == len(after) == 3


@pytest.mark.slow
def test_pruned_trials_are_finished_runs_with_a_tag(main, data, own_store):
    pruning = ("--prune", "median", "--n-random", 1, "--max-epochs", 3, "--trials", 6)
    assert main(call(data, *pruning)) == 0
    table = pd.read_csv("out/trials.csv").set_index("trial")
    pruned = table.index[table["state"] == "pruned"]
    assert len(pruned)
    trials = parent_and_trials()[1]
    for number in pruned:
        assert trials[number].info.status == "FINISHED"
        assert trials[number].data.tags["pruned"] == "true"
        points = mlflow.MlflowClient().get_metric_history(trials[number].info.run_id, "valid_loss")
        assert len(points) == table.loc[number, "epochs"] <= 3


@pytest.mark.slow
def test_folds_score_every_patient_and_a_re_estimate_is_added(main, data, own_store):
    folds = ("--folds", 2, "--metric", "valid_kappa", "--trials", 2)
    assert main(call(data, *folds)) == 0
    assert main(call(data, *folds, "--re-estimate", "folds")) == 0
    files = sorted(path.name for path in Path("out/predictions").iterdir())
    assert files == [f"trial-{trial}-{fold}.csv" for trial in (0, 1) for fold in (0, 1)]
    parts = [pd.read_csv(f"out/predictions/trial-0-{fold}.csv") for fold in (0, 1)]
    assert not set(parts[0]["patient"]) & set(parts[1]["patient"])
    assert sum(map(len, parts)) == len(list((data / "train").rglob("study*")))
    page = Path("out/sweep.html").read_text()
    assert "Trained again with another seed on 5 fresh folds" in page
    runs = {run.info.run_name: run for run in all_runs()}
    assert {"trial 0 fold 1", "trial 1 fold 2"} <= set(runs)
    assert any(name.startswith("re-estimate folds") for name in runs)
    assert "valid/kappa" in runs["trial 0"].data.metrics
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


@pytest.mark.slow
def test_best_setting_is_tested_on_the_valid_split_on_request(main, tmp_path, own_store):
    data = write_phantoms(
        tmp_path / "phantoms", n_train=16, n_valid=6, n_test=1, study_types=["XR_WRIST"]
    )
    assert main(call(data, "--trials", 1, "--re-estimate", "valid")) == 0
    assert "tested on the valid split" in Path("out/sweep.html").read_text()
    tested = [run for run in all_runs() if "test/kappa" in run.data.metrics]
    assert [run.info.run_name for run in tested] == ["re-estimate valid 0"]


@pytest.mark.slow
def test_trial_that_fails_is_listed_and_the_others_remain(main, data, own_store):
    Path("nets.py").write_text(
        "from runpy import run_path\n"
        f"TinyNet = run_path({str(ROOT / 'tests/helpers/nets.py')!r})['TinyNet']\n"
        "class Fragile(TinyNet):\n"
        "    def forward(self, *args, **inputs):\n"
        "        if self.max_views == 1:\n"
        "            raise RuntimeError('too fragile')\n"
        "        return super().forward(*args, **inputs)\n"
    )
    fragile = ("--module", "nets.py:Fragile", "--space", "module__max_views=1,2")
    main(call(data, *fragile, "--trials", 6))
    table = pd.read_csv("out/trials.csv")
    failed = table[table["state"] == "failed"]
    assert len(failed)
    assert set(failed["error"]) == {"too fragile"}
    assert (failed["module__max_views"] == 1).all()


@pytest.mark.faults
def test_two_workers_at_once_share_the_trials(data, own_store, tmp_path):
    (tmp_path / "mlflow.db").unlink()  # both make it
    workers = [start(data, "--trials", 6) for _ in range(2)]
    printed = [worker.communicate(timeout=300)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], printed
    parent, trials = parent_and_trials()
    assert sorted(trials) == list(range(6))
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED"}
    table = pd.read_csv("out/trials.csv")
    assert set(table["state"]) == {"complete"}
    assert set(table["attempts"]) == {1}
    assert table["lr"].nunique() == 6
    done = [len(re.findall(r"^trial \d+ complete", text, re.MULTILINE)) for text in printed]
    assert sum(done) == 6
    assert min(done) > 0


@pytest.mark.faults
def test_killed_trial_continues_from_its_checkpoint_in_its_run(main, data, own_store, capsys):
    long = ("--trials", 2, "--max-epochs", 6)
    worker = start(data, *long)
    read_until(worker, r"trial 0-0 +epoch +3/6")
    worker.kill()
    worker.wait()
    (run,) = [run for run in all_runs() if run.info.run_name == "trial 0"]
    assert run.info.status == "RUNNING"
    assert main(call(data, *long)) == 0
    printed = capsys.readouterr().out
    assert "trial 0 again: lr" in printed
    epochs = re.findall(r"trial 0-0 +epoch +(\d)/6", printed)
    assert epochs[-1] == "6"
    assert epochs[0] in ("3", "4"), printed
    parent, trials = parent_and_trials()
    assert trials[0].info.run_id == run.info.run_id
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED"}
    table = pd.read_csv("out/trials.csv").set_index("trial")
    assert table["attempts"].to_dict() == {0: 2, 1: 1}
    points = mlflow.MlflowClient().get_metric_history(run.info.run_id, "valid_loss")
    assert [point.step for point in points] == [1, 2, 3, 4, 5, 6]


@pytest.mark.faults
def test_living_worker_takes_over_from_a_killed_one_and_keeps_its_own_run(data, own_store):
    long = ("--trials", 3, "--max-epochs", 12)
    killed, living = (start(data, *long) for _ in range(2))
    number = re.search(r"trial (\d)-0", read_until(killed, r"trial \d-0 +epoch +2/12"))[1]
    read_until(living, r"trial \d-0 +epoch +1/12")
    killed.kill()
    killed.wait()
    printed = living.communicate(timeout=300)[0]
    assert living.returncode == 0, printed
    parent, trials = parent_and_trials()
    assert sorted(trials) == [0, 1, 2]
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED"}
    table = pd.read_csv("out/trials.csv").set_index("trial")
    assert set(table["state"]) == {"complete"}
    assert table["attempts"].to_dict() == {0: 1, 1: 1, 2: 1} | {int(number): 2}


@pytest.mark.faults
def test_frozen_worker_loses_no_result(data, own_store):
    long = ("--trials", 1, "--max-epochs", 4)
    frozen = start(data, *long)
    read_until(frozen, r"trial 0-0 +epoch +2/4")
    os.kill(frozen.pid, signal.SIGSTOP)
    try:
        time.sleep(8)
        other = start(data, *long)
        printed = other.communicate(timeout=300)[0]
        assert "trial 0 held" in printed
    finally:
        os.kill(frozen.pid, signal.SIGCONT)
    rest = frozen.communicate(timeout=300)[0]
    assert frozen.returncode == 0, rest
    table = pd.read_csv("out/trials.csv")
    assert table["state"].tolist() == ["complete"]
    assert "epoch  4/4" in rest
    parent, trials = parent_and_trials()
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED"}


@pytest.mark.faults
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_sweep_continues_by_the_same_command(main, data, own_store, number, code):
    long = ("--trials", 2, "--max-epochs", 6)
    worker = start(data, *long)
    read_until(worker, r"trial 0-0 +epoch +2/6")
    worker.send_signal(number)
    rest = worker.communicate(timeout=60)[0]
    assert worker.returncode == code, rest
    assert "The same command continues." in rest
    assert {run.info.status for run in all_runs()} == {"KILLED"}
    assert main(call(data, *long)) == 0
    parent, trials = parent_and_trials()
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED"}
    assert main(call(data, "--study", "whole", "--out", "whole", *long)) == 0
    tables = [pd.read_csv(f"{out}/trials.csv") for out in ("out", "whole")]
    same = ["trial", "state", "lr", "batch_size", "value", "epochs"]
    pd.testing.assert_frame_equal(*(table[same] for table in tables))


@pytest.mark.faults
def test_sweep_outlives_its_database(data, own_store, tmp_path):
    with Postgres(tmp_path / "postgres.log") as database:
        worker = start(data, "--trials", 2, "--max-epochs", 8, "--storage", database.uri)
        read_until(worker, r"trial 0-0 +epoch +3/8")
        database.kill()
        printed = read_until(worker, r"trial 0-0 +epoch +8/8")
        assert "could not be reported, training continues" in printed
        time.sleep(2)
        database.start()
        printed = worker.communicate(timeout=300)[0]
    assert worker.returncode == 0, printed
    table = pd.read_csv("out/trials.csv")
    assert table["state"].tolist() == ["complete"] * 2
    parent, trials = parent_and_trials()
    assert {run.info.status for run in [parent, *trials.values()]} == {"FINISHED"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--space", "learning_rate=1,2"], "did you mean lr?"),
        (["--space", "lr=1e-3,fast"], "expected lr to be a number"),
        (["--space", "lr"], "expected --space with parameters such as"),
        (["--space", "random_state=1,2"], "without random_state, which the script sets"),
        (["--space", "level=study,view"], "pass --metric valid_kappa"),
        (["--set", "callbacks__mlflow=None"], "without callbacks__mlflow"),
        (["--folds", "1"], "expected --folds 0, or 2 or more, got 1"),
        (["--trials", "0"], "expected --trials of 1 or more, got 0"),
        (["--study-types", "XR_HIP"], "--study-types among"),
        (["--storage", "sqlite:///nowhere/sweep.db"], "expected a database that answers"),
        (["--module", "nets.py:Small"], "--module FILE:CLASS"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_trained(main, data, changes, message):
    with pytest.raises(SystemExit, match="sweep: ") as error:
        main(call(data, *changes))
    assert message in str(error.value)


@pytest.mark.slow
def test_study_is_not_continued_with_other_settings_or_data(main, data, own_store, tmp_path):
    assert main(call(data, "--trials", 1)) == 0
    for changes in (["--max-epochs", "3"], ["--space", "lr=1e-4:1e-2:log"], ["--folds", "2"]):
        with pytest.raises(SystemExit, match="was begun, got different") as error:
            main(call(data, "--trials", 2, *changes))
        assert changes[0].removeprefix("--").replace("-", "_") in str(error.value)
    other = tmp_path / "other"
    shutil.copytree(data, other, ignore=shutil.ignore_patterns("*.csv"))
    shutil.rmtree(next((other / "train" / "XR_WRIST").iterdir()))
    with pytest.raises(SystemExit, match="got different data"):
        main(call(other, "--trials", 2))
    assert len(pd.read_csv("out/trials.csv")) == 1
    Path("sweep.db").unlink()
    with pytest.raises(SystemExit, match="got different study; pass another --out"):
        main(call(data, "--trials", 2))
