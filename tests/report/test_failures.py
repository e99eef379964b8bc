import re

import pandas as pd
import pytest

from mura_skorch.report import ReportInputs, read_report, write_report

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def page(predictions, tmp_path):
    table = predictions.assign(site=["north", "south"] * 30, note="phantoms: no clinical meaning")
    write_report(tmp_path / "out", table, by=["site"], prevalence=[0.05])
    return (tmp_path / "out" / "report.html").read_text()


def section(page, anchor):
    return re.search(rf'<section id="{anchor}".*?</section>', page, re.DOTALL)[0]


def test_page_shows_errors_by_every_group_and_names_the_smallest(page):
    found = section(page, "failure-analysis")
    for name in ("study type", "views", "score", "site"):
        assert f"<summary>Errors by {name} (" in found
    assert "of fewer than 50 patients" in found
    assert "§ fewer than 50 patients in the group or in the rest" in found


def test_page_shows_calibration_and_values_at_the_chosen_prevalence(page, tmp_path):
    found = section(page, "calibration-prevalence-and-net-benefit")
    assert "calibration slope" in found
    values = pd.read_csv(tmp_path / "out" / "predictive_values.csv")
    assert values["prevalence"].tolist() == [0.5, 0.05]
    assert f"{values['ppv'][1]:.3f}".lstrip("0") in found
    assert "adds rows for shares of your own" not in found
    assert found.count("<img") == 2


def test_tables_carry_the_note_of_the_data(page, tmp_path):
    for name in ("failures", "calibration", "predictive_values", "decision_curve"):
        notes = pd.read_csv(tmp_path / "out" / f"{name}.csv")["note"]
        assert set(notes) == {"phantoms: no clinical meaning"}, name


def test_section_is_redrawn_without_the_model(page, tmp_path):
    arguments = read_report(tmp_path / "out")
    assert arguments["prevalence"] == [0.05]
    write_report(tmp_path / "again", **arguments)
    again = (tmp_path / "again" / "report.html").read_text()
    for anchor in ("failure-analysis", "calibration-prevalence-and-net-benefit"):
        assert section(again, anchor) == section(page, anchor)


def test_report_of_one_class_says_what_is_not_defined(predictions, tmp_path):
    write_report(tmp_path, ReportInputs(predictions.assign(label=0)))
    found = section(
        (tmp_path / "report.html").read_text(), "calibration-prevalence-and-net-benefit"
    )
    assert "Not defined: calibration slope: only one class." in found
    assert "<img" not in found


def test_report_without_scores_has_no_section(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(label=pd.array([pd.NA] * 60, dtype="Int8")))
    assert "Failure analysis" not in (tmp_path / "report.html").read_text()
