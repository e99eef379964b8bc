"""The guide on evidence: its snippets run as they stand."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "how_to" / "evidence.md"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_snippets_run_in_order(fitted, train, valid, capsys):
    names = {"clf": fitted, "train": train, "valid": valid}
    for snippet in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), flags=re.DOTALL):
        exec(compile(snippet, PAGE.name, "exec"), names)
    assert "inverted" in capsys.readouterr().out
    page = Path("report/report.html").read_text()
    for heading in ("Failure analysis", "Robustness", "What went in"):
        assert f">{heading}</h2>" in page
    assert "counted in the process of the fit" in page
