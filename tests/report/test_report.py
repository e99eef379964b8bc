import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from mura_skorch.evaluation import evaluate, join_notes, prediction_table
from mura_skorch.evaluation.published import STUDY_COUNTS
from mura_skorch.report import read_report, write_report
from mura_skorch.report.report import _figures

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
HISTORY = [
    {"epoch": 1, "train_loss": 0.4, "valid_loss": 0.35, "valid_kappa": 0.1, "batches": [{}]},
    {"epoch": 2, "train_loss": 0.3, "valid_loss": 0.33, "valid_kappa": 0.3, "batches": [{}]},
]


@pytest.fixture
def views(predictions):
    rows = predictions.loc[predictions.index.repeat(2)]
    return rows.assign(view=[1, 2] * 60).reset_index(drop=True)


def test_report_is_tables_figures_a_card_and_a_page(predictions, views, tmp_path):
    scores = write_report(
        tmp_path / "out", predictions, view_predictions=views, histories={"XR_HAND": HISTORY}
    )
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {
        *("predictions.csv", "view_predictions.csv", "epochs.csv", "metrics.csv", "shortcuts.csv"),
        *("kappa.png", "roc.png", "reliability.png", "training.png"),
        *("model_card.md", "report.html", "report.json"),
    }
    assert scores["study_type"].tolist() == ["XR_HAND", "XR_WRIST", "overall"]
    metrics = pd.read_csv(tmp_path / "out" / "metrics.csv")
    assert metrics.groupby("level")["n"].max().to_dict() == {"study": 60, "view": 120}


