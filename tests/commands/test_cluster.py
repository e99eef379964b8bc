"""Fits on the workers of a Dask cluster: real processes, also such as somebody else has started."""

import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import distributed
import joblib
import mlflow
import numpy as np
import pandas as pd
import pytest
from dask_workers import workers_elsewhere
from databases import database
from joblib.externals.loky import get_reusable_executor
from nets import tiny_classifier
from servers import free_port
from sklearn.model_selection import GridSearchCV, GroupKFold

from mura_skorch import write_phantoms
from mura_skorch.commands import cluster
from mura_skorch.tracking.origin import Origin

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
SCRIPT = EXPERIMENTS / "per_body_part.py"
QUICK = ["--image-size", "32", "--max-epochs", "1", "--weights", "none"]
# What Dask's workers and Python leave in their folder.
TRACES = {"dask-scratch-space", "dask-worker-space"}


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """Two workers that were started by their command, in another folder."""
    with workers_elsewhere(tmp_path_factory.mktemp("cluster")) as workers:
        yield workers


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="per_body_part")["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two types, so small that DenseNet-169 trains on each in a second."""
    return write_phantoms(
        tmp_path_factory.mktemp("data") / "phantoms",
        n_train=8,
        n_valid=4,
        n_test=1,
        study_types=["XR_HAND", "XR_WRIST"],
    )


@pytest.fixture
def own_store(tmp_path, restored_store):
    """A database of the test's own."""
    mlflow.set_tracking_uri(database(tmp_path))
    yield
    get_reusable_executor().shutdown(wait=True)  # workers keep the environment they began with


def runs():
    return mlflow.search_runs(search_all_experiments=True, output_format="list")


def children(run_id):
    """Return the runs below a parent, by name."""
    found = [run for run in runs() if run.data.tags.get("mlflow.parentRunId") == run_id]
    by_name = {run.info.run_name: run for run in found}
    assert len(by_name) == len(found)
    return by_name


def scores_of(out):
    table = pd.read_csv(Path(out) / "predictions.csv").sort_values("study")
    return table["score"].tolist()


def steps(run, name="train_loss"):
    return [point.step for point in mlflow.MlflowClient().get_metric_history(run.info.run_id, name)]


# --- scripts --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_of_somebody_else_give_the_same_numbers_in_the_same_store(
    main, data, elsewhere, own_store, capsys
):
    shutil.copytree(data, "phantoms")
    common = ["--data", "phantoms", "--cache", "cache", *QUICK]
    assert main([*common, "--jobs", "1", "--out", "alone"]) == 0
    capsys.readouterr()
    assert main([*common, "--dask", elsewhere.address, "--out", "out"]) == 0
    assert scores_of("out") == scores_of("alone")
    printed = capsys.readouterr().out
    for words in ("XR_HAND      epoch  1/1", "XR_WRIST     epoch  1/1", "2 of 2 models"):
        assert words in printed
    cluster_parent, parent = (run for run in runs() if run.info.run_name == "per_body_part")
    there, here = children(cluster_parent.info.run_id), children(parent.info.run_id)
    assert there.keys() == here.keys() == {"XR_HAND", "XR_WRIST"}
    for name, run in there.items():
        assert run.info.status == "FINISHED"
        assert run.info.experiment_id == cluster_parent.info.experiment_id
        for metric in ("valid_loss", "test/kappa", "threshold"):
            assert run.data.metrics[metric] == here[name].data.metrics[metric]
    assert len(mlflow.search_logged_models(output_format="list")) == 4
    assert set(os.listdir(elsewhere.folder)) <= TRACES


@pytest.mark.slow
def test_type_that_fails_on_a_worker_is_named_and_the_other_remains(
    main, data, elsewhere, own_store, tmp_path, capsys
):
    broken = shutil.copytree(data, tmp_path / "broken")
    view = next((broken / "train" / "XR_HAND").rglob("*.png"))
    view.write_bytes(b"no picture")
    assert main(["--data", str(broken), "--out", "out", *QUICK, "--dask", elsewhere.address]) == 1
    printed = capsys.readouterr().out
    assert "XR_HAND      FAILED: " in printed
    assert view.name in printed
    assert f"--resume {tmp_path}/out --dask {elsewhere.address}" in printed
    found = {run.info.run_name: run.info.status for run in runs()}
    assert (found["XR_HAND"], found["XR_WRIST"]) == ("FAILED", "FINISHED")


