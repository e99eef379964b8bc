import runpy
from argparse import Namespace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "compile_backbone.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT), run_name="compile_backbone")


@pytest.mark.parametrize("n_views", [5, 8, 22])
def test_minibatches_have_the_wanted_number_of_views(script, n_views):
    inputs, label = script["make_batch"](n_views, 16)
    assert inputs["view_mask"].sum() == n_views
    assert inputs["views"].shape[:2] == inputs["view_mask"].shape
    assert len(label) == len(inputs["views"])


def measured(first, gain):
    """Return what a process measures that compiles for some seconds and saves some per view."""
    found = {"precision": "float32", "threads": 1}
    for phase in ("train", "predict"):
        ratio = 1.2 if gain > 0 else 0.8
        found |= {f"{phase} first": first, f"{phase} ratios": [ratio], f"{phase} gains": [gain]}
    return found


@pytest.mark.parametrize(("gain", "cells"), [(0.01, "2.00 | 0.10"), (-0.01, "never | never")])
def test_table_says_after_how_many_epochs_the_compilation_has_paid(script, gain, cells):
    args = Namespace(backbone="resnet18", image_size=64, rounds=1)
    seconds_of_an_epoch = 36_808 * 0.01
    cold, warm = measured(seconds_of_an_epoch, gain), measured(seconds_of_an_epoch / 20, gain)
    page = script["report"](args, cold, warm)
    assert f"| epochs of MURA until it has paid | {cells} |" in page
