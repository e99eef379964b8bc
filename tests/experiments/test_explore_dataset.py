import os
import runpy
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "experiments" / "explore_dataset.py"


def explore(*arguments):
    """Run the script in this process and return its exit status."""
    return runpy.run_path(str(SCRIPT))["main"]([str(argument) for argument in arguments])


def test_tables_figure_and_page_are_written(phantom_root, capsys):
    assert explore("--data", phantom_root, "--out", "found") == 0
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 100
    for heading in ("Studies", "Images", "Views per study", "Image sizes", "Formats and modes"):
        assert f"\n{heading}\n" in shown
    assert "phantoms: no clinical meaning" in shown
    assert "found/dataset.html" in shown.replace(os.sep, "/")
    names = {path.name for path in Path("found").iterdir()}
    assert {"dataset.html", "dataset.png", "counts.csv", "images.csv", "duplicates.csv"} <= names


def test_no_images_option_reads_no_image(phantom_root, capsys):
    assert explore("--data", phantom_root, "--out", "found", "--no-images") == 0
    assert "Image sizes" not in capsys.readouterr().out
    assert not Path("found", "images.csv").exists()
    assert Path("found", "counts.csv").exists()


def test_exit_status_is_1_for_problems(tmp_path, capsys):
    for split in ("train", "valid"):
        folder = tmp_path / "data" / split / "XR_HAND" / "patient1" / "study1_positive"
        folder.mkdir(parents=True)
        Image.new("L", (9, 9), 7).save(folder / "image1.png")
    assert explore("--data", tmp_path / "data", "--out", "found") == 1
    shown = capsys.readouterr().out
    assert "!! Patients in more than one split: 1 (patient1)" in shown
    assert "!! 2 images are copies of an image in another split" in shown
    assert len(pd.read_csv("found/duplicates.csv")) == 2


def test_missing_folder_exits_with_a_message():
    with pytest.raises(SystemExit, match="explore_dataset: .*no such folder"):
        explore("--data", "nowhere")
