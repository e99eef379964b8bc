"""The command ``mura-skorch serve``."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading

import pytest
from served import ROOT, post, untrained

from mura_skorch.cli.main import main
from mura_skorch.commands.serve import is_everywhere, is_loopback


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served") / "model"
    untrained(0).save(folder)
    return folder


class Served:
    """The command in a process of its own, and what it printed up to its call."""

    def __init__(self, *words):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mura_skorch", "serve", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        killer = threading.Timer(240, self.process.kill)
        killer.start()
        for line in self.process.stdout:
            if line.startswith("curl "):
                self.call = shlex.split(line)
                break
        killer.cancel()

    def stop(self, number):
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_printed_call_is_answered_and_a_signal_ends_the_server(model, number, status):
    served = Served(model, "--port", 0)
    program, address, *options = served.call
    assert (program, options[:3]) == ("curl", ["-H", "Content-Type: application/json", "-d"])
    code, answer = post(address, json.loads(options[3]))
    assert code == 200
    assert set(answer["predictions"][0]) >= {"probability", "decision", "note"}
    host, port = re.fullmatch(r"http://([\d.]+):(\d+)/invocations", address).groups()
    assert host == "127.0.0.1"
    assert served.stop(number) == status
    with (
        pytest.raises(ConnectionRefusedError),
        socket.create_connection((host, int(port)), timeout=5),
    ):
        pass


def test_a_port_in_use_is_an_error_before_the_server_starts(model):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            SystemExit, match=f"serve: expected a free port at 127.0.0.1, got {port}"
        ):
            main(["serve", str(model), "--port", str(port)])


@pytest.mark.parametrize("port", ["99999", "-1", "http"])
def test_a_port_that_cannot_be_is_an_error_of_the_call(port, capsys):
    with pytest.raises(SystemExit) as error:
        main(["serve", "model", f"--port={port}"])
    assert error.value.code == 2
    assert f"expected a port from 1 to 65535, or 0 for a free one, got '{port}'" in (
        capsys.readouterr().err
    )


def test_a_folder_without_a_model_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="serve: expected .*got"):
        main(["serve", str(tmp_path)])


def test_hosts_that_only_this_machine_reaches_are_told_from_others():
    loopback = [is_loopback(h) for h in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "a.b")]
    assert loopback == [True, True, True, False, False]
    everywhere = [is_everywhere(h) for h in ("0.0.0.0", "::", "127.0.0.1", "a.b")]
    assert everywhere == [True, True, False, False]
