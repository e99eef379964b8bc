import re
from pathlib import Path

import pandas as pd
import pytest

from mura_skorch.report import ReportInputs, read_report, read_study_facts, write_report
from mura_skorch.report.checklists import CHECKLISTS, SECTIONS, checklist_count, fill_checklist
from mura_skorch.report.study_facts import FACTS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
FILES = {"claim.csv": 44, "tripod_ai.csv": 52, "stard_ai.csv": 48}
STUDY = """
setting = "Emergency department"
centres = ["Hospital A", "Hospital B"]
dates = [2019-01-01, 2021-12-31]
ethics = "Board of Hospital A, 2024-17; consent waived"
"""


def items_of(checklist):
    return fill_checklist(checklist, [], {}, {})


def ids_of(page):
    return set(re.findall(r'\bid="([^"]+)"', page))


@pytest.fixture(scope="module")
def readable(tmp_path_factory):
    """A report with the facts of four keys."""
    folder = tmp_path_factory.mktemp("report")
    n = 40
    table = pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(n)],
            "study_type": "XR_WRIST",
            "patient": [f"p{i // 2}" for i in range(n)],
            "label": [0, 1] * (n // 2),
            "score": [(7 * i % n) / n for i in range(n)],
        }
    )
    (folder / "study.toml").write_text(STUDY, encoding="utf-8")
    inputs = ReportInputs(table, model=["Network: Res.", "Loss: L.", "Training: seed 0."])
    write_report(folder / "report", inputs, study_facts=folder / "study.toml")
    return folder / "report"


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda item: item.key)
def test_items_are_numbered_as_published_without_gap_or_repetition(checklist):
    numbers = [item.item for item in items_of(checklist)]
    assert len(numbers) == len(set(numbers)) == FILES[f"{checklist.key}.csv"]
    whole = [int(number.rstrip("abcdefg")) for number in numbers]
    assert whole == sorted(whole)
    assert set(whole) == set(range(1, checklist.n_items + 1))
    for number in set(whole):
        letters = [
            item[len(str(number)) :] for item in numbers if item.rstrip("abcdefg") == str(number)
        ]
        assert letters in ([""], list("abcdefg")[: len(letters)])


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda item: item.key)
def test_every_source_of_an_item_is_known(checklist):
    file = Path(fill_checklist.__code__.co_filename).parent / f"checklist_items/{checklist.key}.csv"
    assert checklist.citation.rpartition("doi:")[2] in file.read_text(encoding="utf-8")
    table = pd.read_csv(file, comment="#", dtype=str, keep_default_na=False)
    sections = {name for cell in table["sections"] for name in cell.split("|") if name}
    assert {name for name in sections if not name.startswith("card:")} <= set(SECTIONS)
    assert {name for cell in table["facts"] for name in cell.split("|") if name} <= set(FACTS)
    assert table["words"].str.strip().ne("").all()


def test_number_of_items_that_are_shown_is_said():
    claim = CHECKLISTS[0]
    assert checklist_count(claim, items_of(claim)) == "All 44 items are shown."
    assert checklist_count(claim, items_of(claim)[1:]).startswith("43 of 44 items are shown;")


@pytest.mark.parametrize("checklist", CHECKLISTS, ids=lambda item: item.key)
def test_without_sections_and_facts_every_item_is_left_to_the_authors(checklist):
    for item in items_of(checklist):
        assert item.status == "authors must state"
        assert item.missing
        assert not item.places


def test_item_is_filled_only_by_a_section_that_is_there():
    claim = CHECKLISTS[0]
    readers = {item.item: item for item in fill_checklist(claim, [("r", "Readers")], {}, {})}["18"]
    assert readers.places == [("r", "Readers")]
    assert readers.status == "in part"  # how disagreement was settled stays with the authors
    flow = {item.item: item for item in fill_checklist(claim, [("r", "Readers")], {}, {})}["35"]
    assert flow.status == "authors must state"
    there = [("f", "What went in"), ("by", "By site")]
    found = {item.item: item for item in fill_checklist(claim, there, {}, {})}
    assert found["35"].status == "filled"
    assert found["37"].places == [("by", "By site")]
    assert found["36"].places == [("f", "What went in")]


