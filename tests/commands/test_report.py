"""The command ``mura-skorch report``."""

import json
from pathlib import Path

import pandas as pd
import pytest

from mura_skorch.cli.main import main
from mura_skorch.report import write_report
from mura_skorch.tracking import TrackedRun

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def folder(predictions):
    write_report("first", predictions, title="Wrists", study_facts={"funding": "None."})
    return "first"


@pytest.fixture
def source(request, folder):
    """The report as a folder, or as the id of a run that holds it."""
    if request.param == "folder":
        return folder
    with TrackedRun(name="evaluation") as run:
        run.log_folder(folder, "report")
    return run.run_id


@pytest.mark.parametrize("source", ["folder", "run"], indirect=True)
def test_report_is_drawn_again_with_other_words_and_the_same_scores(source):
    Path("study.toml").write_text('ethics = "Approved by the board."\n')
    options = ["--title", "Wrists again", "--prevalence", "0.02", "--study-facts", "study.toml"]
    assert main(["report", source, "--out", "second", *options]) == 0
    first, second = (pd.read_csv(f"{name}/metrics.csv") for name in ("first", "second"))
    pd.testing.assert_frame_equal(first, second)
    page = Path("second/report.html").read_text()
    assert "Wrists again" in page
    assert "Approved by the board." in page
    written = json.loads(Path("second/report.json").read_text())
    assert written["prevalence"] == [0.02]
    assert written["study_facts"] == {"funding": "None.", "ethics": "Approved by the board."}


def test_without_options_the_page_stays_as_it_was(folder):
    assert main(["report", folder, "--out", "second"]) == 0
    assert Path("second/report.html").read_text() == Path("first/report.html").read_text()


@pytest.mark.parametrize("source", [".", "0" * 32])
def test_a_source_without_a_report_is_named(source):
    with pytest.raises(SystemExit, match="mura-skorch report: expected .*report"):
        main(["report", source])


@pytest.mark.parametrize("out", ["first", "first/../first", "link"])
def test_the_report_that_is_read_is_not_written_over(folder, out):
    Path("link").symlink_to(folder)
    Path(folder, "case.png").touch()
    before = {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()}
    with pytest.raises(SystemExit, match="report: expected --out other than .*pass another --out"):
        main(["report", folder, "--out", out])
    assert {path: path.stat().st_mtime_ns for path in Path(folder).iterdir()} == before
