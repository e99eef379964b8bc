import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from databases import database
from laws import FITS

from mura_skorch.training.shares import deal

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="torchrun over gloo")


def environment(folder, **variables):
    paths = [str(HERE), str(HERE.parent / "helpers"), *sys.path]
    given = {name: text for name, text in os.environ.items() if "MLFLOW" not in name}
    store = {"MLFLOW_TRACKING_URI": database(folder)}
    paths = {"PYTHONPATH": os.pathsep.join(path for path in paths if path), "OMP_NUM_THREADS": "1"}
    return given | store | paths | variables


def command(script, *args, n=2, options=()):
    """Return the command that runs a script in n processes."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", *options]
    launcher = [f"--nproc-per-node={n}", "-m", "mura_skorch.distributed"]
    return [*torchrun, *launcher, HERE / script, *map(str, args)]


def run(script, folder, *args, options=(), **variables):
    return subprocess.run(
        command(script, *args, options=options),
        env=environment(folder, **variables),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )


# --- one process and two -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def results(phantom_root, tmp_path_factory):
    """What one process and two have computed."""
    folder = tmp_path_factory.mktemp("laws")
    alone = [sys.executable, HERE / "laws.py", phantom_root, folder / "alone"]
    subprocess.run(alone, env=environment(folder), cwd=folder, check=True)
    done = run("laws.py", folder, phantom_root, folder / "shared")
    assert "processes: 2" in done.stdout, done.stderr
    return [torch.load(folder / name, weights_only=True) for name in ("alone", "shared")]


@pytest.mark.parametrize("name", [name for name in FITS if name != "with batch statistics"])
def test_two_processes_train_as_one_with_the_doubled_minibatch(results, name):
    alone, shared = (found[name] for found in results)
    for key, value in alone["weights"].items():
        np.testing.assert_allclose(shared["weights"][key], value, atol=1e-6, err_msg=key)
    for ours, theirs in zip(shared["history"], alone["history"], strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6, nan_ok=True)


def test_statistics_of_batch_norm_are_near_those_of_one_process(results):
    alone, shared = (found["with batch statistics"]["weights"] for found in results)
    names = [name for name in alone if name.endswith("running_mean")]
    assert names
    for name in names:
        np.testing.assert_allclose(shared[name], alone[name], atol=0.1)
    assert any(not torch.equal(shared[name], alone[name]) for name in names)


def test_predictions_maps_and_features_are_equal_to_the_bit(results):
    alone, shared = (found["predictions"] for found in results)
    for name, value in alone.items():
        assert torch.equal(shared[name], value), name


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_each_study_is_dealt_once_and_views_are_even(size):
    n_views = np.random.default_rng(0).integers(1, 6, 20)
    shares = deal(range(5, 17), n_views, size)
    assert sorted(row for rows in shares for row in rows) == list(range(5, 17))
    loads = [n_views[rows].sum() for rows in shares]
    assert max(loads) - min(loads) <= n_views.max()


# --- faults --------------------------------------------------------------------------------------


def status_of(folder):
    """Return the status of each run in the folder's store, in the order of their begin."""
    runs = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db").search_runs(
        ["0"], order_by=["attributes.start_time"]
    )
    return [found.info.status for found in runs]


def helpers_of(folder):
    """Return the processes whose command line names the folder."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = file.read_bytes().decode(errors="replace")
        except OSError:
            continue
        if str(folder) in text:
            found.append(file.parent.name)
    return found


def state_of(pid):
    """Return the letter of a process's state: T if it is stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture(scope="module")
