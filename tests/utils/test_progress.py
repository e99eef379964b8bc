"""What a fit writes, and where: bars for those who look at it, plain lines for the others."""

import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from nets import tiny_classifier

from mura_skorch.callbacks import EpochLine
from mura_skorch.utils import progress
from mura_skorch.utils.progress import LogLines, map_in_threads, progress_bar

ROOT = Path(__file__).parents[2]
FIT = """
from nets import tiny_classifier
from mura_skorch import read_studies

studies = read_studies({root!r})
net = tiny_classifier(verbose=1, dataset__cache="cache")
_ = net.fit(studies[studies.split == "train"])
"""
CONTROL = re.compile(r"[\r\b\x1b]")


@pytest.fixture
def environment():
    """Where another process finds the package and the small network of these tests."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "helpers")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TERM": "xterm"}


def what_remains(text):
    """Return the lines that a terminal shows in the end."""
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")]
    return [line.rstrip() for line in lines if line.strip()]


def is_table(lines):
    """Return whether lines are the epochs' table alone: explanation, header, rule, two epochs."""
    firsts = [line.split()[0] for line in lines[1:]]
    return (
        len(lines) == 5
        and lines[0].startswith("acc: share called right")
        and firsts[0] == "epoch"
        and firsts[1][0] == "-"
        and firsts[2:] == list("12")
    )


@pytest.mark.slow
def test_pipes_get_one_plain_line_an_epoch(phantom_root, environment):
    command = [sys.executable, "-c", FIT.format(root=str(phantom_root))]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert not CONTROL.search(found.stdout + found.stderr)
    assert is_table(found.stdout.splitlines()), found.stdout
    assert found.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_terminals_get_bars_of_which_the_epochs_leave_none_behind(phantom_root, environment):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 160, 0, 0))
    command = [sys.executable, "-c", FIT.format(root=str(phantom_root))]
    process = subprocess.Popen(
        command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux says so that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    text = written.decode()
    assert process.wait() == 0, text
    assert re.search(r"epoch 1: +\d+%", text)
    assert re.search(r"epoch 2: +\d+%", text)
    cache, *table = what_remains(text)
    assert re.match(r"cache: 100%", cache)
    colours = re.compile(r"\x1b\[\d+m")
    assert is_table([colours.sub("", line) for line in table]), text
    assert colours.search(text), "the best figures are coloured"
    assert "XR_HAND, XR_WRIST, epoch 2:" in text, "a bar names its fit"


RUN_NOTEBOOK = """
import json, sys
import nbformat
from nbclient import NotebookClient

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(sys.argv[1])])
NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
print(json.dumps(notebook.cells[0].outputs))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "has_widgets", [False, True], ids=["without ipywidgets", "with ipywidgets"]
)
def test_notebooks_get_bars_and_no_warning(phantom_root, environment, has_widgets):
    hidden = "" if has_widgets else "import sys; sys.modules['ipywidgets'] = None\n"
    cell = hidden + FIT.format(root=str(phantom_root))
    command = [sys.executable, "-c", RUN_NOTEBOOK, cell]
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    outputs = json.loads(found.stdout)
    streams = {"stdout": "", "stderr": ""}
    for output in outputs:
        if output["output_type"] == "stream":
            streams[output["name"]] += output["text"]
    widgets = [output for output in outputs if output["output_type"] == "display_data"]
    assert streams["stderr"] == ""
    colours = re.compile(r"\x1b\[\d+m")
    shown = [colours.sub("", line) for line in what_remains(streams["stdout"])]
    if has_widgets:
        assert is_table(shown), streams
        assert len(widgets) == 3, "one for the cache and one an epoch"
    else:
        assert shown[0].startswith("cache: 100%")
        assert is_table(shown[1:]), streams
        assert not widgets


def test_verbose_0_says_nothing(train, capfd):
    tiny_classifier(verbose=0, callbacks=[("line", EpochLine("quiet"))]).fit(train)
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


def test_long_work_says_in_a_log_how_far_it_is(caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="mura_skorch")
    monkeypatch.setattr(progress, "PACE", 1e-9)
    with progress_bar(2000, desc="cache", unit="view") as bar:
        bar.update(1500)
        bar.set_postfix({"train_loss": 0.5}, refresh=False)
        bar.update(500)
    assert caplog.messages == ["cache: 1,500 of 2,000, 0 min", "cache: 2,000 of 2,000, 0 min"]


def test_short_work_says_nothing_in_a_log(caplog, capfd):
    caplog.set_level(logging.INFO, logger="mura_skorch")
    assert map_in_threads(str, range(100), desc="numbers", unit="number")[-1] == "99"
    assert caplog.messages == []
    said = capfd.readouterr()
    assert (said.out, said.err) == ("", "")


@pytest.mark.parametrize("n_items", [10, 10_000])
def test_no_call_starts_after_an_error(n_items):
    has_failed, started = threading.Event(), []

    def fails_first(number):
        started.append(number)
        if number == 0:
            has_failed.set()
            raise ZeroDivisionError
        has_failed.wait()
        time.sleep(0.05)  # until the error has reached the thread that asked

    with pytest.raises(ZeroDivisionError):
        map_in_threads(fails_first, range(n_items), desc="numbers", unit="number", n_threads=2)
    assert len(started) <= 4


@pytest.mark.parametrize("chunksize", [1, 7, 10_000])
def test_threads_return_results_in_the_order_of_the_items(chunksize):
    for n_items in (0, 1, 1025, 5000):
        found = map_in_threads(
            str, range(n_items), chunksize=chunksize, desc="numbers", unit="number"
        )
        assert found == [str(number) for number in range(n_items)]


def test_interrupted_work_ends_at_once(monkeypatch):
    class Interrupted(LogLines):
        def update(self, n=1):
            raise KeyboardInterrupt

    monkeypatch.setattr(progress, "LogLines", Interrupted)
    started = []
    with pytest.raises(KeyboardInterrupt):
        map_in_threads(
            lambda number: (started.append(number), time.sleep(0.01)),
            range(10_000),
            desc="numbers",
            unit="number",
            n_threads=2,
        )
    assert len(started) < 100


def test_lines_stand_in_for_a_bar_where_stderr_is_closed(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert isinstance(progress_bar(1, desc="numbers", unit="number"), LogLines)


def test_logging_is_left_to_the_user():
    # Not even a NullHandler: it would swallow why a served model has failed.
    assert logging.getLogger("mura_skorch").handlers == []
    assert logging.getLogger("mura_skorch").level == logging.NOTSET