def test_fact_fills_its_items_and_its_absence_is_named():
    claim = CHECKLISTS[0]
    card = {"Study": "model-card-study"}
    funded = {item.item: item for item in fill_checklist(claim, [], card, {"funding": "None."})}
    assert funded["44"].status == "filled"
    assert funded["44"].places == [("model-card-study", "Model card: Study (funding)")]
    assert {item.item: item for item in items_of(claim)}["44"].missing == "funding"
    assert funded["16"].missing == "annotators"


def test_every_place_that_a_checklist_names_is_on_the_page(readable):
    page = (readable / "report.html").read_text()
    links = re.findall(r'href="#([^"]+)"', page)
    assert set(links) <= ids_of(page)
    for file, n_items in FILES.items():
        table = pd.read_csv(readable / file, dtype=str, keep_default_na=False)
        assert len(table) == n_items
        anchors = {a.removeprefix("#") for cell in table["anchors"] for a in cell.split()}
        assert anchors
        assert anchors <= ids_of(page)
        assert (table["status"].eq("authors must state") == table["filled_from"].eq("")).all()
        assert (table["status"].eq("filled") == table["authors_must_state"].eq("")).all()


def test_sections_of_other_reports_are_not_named(readable):
    table = pd.read_csv(readable / "claim.csv", dtype=str, keep_default_na=False).set_index("item")
    assert table.loc["18", "status"] == "authors must state"  # no readers here
    assert "Readers" not in " ".join(table["filled_from"])
    assert "Results by study type" in table.loc["38", "filled_from"]


def test_missing_facts_are_asked_for_by_name_and_stated_ones_shown(readable):
    page = (readable / "report.html").read_text()
    wanted = "eligibility, reference_standard, annotators, funding, licence, contact"
    assert f"To be stated by the authors: {wanted}." in page
    card = (readable / "model_card.md").read_text()
    for text in ("Centres: Hospital A; Hospital B", "Dates: 2019-01-01; 2021-12-31"):
        assert text in page
        assert text in card


def test_checklists_fold_and_say_how_many_items_they_show(readable):
    page = (readable / "report.html").read_text()
    section = re.search(r'<section id="reporting-checklists".*?</section>', page, re.DOTALL)[0]
    assert section.count("<details>") == 3
    for text in ("All 44 items", "All 27 items are shown, in 52 rows", "All 40 items are shown"):
        assert text in section
    for checklist in CHECKLISTS:
        assert checklist.citation in section


@pytest.mark.slow
def test_checklists_are_redrawn_from_the_folder(readable, tmp_path):
    write_report(tmp_path / "again", **read_report(readable))
    for name in (*FILES, "report.html", "model_card.md"):
        assert (tmp_path / "again" / name).read_bytes() == (readable / name).read_bytes()


def test_unknown_fact_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ValueError, match="got ethic; did you mean ethics"):
        read_study_facts({"ethic": "yes"})
    (tmp_path / "study.toml").write_text("ethics = ", encoding="utf-8")
    with pytest.raises(ValueError, match=r"study.toml: expected a TOML file .* end of document"):
        read_study_facts(tmp_path / "study.toml")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_study_facts(tmp_path / "none.toml")
    (tmp_path / "study.toml").write_bytes('ethics = "\xfc"'.encode("latin-1"))
    with pytest.raises(ValueError, match="in UTF-8"):
        read_study_facts(tmp_path / "study.toml")


@pytest.mark.parametrize("value", [True, {"a": 1}, [["a"]], None])
def test_fact_that_is_no_text_is_refused(value):
    with pytest.raises(ValueError, match="expected funding as a text"):
        read_study_facts({"funding": value})


def test_facts_keep_their_order_and_empty_ones_are_not_stated():
    given = {"contact": " a@b.org\n", "centres": 3, "funding": "", "dates": []}
    assert read_study_facts(given) == {"centres": "3", "contact": "a@b.org"}


def test_facts_are_texts_on_the_page(predictions, tmp_path):
    write_report(tmp_path, predictions, study_facts={"setting": "<script>alert(1)</script>"})
    assert "<script" not in (tmp_path / "report.html").read_text()
    assert "<script" not in (tmp_path / "model_card.md").read_text()
