import re
from pathlib import Path

import pytest
from public_datasets import write_grazpedwri

from mura_skorch.report.checklists import CHECKLISTS
from mura_skorch.report.study_facts import FACTS

DOCS = Path(__file__).parents[1] / "docs" / "how_to"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def code_of(page, language="python"):
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_snippets_of_the_page_on_checklists_run(fitted, valid):
    (facts,) = code_of("checklists.md", "toml")
    Path("study.toml").write_text(facts, encoding="utf-8")
    names = {"clf": fitted, "test": valid}
    for snippet in code_of("checklists.md"):
        exec(snippet, names)
    assert "To be stated by the authors" not in Path("report/report.html").read_text()
    assert "To be stated by the authors: setting" in Path("again/report.html").read_text()


def test_page_on_checklists_names_every_fact_and_checklist():
    (facts,) = code_of("checklists.md", "toml")
    assert re.findall(r"^(\w+) =", facts, re.MULTILINE) == list(FACTS)
    text = (DOCS / "checklists.md").read_text(encoding="utf-8")
    for checklist in CHECKLISTS:
        assert f"| {checklist.name} | {checklist.n_items}" in text


@pytest.mark.slow
def test_snippets_of_the_page_on_external_validation_run(fitted, train, valid, capsys):
    rows = [(f"{k:04d}_1297860{k:03d}_01_WRI-L1_M010", "1" if k % 3 else "") for k in range(1, 41)]
    write_grazpedwri("GRAZPEDWRI-DX", rows)
    names = {"clf": fitted, "train": train, "valid": valid}
    for snippet in code_of("external_validation.md"):
        exec(snippet, names)
    printed = capsys.readouterr().out
    assert "kappa_change" in printed
    assert "XR_WRIST: studies" in printed
