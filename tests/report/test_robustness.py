import re

import pandas as pd
import pytest

from mura_skorch.report import collect_predictions, read_report, write_report

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def folder(fitted, valid, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(folder, collect_predictions(fitted, valid, n_cases=0, robustness=True))
    return folder


def section(folder):
    page = (folder / "report.html").read_text()
    return re.search(r'<section id="robustness".*?</section>', page, re.DOTALL)[0]


def test_report_has_a_table_a_figure_and_the_worst_cases(folder):
    found = section(folder)
    scores = pd.read_csv(folder / "robustness.csv")
    for name in scores["perturbation"]:
        assert f">{name}</th>" in found
    assert {"one view dropped", "view 1 alone", "inverted"} <= set(scores["perturbation"])
    assert (folder / "robustness.png").is_file()
    assert found.count("<article>") > 0
    assert found.count("<article>") == found.count("alone, before and after")
    assert "phantoms: no clinical meaning" in found
    assert set(scores["note"]) == {"phantoms: no clinical meaning"}


def test_section_is_redrawn_without_the_model_but_without_pictures(folder, tmp_path):
    write_report(tmp_path, **read_report(folder))
    again = section(tmp_path)
    without = re.sub(r"<figure>\s*<div class=\"views\">.*?</figure>\s*", "", section(folder),
                     flags=re.DOTALL)  # fmt: skip
    assert re.sub(r"\s+", " ", again) == re.sub(r"\s+", " ", without)
    for name in ("robustness", "robustness_predictions"):
        assert (tmp_path / f"{name}.csv").read_bytes() == (folder / f"{name}.csv").read_bytes()


def test_report_without_the_option_has_no_section(fitted, valid, tmp_path):
    write_report(tmp_path, collect_predictions(fitted, valid, n_cases=0))
    assert 'id="robustness"' not in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "robustness.csv").exists()