def test_page_needs_no_other_file_and_no_network(predictions, tmp_path):
    write_report(tmp_path, predictions, histories={"XR_HAND": HISTORY})
    page = (tmp_path / "report.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page) == []
    assert "<script" not in page
    assert "not a medical device" in page.lower()


def test_page_shows_the_table_that_is_written(predictions, tmp_path):
    scores = write_report(tmp_path, predictions)
    page = (tmp_path / "report.html").read_text()
    overall = scores.iloc[-1]
    text = f"{overall.kappa:.3f} ({overall.kappa_low:.3f}, {overall.kappa_high:.3f})"
    assert re.sub(r"\b0\.", ".", text) in page


def test_caveat_of_the_data_is_on_every_output(predictions, tmp_path):
    noted = predictions.assign(note="phantoms: no clinical meaning")
    write_report(tmp_path, noted)
    for name in ("report.html", "model_card.md", "predictions.csv"):
        assert "phantoms: no clinical meaning" in (tmp_path / name).read_text(), name
    assert "no clinical meaning" in pd.read_csv(tmp_path / "metrics.csv")["note"][0]


def test_report_is_drawn_again_from_its_own_tables(predictions, views, tmp_path):
    write_report(
        tmp_path / "first",
        predictions.assign(
            site=["01", "NA", "north"] * 20,
            score=predictions["score"].astype("float32"),
            label=predictions["label"].astype("Int8").mask(predictions.index == 7),
        ),
        view_predictions=views,
        histories={"XR_HAND": HISTORY},
        about={"Question": "is it the same?"},
        by=["site"],
        title="Once",
    )
    write_report(tmp_path / "again", **read_report(tmp_path / "first"))
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_papers_operating_point_is_drawn_for_all_seven_study_types_only(predictions):
    seven = predictions.assign(study_type=list(STUDY_COUNTS["valid"]) * 8 + ["XR_HAND"] * 4)
    for table, is_drawn in ((seven, True), (predictions, False)):
        figure = _figures(evaluate(table), table, None, published=True, note=None)["roc"]
        words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert any("paper" in text for text in words) == is_drawn


def test_headline_counts_the_patients_of_the_studies_that_are_scored(predictions, tmp_path):
    partly = predictions.assign(label=predictions["label"].astype("Int8"))
    partly.loc[20:, "label"] = pd.NA
    write_report(tmp_path, partly)
    assert "over 20 studies of 10 patients" in (tmp_path / "report.html").read_text()


def test_column_with_a_slash_in_its_name_has_a_file(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(**{"age/sex": "a"}), by=["age/sex"])
    assert (tmp_path / "by_age_sex.csv").is_file()


def test_model_card_says_na_where_a_figure_is_not_defined(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(label=0))
    assert "AUROC n/a" in (tmp_path / "model_card.md").read_text()


def test_card_speaks_of_muras_labels_where_the_studies_are_muras(predictions, tmp_path):
    counts = STUDY_COUNTS["valid"]["XR_HUMERUS"]
    n = sum(counts)
    mura = pd.DataFrame(
        {
            **{"study": [f"s{i}" for i in range(n)], "study_type": "XR_HUMERUS"},
            **{"label": np.repeat([0, 1], counts), "score": np.linspace(0, 1, n)},
        }
    )
    for table, is_named in ((mura, True), (mura[1:], False), (predictions, False)):
        write_report(tmp_path, table)
        assert ("MURA" in (tmp_path / "model_card.md").read_text()) == is_named


def test_card_has_the_models_own_words_and_the_authors_notes(predictions, tmp_path):
    notes = ["Labels by two radiologists in consensus."]
    write_report(tmp_path / "a", predictions, model=["Network: Res. A ResNet-18."], notes=notes)
    write_report(tmp_path / "b", **read_report(tmp_path / "a"))
    write_report(tmp_path / "c", predictions)
    told, again, bare = ((tmp_path / name / "model_card.md").read_text() for name in "abc")
    assert again == told
    assert "- Network: Res. A ResNet-18." in told
    assert f"## Notes of the authors\n\n- {notes[0]}" in told
    assert "## Notes of the authors" not in bare
    assert "not stated" not in told
    assert "How these labels came about is not stated here" in bare
    for card in (told, bare):
        assert "DenseNet" not in card
        assert "Activation maps" not in card  # none is shown


def test_report_of_several_models_names_the_pool_wherever_it_stands(predictions, tmp_path):
    several = predictions.assign(scored_by=predictions["study_type"])
    scores = write_report(tmp_path / "several", several)
    write_report(tmp_path / "one", predictions)
    pages, cards = (
        [(tmp_path / name / file).read_text() for name in ("several", "one")]
        for file in ("report.html", "model_card.md")
    )
    for texts in (pages, cards):
        assert [" pools the" in text for text in texts] == [True, False]
    mean = f"{scores.iloc[-2].auroc:.3f}"[1:]
    assert f"AUROC {mean}" in pages[0]
    again = write_report(tmp_path / "again", **read_report(tmp_path / "several"))
    pd.testing.assert_frame_equal(again, scores)


def test_rows_of_few_patients_are_marked_beside_kappa_and_auroc(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(site=["a", "b"] * 30), by=["site"])
    page = (tmp_path / "report.html").read_text()
    assert "fewer than 50 patients: intervals are likely to be too narrow" in page
    caution = pd.read_csv(tmp_path / "metrics.csv")["caution"]
    assert set(caution) == {"fewer than 50 patients"}
    enough = pd.concat([predictions] * 2, ignore_index=True)
    enough = enough.assign(study=range(120), patient=range(120), study_type="XR_HAND")
    write_report(tmp_path, enough)
    assert "too narrow. " not in (tmp_path / "report.html").read_text()
    assert "\u2020" not in (tmp_path / "report.html").read_text()


def test_calibration_error_is_printed_without_an_interval(predictions, tmp_path):
    scores = write_report(tmp_path, predictions)
    page = (tmp_path / "report.html").read_text()
    error = f"{scores['ece'].iloc[-1]:.3f}"[1:]
    assert f'<td class="number">{error}</td>' in page
    assert "artefact" not in page


def test_readers_of_different_studies_are_not_ranked(predictions, tmp_path):
    rng = np.random.default_rng(0)
    read = {name: rng.integers(0, 2, 60) for name in ("ann", "bob", "cem")}
    table = predictions.assign(**read, decision=(predictions["score"] > 0.5).astype(int))
    for gold, is_ranked in ((None, False), ("label", True)):
        write_report(tmp_path, table, readers=list(read), gold=gold)
        page = (tmp_path / "report.html").read_text()
        section = re.search(r'<section id="readers".*?</section>', page, re.DOTALL)[0]
        assert (" *\n" in section) == is_ranked
        assert ("ties" in section) == ("--gold label" in section) == (not is_ranked)


def test_breakdown_is_headed_by_its_column_and_has_the_auroc(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(site=["north", "south"] * 30), by=["site"])
    page = (tmp_path / "report.html").read_text()
    section = re.search(r'<section id="by-site".*?</section>', page, re.DOTALL)[0]
    assert section.count('<th scope="col">site</th>') >= 2
    assert "AUROC</th>" in section
    assert "study type</th>" not in section


def test_folder_without_a_report_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.json"):
        read_report(tmp_path)


def test_one_class_leaves_out_the_curves_and_says_why(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(label=0))
    assert not (tmp_path / "roc.png").exists()
    assert "not defined, and why" in (tmp_path / "report.html").read_text()


def test_names_are_escaped(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(study_type="<script>alert(1)</script>"))
    assert "<script" not in (tmp_path / "report.html").read_text()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_page_fits_the_width_of_a_phone(predictions, views, tmp_path):
    write_report(tmp_path, predictions, view_predictions=views, histories={"XR_HAND": HISTORY})
    page = (tmp_path / "report.html").read_text()
    # The page forbids scripts; the copy measures itself and says so in its title.
    page = re.sub(r"<meta http-equiv[^>]*>", "", page)
    script = "document.title = document.documentElement.scrollWidth"
    frame = page.replace("</body>", f"<script>{script}</script></body>")
    (tmp_path / "measured.html").write_text(frame)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,900"]
    command += ["--dump-dom", (tmp_path / "measured.html").as_uri()]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert int(re.search(r"<title>(\d+)</title>", found.stdout)[1]) <= 500


def test_prediction_table_keeps_no_path(studies):
    table = prediction_table(studies, np.zeros(len(studies)))
    columns = ["study", "study_type", "patient", "label", "n_views"]
    columns += ["score", "threshold", "decision", "note"]
    assert table.columns.tolist() == columns
    assert join_notes(studies) == "phantoms: no clinical meaning"
    assert join_notes(studies.drop(columns="note")) is None