def start(data, out, address, *options):
    """Start the script on a cluster."""
    command = [sys.executable, SCRIPT, "--data", data, "--out", out, *QUICK, "--dask", address]
    return subprocess.Popen(list(map(str, [*command, *options])), stdout=subprocess.PIPE, text=True)


def kill_worker(address, name):
    """Kill the worker process that trains a type."""
    with distributed.Client(address, set_as_default=False) as client:
        pids = client.run(os.getpid)
        (there,) = [at for at, keys in client.processing().items() if name in str(keys)]
        os.kill(pids[there], signal.SIGKILL)


def wait_for(script, words):
    """Return once the script has printed a line with the words; return the lines up to it."""
    lines = []
    for line in script.stdout:
        lines.append(line)
        if words in line:
            return lines
    raise AssertionError("".join(lines))


@pytest.mark.faults
def test_fit_of_a_killed_worker_resumes_from_its_checkpoint_in_the_same_run(
    main, data, elsewhere, own_store
):
    options = ["--study-types", "XR_HAND", "--max-epochs", "4"]
    script = start(data, "out", elsewhere.address, *options)
    wait_for(script, "epoch  2/4")
    kill_worker(elsewhere.address, "XR_HAND")
    printed = script.communicate(timeout=120)[0]
    assert script.returncode == 0, printed
    assert "epoch  1/4" not in printed
    assert "training continues after" in printed
    assert "epoch  4/4" in printed
    found = {run.info.run_name: run for run in runs()}
    assert len(runs()) == 2
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert steps(found["XR_HAND"]) == [1, 2, 3, 4]
    assert main(["--data", str(data), "--out", "alone", *QUICK, "--jobs", "1", *options]) == 0
    assert scores_of("out") == scores_of("alone")


@pytest.mark.faults
def test_type_whose_workers_were_all_killed_is_named_and_trained_by_resume(
    main, data, own_store, tmp_path
):
    with workers_elsewhere(tmp_path, allowed_failures=0) as workers:
        script = start(data, "out", workers.address, "--max-epochs", "4")
        wait_for(script, "XR_HAND      epoch  1/4")
        kill_worker(workers.address, "XR_HAND")
        printed = script.communicate(timeout=120)[0]
        assert script.returncode == 1, printed
        assert "XR_HAND      FAILED: Attempted to run" in printed
        found = {run.info.run_name: run.info.status for run in runs()}
        assert found == {"per_body_part": "FAILED", "XR_HAND": "KILLED", "XR_WRIST": "FINISHED"}
        assert main(["--resume", "out", "--dask", workers.address]) == 0
    assert {run.info.status for run in runs()} == {"FINISHED"}
    assert all(steps(run) == [1, 2, 3, 4] for run in runs() if "XR_" in run.info.run_name)


@pytest.mark.faults
def test_ctrl_c_ends_the_script_and_the_fits_that_wait(data, elsewhere, own_store):
    script = start(data, "out", elsewhere.address, "--max-epochs", "4")
    wait_for(script, "epoch  1/4")
    script.send_signal(signal.SIGINT)
    script.communicate(timeout=60)
    assert script.returncode == 130
    parent = next(run for run in runs() if run.info.run_name == "per_body_part")
    assert parent.info.status == "KILLED"
    with distributed.Client(elsewhere.address, set_as_default=False) as client:
        # Dask does not stop them, and its scheduler has forgotten them: only the workers know.
        while any(client.run(lambda dask_worker: len(dask_worker.state.tasks)).values()):
            time.sleep(0.1)


@pytest.mark.slow
def test_seeds_on_a_local_cluster_give_the_same_models(data, own_store, capsys):
    script = runpy.run_path(str(EXPERIMENTS / "reproduce_paper.py"), run_name="reproduce_paper")
    common = ["--data", str(data), "--protocol", "v4", "--n-seeds", "2", "--n-members", "2"]
    common += [*QUICK, "--threads", "1", "--cases", "0"]
    assert script["main"]([*common, "--out", "alone"]) == 0
    local = ["--dask", "local", "--jobs", "2", "--workers", "1"]
    assert script["main"]([*common, "--out", "out", *local]) == 0
    assert "seed_1       done; 2 of 2 models" in capsys.readouterr().out
    assert scores_of("out/report") == scores_of("alone/report")
    assert not Path("out/state").exists()
    parent = next(run for run in runs() if run.info.run_name == "paper_v4")  # the last
    assert children(parent.info.run_id).keys() == {"seed_0", "seed_1"}
    assert {run.info.status for run in runs()} == {"FINISHED"}