def uninterrupted(phantom_root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    done = run("training.py", folder, phantom_root, folder)
    assert done.returncode == 0, done.stderr
    assert status_of(folder) == ["FINISHED"]
    return torch.load(folder / "weights.pt", weights_only=True)


def assert_equal(folder, weights):
    found = torch.load(folder / "weights.pt", weights_only=True)
    for name, value in weights.items():
        assert torch.equal(found[name], value), name


def test_error_of_one_process_is_raised_by_the_program_with_its_number(phantom_root, tmp_path):
    done = run("training.py", tmp_path, phantom_root, tmp_path, "error")
    assert done.returncode != 0
    assert "LookupError: no such view" in done.stderr
    assert "It was raised in process 1 of 2" in done.stderr
    assert "epochs: 2" in done.stdout
    assert status_of(tmp_path) == ["FAILED"]
    assert not helpers_of(tmp_path)


def test_killed_process_ends_the_fit_and_the_same_command_goes_on_to_the_same_bits(
    phantom_root, tmp_path, uninterrupted
):
    done = run("training.py", tmp_path, phantom_root, tmp_path, "kill")
    assert done.returncode != 0
    assert "expected all 2 processes to go on" in done.stderr
    assert status_of(tmp_path) == ["FAILED"]
    assert not helpers_of(tmp_path)
    assert run("training.py", tmp_path, phantom_root, tmp_path).returncode == 0
    assert_equal(tmp_path, uninterrupted)


def test_process_that_is_killed_between_epochs_fails_the_run(phantom_root, tmp_path):
    done = run("training.py", tmp_path, phantom_root, tmp_path, "kill idle")
    assert done.returncode != 0
    assert "expected all 2 processes to go on" in done.stderr
    assert status_of(tmp_path) == ["FAILED"]


def test_torchrun_starts_all_again_after_a_killed_process(phantom_root, tmp_path, uninterrupted):
    options = ["--max-restarts", "1"]
    done = run("training.py", tmp_path, phantom_root, tmp_path, "kill", options=options)
    assert done.returncode == 0, done.stderr
    assert_equal(tmp_path, uninterrupted)
    assert status_of(tmp_path)[-1] == "FINISHED"


@pytest.mark.parametrize("fault", ["freeze", "freeze idle"])
def test_frozen_process_ends_the_fit_after_the_timeout(phantom_root, tmp_path, fault):
    process = subprocess.Popen(
        command("training.py", phantom_root, tmp_path, fault),
        env=environment(tmp_path, MURA_SKORCH_PROCESS_TIMEOUT="5"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert any("does not answer" in line for line in process.stderr)
    # torchrun kills the frozen process, too, after 30 seconds that cannot be set.
    (frozen,) = (pid for pid in helpers_of(tmp_path) if state_of(pid) == "T")
    os.kill(int(frozen), signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert status_of(tmp_path) == ["FAILED"]
    assert not helpers_of(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_to_all_processes_stops_the_fit_as_in_one(
    phantom_root, tmp_path, number, uninterrupted
):
    process = subprocess.Popen(
        # A shell's background jobs ignore Ctrl-C, and their children do.
        [
            "env",
            "--default-signal=INT,TERM",
            *command("training.py", phantom_root, tmp_path, "slow"),
        ],
        env=environment(tmp_path),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    for line in process.stdout:
        if line.startswith("epoch 2"):
            break
    time.sleep(0.5)
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=120)
    if number == signal.SIGINT:
        assert re.search(r"epochs: \d interrupted: True", out), out + err
    assert status_of(tmp_path) == ["KILLED"]
    assert not helpers_of(tmp_path)
    assert run("training.py", tmp_path, phantom_root, tmp_path).returncode == 0
    assert_equal(tmp_path, uninterrupted)


# --- the launcher --------------------------------------------------------------------------------


def launch(folder, *args, **variables):
    return subprocess.run(
        [sys.executable, "-m", "mura_skorch.distributed", *map(str, args)],
        env=environment(folder, **variables),
        cwd=folder,
        capture_output=True,
        text=True,
    )


def test_without_torchrun_the_program_runs_alone_with_its_arguments(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\n"
        "from mura_skorch.distributed import count_processes\n"
        "print(count_processes(), sys.argv[1:])\n"
        "raise SystemExit(3)\n"
    )
    done = launch(tmp_path, program, "--data", "x", "--help")
    assert done.stdout == "1 ['--data', 'x', '--help']\n"
    assert done.returncode == 3


def test_without_torchrun_the_command_runs_alone(tmp_path):
    done = launch(tmp_path, "mura-skorch", "explore", "--data", "nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("mura-skorch explore: ")


def test_launcher_says_what_is_wrong_before_it_joins_others(tmp_path):
    done = launch(tmp_path, tmp_path / "nothing.py")
    assert "which is no file" in done.stderr
    done = launch(tmp_path, __file__, WORLD_SIZE="2", MURA_SKORCH_PROCESS_TIMEOUT="soon")
    assert "expected MURA_SKORCH_PROCESS_TIMEOUT to be a number of seconds" in done.stderr
    if not torch.cuda.is_available():
        done = launch(tmp_path, "--sync-batch-norm", __file__, WORLD_SIZE="2")
        assert "expected GPUs with --sync-batch-norm" in done.stderr
