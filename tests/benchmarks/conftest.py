"""Two sides timed in turn: rows of a table, and how cost grows, printed and on request recorded.

Each file of this folder adds rows with `in_turn` or `add_row`. A row holds the ratio of the other
side's seconds to ours, with its range over the rounds.
"""

import os
import statistics
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure

from mura_skorch import read_studies, write_phantoms
from mura_skorch.utils.provenance import conditions

RECORDS = Path(__file__).parents[2] / "experiments" / "records"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
N_STUDIES = {"cpu": 16, "cuda": 400}[DEVICE]  # seconds of work for either side
ROWS = []
GROWTH = []
MACHINE = []
BEGUN = time.perf_counter()
HEADERS = ["what", "against", "ratio, median", "lowest to highest", "target", "met"]


def pytest_addoption(parser):
    parser.addoption("--record", help="name of the machine: write the table to the records, too")


@pytest.fixture(scope="session", autouse=True)
def all_cores():
    """Both sides compute on all cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count())
    yield
    MACHINE.append(conditions("seconds of whole calls"))
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def studies(tmp_path_factory):
    """Phantoms, half stored as L and half as RGB, longest side 512."""
    root = tmp_path_factory.mktemp("bench") / "phantoms"
    write_phantoms(root, n_train=N_STUDIES, n_valid=0, n_test=0, study_types=["XR_WRIST"])
    return read_studies(root)


@pytest.fixture
def in_turn(benchmark):
    """Time ours with pytest-benchmark and the other side in between; return the ratio."""

    def race(what, against, ours, theirs, *, target=None, rounds=3):
        ours()  # memory, kernels, caches
        theirs()
        times = []

        def time_theirs():
            begin = time.perf_counter()
            theirs()
            times.append(time.perf_counter() - begin)

        benchmark.pedantic(ours, setup=time_theirs, rounds=rounds, iterations=1)
        own = benchmark.stats.stats.data
        ratios = [other / mine for other, mine in zip(times, own, strict=True)]
        return add_row(what, against, ratios, target)

    return race


def add_row(what, against, ratios, target, better=max):
    """Record ratios; the target is a least ratio, or with ``better=min`` a greatest one."""
    ratio = statistics.median(ratios)
    met = "" if target is None else "yes" if better(ratio, target) == ratio else "NO"
    sign = {max: "at least", min: "at most"}[better]
    ROWS.append(
        [
            what,
            against,
            f"{ratio:.3g}",
            f"{min(ratios):.3g} to {max(ratios):.3g}",
            "" if target is None else f"{sign} {target}",
            met,
        ]
    )
    return ratio


def on_device(inputs):
    """Copy a batch's tensors to the device, from a GPU's point of view in the background."""
    return {name: value.to(DEVICE, non_blocking=True) for name, value in inputs.items()}


def wait():
    """Wait until a GPU has computed what was launched, before the clock is read."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def add_growth(what, counts, seconds):
    """Record seconds by count, with the exponents of seconds ~ count ** exponent."""
    logs = np.log(counts), np.log(seconds)
    GROWTH.append(
        {
            "what": what,
            "counts": counts,
            "seconds": seconds,
            "exponent": float(np.polyfit(*logs, 1)[0]),
            "last": float(np.diff(logs[1])[-1] / np.diff(logs[0])[-1]),
        }
    )


def _growth_lines():
    for found in GROWTH:
        pairs = zip(found["counts"], found["seconds"], strict=True)
        yield ""
        yield (
            f"Seconds per epoch by {found['what']}, a network of four layers at 64 px: exponent "
            f"{found['exponent']:.2f} over all, {found['last']:.2f} over the last step: "
            + ", ".join(f"{count:,}: {seconds:.2f} s" for count, seconds in pairs)
            + "."
        )


def _draw_growth(folder):
    figure = Figure(figsize=(4.5 * len(GROWTH), 3.6), layout="constrained")
    for ax, found in zip(figure.subplots(1, len(GROWTH), squeeze=False)[0], GROWTH, strict=True):
        counts, seconds = np.array(found["counts"]), np.array(found["seconds"])
        ax.loglog(counts, seconds, "o-", label=f"measured, exponent {found['exponent']:.2f}")
        ax.loglog(counts, seconds[-1] * counts / counts[-1], ":", color="grey", label="linear")
        ax.set(xlabel=found["what"], ylabel="seconds per epoch")
        ax.legend(frameon=False)
    figure.suptitle("Phantoms: no clinical meaning", fontsize="small")
    figure.savefig(folder / "growth.png", dpi=120)
    rows = [pd.DataFrame(found)[["what", "counts", "seconds"]] for found in GROWTH]
    pd.concat(rows).to_csv(folder / "growth.csv", index=False)


def pytest_terminal_summary(terminalreporter, config):
    """Print the table, and write it where --record asks for it."""
    if not ROWS and not GROWTH:
        return
    lines = [f"| {' | '.join(row)} |" for row in [HEADERS, ["---"] * len(HEADERS), *ROWS]]
    lines += _growth_lines()
    lines += ["", f"{len(ROWS)} rows in {(time.perf_counter() - BEGUN) / 60:.0f} minutes."]
    terminalreporter.write_line("\n" + "\n".join(lines))
    if name := config.getoption("--record"):
        folder = RECORDS / f"{date.today()}_{name}"
        folder.mkdir(parents=True, exist_ok=True)
        if GROWTH:
            _draw_growth(folder)
            lines += ["", "![growth](growth.png)"]
        (folder / "README.md").write_text("\n".join([*_head(name), "", *lines, ""]))
        terminalreporter.write_line(f"\nWritten: {folder}/README.md")


def _head(name):
    return [
        f"# Speed on {name}",
        "",
        "Two sides in turn, the blog's loop in a process of its own, 3 rounds or more after a",
        "warm-up; a ratio is the other side's seconds by ours. Phantoms: no clinical meaning.",
        "",
        "```",
        f"make bench RECORD={name}",
        "```",
        "",
        *MACHINE,
    ]