@pytest.mark.slow
def test_learning_curve_on_a_cluster_has_the_same_numbers(phantom_root, elsewhere, own_store):
    script = runpy.run_path(str(EXPERIMENTS / "features.py"), run_name="features")
    common = ["--data", str(phantom_root), "--backbone", "mobilenet_v2", "--image-size", "32"]
    common += ["--draws", "1", "--threads", "1", "--cache", "cache"]
    assert script["main"]([*common, "--out", "alone"]) == 0
    assert script["main"]([*common, "--out", "out", "--dask", elsewhere.address]) == 0
    curves = [pd.read_csv(f"{out}/learning_curve.csv") for out in ("alone", "out")]
    pd.testing.assert_frame_equal(*curves)


# --- searches -------------------------------------------------------------------------------------


@pytest.mark.slow
def test_search_on_workers_of_somebody_else_is_as_with_loky(train, elsewhere, own_store):
    mlflow.set_experiment("search")
    net = tiny_classifier(max_epochs=1, callbacks__mlflow__run_name=None, dataset__cache="cache")
    search = GridSearchCV(net, {"lr": [1e-3, 1e-4]}, cv=GroupKFold(2), n_jobs=2, refit=False)
    found = []
    with distributed.Client(elsewhere.address) as client:
        for backend in ("loky", "dask"):
            with mlflow.start_run() as parent, joblib.parallel_config(backend):
                search.fit(train, train["label"], groups=train["patient"])
            found.append(search.cv_results_)
            own = [r for r in runs() if r.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
            assert len(own) == 4
            assert {run.info.status for run in own} == {"FINISHED"}
            assert {run.info.experiment_id for run in own} == {parent.info.experiment_id}
        assert client.run(os.getcwd).keys() == client.scheduler_info()["workers"].keys()
    for name in ("split0_test_score", "split1_test_score"):
        assert np.array_equal(found[0][name], found[1][name])
    assert set(os.listdir(elsewhere.folder)) <= TRACES


@pytest.mark.slow
def test_search_without_a_run_or_an_address_is_in_the_database_of_the_client(
    train, elsewhere, restored_store, tmp_path
):
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    search = GridSearchCV(
        tiny_classifier(max_epochs=1, callbacks__mlflow__run_name=None),
        {"lr": [1e-3]},
        cv=GroupKFold(2),
        refit=False,
        error_score="raise",
    )
    with distributed.Client(elsewhere.address), joblib.parallel_backend("dask"):
        search.fit(train, train["label"], groups=train["patient"])
    assert (tmp_path / "mlflow.db").is_file()
    assert len(runs()) == 2
    assert set(os.listdir(elsewhere.folder)) <= TRACES


# --- what cannot work -----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("sqlite:////nowhere/mlflow.db", "a file of far that .* lacks; start mlflow server"),
        ("http://me:secret@127.0.0.1:1", "MLFLOW_TRACKING_URI in the environment of this Dask"),
    ],
)
def test_store_that_a_worker_cannot_reach_is_an_error(elsewhere, uri, message):
    origin = Origin.here(None, uri, "1")._replace(machine="far")
    with (
        distributed.Client(elsewhere.address, set_as_default=False) as client,
        pytest.raises(ValueError, match=message),
    ):
        client.submit(origin.seen_here).result()
    assert not origin.seen_here().uri, "elsewhere a fit does without it, as ever"


@pytest.fixture
def bad_call(main, data, own_store):
    def call(address):
        with pytest.raises(SystemExit) as caught:
            main(["--data", str(data), *QUICK, "--out", "out", "--dask", address])
        return str(caught.value)

    return call


def test_missing_package_is_named_with_its_extra(bad_call, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert "pip install 'mura-skorch[dask]'" in bad_call("local")


def test_scheduler_that_does_not_answer_is_told(bad_call):
    address = f"tcp://127.0.0.1:{free_port()}"
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        assert address in bad_call(address)


def test_cluster_without_workers_is_told(bad_call, monkeypatch):
    monkeypatch.setattr(cluster, "WAIT", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty:
        assert "expected a worker at tcp://" in bad_call(empty.scheduler_address)


def test_processes_of_torchrun_are_refused(bad_call, monkeypatch):
    monkeypatch.setattr(cluster, "count_processes", lambda: 2)
    assert "without torchrun, got 2 processes" in bad_call("local")


@pytest.mark.slow
def test_workers_with_another_version_are_refused(bad_call, elsewhere, monkeypatch):
    monkeypatch.setattr(cluster, "__version__", "0.0")
    assert "expected mura_skorch 0.0 on every worker, got" in bad_call(elsewhere.address)
