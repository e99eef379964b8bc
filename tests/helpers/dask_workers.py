"""Dask workers that somebody else started: without MLflow's variables, in a folder of their own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from distributed import Client, LocalCluster

HELPERS = str(Path(__file__).parent)


class Workers(NamedTuple):
    """A scheduler, and the folder that its workers are in."""

    address: str
    folder: Path


def bare_environment():
    """Return this environment without what MLflow reads, with this package and the helpers."""
    environment = {key: text for key, text in os.environ.items() if "MLFLOW" not in key}
    return environment | {"PYTHONPATH": os.pathsep.join([HELPERS, *sys.path])}


@contextlib.contextmanager
def workers_elsewhere(folder, n_workers=2, **scheduler):
    """Start a scheduler here, and workers by their command in ``folder / "elsewhere"``."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    log = (folder / "workers.log").open("w")
    with LocalCluster(
        n_workers=0, dashboard_address=":0", host="127.0.0.1", scheduler_kwargs=scheduler
    ) as cluster:
        address = cluster.scheduler_address
        command = [sys.executable, "-m", "dask", "worker", address, "--nthreads", "1"]
        command += ["--no-dashboard", "--host", "127.0.0.1", "--memory-limit", "0"]
        command += ["--local-directory", str(folder / "scratch")]
        processes = [
            subprocess.Popen(command, cwd=elsewhere, env=bare_environment(), stdout=log, stderr=log)
            for _ in range(n_workers)
        ]
        try:
            with Client(address) as client:
                client.wait_for_workers(n_workers, timeout=120)
            yield Workers(address, elsewhere)
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait(60)
            log.close()
