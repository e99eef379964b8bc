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

from databases import database

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
    store = store or database(folder, "server.db", "mlflow-artifacts:/0")
    words = ["server", "--workers", "1", "--backend-store-uri", store]
    words += ["--artifacts-destination", str(folder / "artifacts")]
    return Server(words, "health", folder / "log", port, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")


def served_model(model, log, *options, **environment):
    """An ``mlflow models serve`` of the model at a URI or path."""
    words = ["models", "serve", "--model-uri", str(model), "--env-manager", "local", *options]
    return Server(words, "ping", log, **environment)


class Proxy:
    """A TCP proxy to a local server, which can be slow, or away.

    Parameters
    ----------
    port : int
        Of the server.
    seconds : float, default=0
        How long every answer is held back; the server has done what it was asked by then. May be
        changed at any time.
    is_open : bool, default=True
        Whether it answers; otherwise connections are refused.
    """

    def __init__(self, port, seconds=0.0, is_open=True):
        self.target, self.seconds, self.is_open = port, seconds, is_open
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._sockets = []

    def __enter__(self):
        if self.is_open:
            self.open()
        return self

    def __exit__(self, *error):
        self.close()

    def open(self):
        """Accept connections, as a server that is back."""
        listener = socket.create_server(("127.0.0.1", self.port))
        self._sockets.append(listener)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self):
        """Cut all connections and refuse new ones, as a server that is killed."""
        for end in self._sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def _accept(self, listener):
        with contextlib.suppress(OSError):  # until the listener is closed
            while True:
                client = listener.accept()[0]
                server = socket.create_connection(("127.0.0.1", self.target))
                self._sockets += client, server
                asked = threading.Event()
                for ends in ((client, server, asked.set), (server, client, self._delay(asked))):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _delay(self, asked):
        """Return a function that waits before the first part of an answer."""

        def wait():
            if asked.is_set():
                asked.clear()
                time.sleep(self.seconds)

        return wait

    @staticmethod
    def _pass(source, sink, before):
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(65536):
                before()
                sink.sendall(data)


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
