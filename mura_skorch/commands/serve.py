"""What ``mura-skorch serve`` does: start MLflow's server of a model, and stop it at a signal."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from urllib.request import urlopen

from mura_skorch.commands import CommandError
from mura_skorch.ensemble import load_model
from mura_skorch.tracking import fetch_model
from mura_skorch.tracking.mlflow_model import DESCRIPTION, example_request, save_mlmodel
from mura_skorch.utils.signals import signals_as_exceptions

__all__ = ["main"]

EXAMPLE = "serving_input_example.json"  # MLflow writes it next to the model
LONGEST_END = 5  # seconds that the server may take to end its requests


def main(args: Namespace) -> int:
    """Start the server, print its address and a call, wait until it ends."""
    with ExitStack() as stack:
        stack.enter_context(signals_as_exceptions())
        try:
            port = free_port(args.host, args.port)
            folder = stack.enter_context(served_folder(args.model))
        except (OSError, ValueError, ImportError) as error:
            raise CommandError(error) from error
        url = f"http://{'127.0.0.1' if is_everywhere(args.host) else args.host}:{port}"
        print(f"Starting a server of {args.model} ...", flush=True)
        process = stack.enter_context(server(folder, args, port))
        if not answers(process, f"{url}/ping"):
            raise CommandError(
                f"expected a server at {url}, got exit status {process.returncode}; see what it "
                "printed above"
            )
        print(call_text(url, folder), flush=True)
        if not is_loopback(args.host):
            print(
                "Caution: other machines can reach this server, which has no accounts and no "
                "encryption; put a proxy in front of it",
                flush=True,
            )
        return process.wait()


@contextmanager
def served_folder(source: str) -> Iterator[Path]:
    """Yield the folder of a model in MLflow's form."""
    with fetch_model(source) as folder, tempfile.TemporaryDirectory() as temporary:
        if (folder / DESCRIPTION).is_file():
            yield folder
        else:
            save_mlmodel(load_model(folder), temporary)
            yield Path(temporary)


def free_port(host: str, port: int) -> int:
    """Return the port, or a free one for 0; raise OSError if another program uses it."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"expected a free port at {host}, got {port}: {error.strerror}; pass another "
                "--port or --host"
            ) from error
        return int(probe.getsockname()[1])


@contextmanager
def server(folder: Path, args: Namespace, port: int) -> Iterator[subprocess.Popen]:
    """Start the server in a process group of its own, which ends with the block."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"]
    command += ["--model-uri", str(folder), "--host", args.host, "--port", str(port)]
    command += ["--workers", str(args.workers), "--timeout", str(args.timeout)]
    settings = {"MURA_ENGINE": args.engine, "MURA_PRECISION": args.precision}
    environment = {**os.environ, **{name: value for name, value in settings.items() if value}}
    # MLflow looks there for uvicorn.
    environment["PATH"] = os.pathsep.join(
        [os.path.dirname(sys.executable), environment.get("PATH", "")]
    )
    process = subprocess.Popen(
        command, env=environment, stdout=sys.stderr, stderr=sys.stderr, start_new_session=True
    )
    try:
        yield process
    finally:
        end(process)


def answers(process: subprocess.Popen, url: str) -> bool:
    """Wait for the server; return whether it answers, False if it has ended."""
    while process.poll() is None:
        with suppress(OSError), urlopen(url, timeout=1):
            return True
        time.sleep(0.2)
    return False


def end(process: subprocess.Popen) -> None:
    """End the server and its workers: by SIGTERM, and what still runs seconds later at once."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + LONGEST_END
        with suppress(OSError):  # none is left
            os.killpg(process.pid, number)
            while time.monotonic() < until:
                process.poll()
                with suppress(ChildProcessError):  # a worker becomes ours where we are process 1
                    os.waitpid(-process.pid, os.WNOHANG)
                os.killpg(process.pid, 0)
                time.sleep(0.05)
    process.wait()


def call_text(url: str, folder: Path) -> str:
    """Return the address of the server and a call that works as it is."""
    file = folder / EXAMPLE
    if file.is_file():
        request = file.read_text(encoding="utf-8")
    else:
        request = json.dumps({"dataframe_records": example_request().to_dict("records")})
    request = json.dumps(json.loads(request))
    return (
        f"\nServing at {url} until Ctrl-C. Try it, with a picture of stripes:\n\n"
        f"curl {url}/invocations -H 'Content-Type: application/json' -d '{request}'\n\n"
        "For your own image, replace the long text by what base64 -w0 FILE prints. See "
        "docs/how_to/serving.md."
    )


def is_everywhere(host: str) -> bool:
    """Return whether a host means all addresses of this machine."""
    with suppress(ValueError):
        return ip_address(host).is_unspecified
    return False


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a host."""
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"
