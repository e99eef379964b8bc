"""Real MLflow servers on loopback, for tests."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
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


def tracking_server(folder, port=None, store=None):
    """An ``mlflow server`` with its artifacts, and its database, if SQLite, in ``folder``."""
    store = store or f"sqlite:///{folder}/server.db"
    words = ["server", "--workers", "1", "--backend-store-uri", store]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    return Server(words, "health", folder / "log", port, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")


def served_model(model, log, *options, **environment):
    """An ``mlflow models serve`` of the model at a URI or path."""
    words = ["models", "serve", "--model-uri", str(model), "--env-manager", "local", *options]
    return Server(words, "ping", log, **environment)


class SlowProxy:
    """A TCP proxy to a local port that holds every answer back for some seconds.

    The server behind it has done what it was asked by then.
    """

    def __init__(self, port, seconds):
        self.target, self.seconds = port, seconds
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):  # until the listener is closed
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.target))
                for ends in ((client, server, 0), (server, client, self.seconds)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    @staticmethod
    def _pass(source, sink, seconds):
        """Pass on what comes; what comes after a silence, some seconds later."""
        with contextlib.suppress(OSError), source, sink:
            last = 0.0
            while data := source.recv(65536):
                if time.monotonic() - last > 0.5:
                    time.sleep(seconds)
                sink.sendall(data)
                last = time.monotonic()


class Postgres:
    """A PostgreSQL server of its own in a new folder, for ``uri``."""

    def __init__(self, log):
        self.programs = next(
            (Path(found).parent for found in [shutil.which("initdb")] if found),
            next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None),
        )
        self.log, self.port = log, free_port()
        self.uri = f"postgresql+psycopg2://postgres@127.0.0.1:{self.port}/postgres"
        # It refuses to be run by root.
        self.user = {"user": "postgres"} if os.getuid() == 0 else {}

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        if self.user:
            shutil.chown(self.folder, "postgres")
        words = ["-D", self.folder / "data", "-U", "postgres", "--auth=trust", "--no-sync"]
        with self.log.open("a") as log:
            subprocess.run(
                [self.programs / "initdb", *words], check=True, stdout=log, stderr=log,
                cwd=self.folder, **self.user,
            )  # fmt: skip
        self.start()
        return self

    def start(self):
        words = ["-D", self.folder / "data", "-p", str(self.port), "-k", self.folder]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [self.programs / "postgres", *words, "-h", "127.0.0.1"],
                stdout=log, stderr=log, cwd=self.folder, start_new_session=True, **self.user,
            )  # fmt: skip
        import psycopg2

        for _ in range(PATIENCE * 20):
            # Its port is open while it still recovers, and refuses.
            with contextlib.suppress(psycopg2.OperationalError):
                psycopg2.connect(self.uri.replace("+psycopg2", "")).close()
                return
            time.sleep(0.05)
        raise TimeoutError(self.log.read_text()[-4000:])

    def kill(self):
        """End it with all its children at once, as a machine that goes away."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait()

    def __exit__(self, *error):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
