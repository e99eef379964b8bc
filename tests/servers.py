"""Real MLflow servers on loopback, for tests."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

PATIENCE = 240  # seconds; a cold disk and two busy cores took more than 60


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """``mlflow <words>`` with its worker processes, answering at ``url`` once started.

    Parameters
    ----------
    words : list of str
        The subcommand and its options; the port is added.
    page : str
        What answers once the server is up: ``"health"`` or ``"ping"``.
    log : Path
        File for what the server prints.
    port : int, optional
        A free one by default; that of a stopped server to come back at its address.
    **environment : str
        Variables beside those of this process.
    """

    def __init__(self, words, page, log, port=None, **environment):
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "mlflow", *words, "--port", str(self.port)]
        self.page, self.log = page, log
        # mlflow looks for uvicorn on PATH
        search = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment = {**os.environ, "PATH": search, **environment}

    def __enter__(self):
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, start_new_session=True, stdout=log, stderr=log
            )
        try:
            self._wait()
        except BaseException:
            self.kill()
            raise
        return self

    def _wait(self):
        for _ in range(PATIENCE * 20):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"{self.url}/{self.page}", timeout=1).close()
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        said = self.log.read_text()[-4000:]
        raise TimeoutError(f"{self.command} (exit {self.process.poll()}) said:\n{said}")

    def __exit__(self, *error):
        self.kill()

    def __deepcopy__(self, memo):
        return self

    def kill(self):
        """End the server and its workers at once, as a machine that goes away."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()


def tracking_server(folder, port=None):
    """An ``mlflow server`` on SQLite with its database and artifacts in ``folder``."""
    words = ["server", "--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/server.db"]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    return Server(words, "health", folder / "log", port, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")


def served_model(model, log, *options, **environment):
    """An ``mlflow models serve`` of the model at a URI or path."""
    words = ["models", "serve", "--model-uri", str(model), "--env-manager", "local", *options]
    return Server(words, "ping", log, **environment)
