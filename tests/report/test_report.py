import inspect
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from mura_skorch import evaluation, metrics
from mura_skorch.evaluation import evaluate, join_notes, prediction_table
from mura_skorch.evaluation.published import STUDY_COUNTS
from mura_skorch.metrics.intervals import N_RESAMPLES
from mura_skorch.report import ReportInputs, collect_predictions, read_report, write_report
from mura_skorch.report.model_card import describe_model
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


def defaults_of(module, name):
    """Return the defaults of an argument, by function of a package."""
    found = {}
    for name_of, thing in vars(module).items():
        if callable(thing) and name in (known := inspect.signature(thing).parameters):
            found[name_of] = known[name].default
    return found


def test_page_states_the_number_of_resamples_that_are_drawn(predictions, tmp_path):
    write_report(tmp_path, predictions)
    assert f"draws {N_RESAMPLES:,} resamples" in (tmp_path / "report.html").read_text()
    drawn = defaults_of(metrics, "n_resamples") | defaults_of(evaluation, "n_resamples")
    assert drawn.pop("choice_optimism", 500) == 500  # of sweeps, not on this page
    assert set(drawn.values()) == {N_RESAMPLES}
    assert len(drawn) > 9


def test_page_of_one_type_does_not_speak_of_several(predictions, tmp_path):
    write_report(tmp_path / "one", predictions[predictions["study_type"] == "XR_HAND"])
    page = (tmp_path / "one" / "report.html").read_text()
    assert "Differences in prevalence between study types" not in page
    assert "Receiver operating characteristic.</figcaption>" in page
    write_report(tmp_path / "two", predictions)
    page = (tmp_path / "two" / "report.html").read_text()
    assert "Differences in prevalence between study types" in page


def test_address_of_a_run_is_a_link_and_other_texts_are_escaped(predictions, tmp_path):
    about = {"MLflow run": "a1 http://server:5000/#/runs/a1", "Data": "<b>://x</b>"}
    write_report(tmp_path, predictions, about=about)
    page = (tmp_path / "report.html").read_text()
    assert 'a1 <a href="http://server:5000/#/runs/a1" rel="' in page
    assert "<b>" not in page.partition("What was run</h2>")[2].partition("</table>")[0]


def test_report_writes_tables_figures_model_card_and_page(predictions, views, tmp_path):
    inputs = ReportInputs(predictions, views)
    scores = write_report(tmp_path / "out", inputs, histories={"XR_HAND": HISTORY})
    found = {path.name for path in (tmp_path / "out").iterdir()}
    assert found == {
        "predictions.csv",
        "view_predictions.csv",
        "epochs.csv",
        "metrics.csv",
        "shortcuts.csv",
        "failures.csv",
        "calibration.csv",
        "predictive_values.csv",
        "decision_curve.csv",
        "flow.png",
        "prevalence.png",
        "net_benefit.png",
        "kappa.png",
        "roc.png",
        "reliability.png",
        "training.png",
        "model_card.md",
        "claim.csv",
        "tripod_ai.csv",
        "stard_ai.csv",
        "report.html",
        "report.json",
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


def test_page_shows_the_returned_scores(predictions, tmp_path):
    scores = write_report(tmp_path, predictions)
    page = (tmp_path / "report.html").read_text()
    overall = scores.iloc[-1]
    text = f"{overall.kappa:.3f} ({overall.kappa_low:.3f}, {overall.kappa_high:.3f})"
    assert re.sub(r"\b0\.", ".", text) in page


def test_data_caveat_is_in_every_output(predictions, tmp_path):
    noted = predictions.assign(note="phantoms: no clinical meaning")
    write_report(tmp_path, noted)
    for name in ("report.html", "model_card.md", "predictions.csv"):
        assert "phantoms: no clinical meaning" in (tmp_path / name).read_text(), name
    assert "no clinical meaning" in pd.read_csv(tmp_path / "metrics.csv")["note"][0]


@pytest.mark.slow
def test_report_rewritten_from_its_tables_is_identical(predictions, views, tmp_path):
    table = predictions.assign(
        site=["01", "NA", "north"] * 20,
        score=predictions["score"].astype("float32"),
        label=predictions["label"].astype("Int8").mask(predictions.index == 7),
    )
    write_report(
        tmp_path / "first",
        ReportInputs(table, views, model=["Network: Res."], alerts=["too good"]),
        histories={"XR_HAND": HISTORY},
        about={"Question": "is it the same?"},
        by=["site"],
        title="Once",
    )
    write_report(tmp_path / "again", **read_report(tmp_path / "first"))
    for path in (tmp_path / "first").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


def test_paper_operating_point_is_drawn_only_with_all_seven_study_types(predictions):
    seven = predictions.assign(study_type=list(STUDY_COUNTS["valid"]) * 8 + ["XR_HAND"] * 4)
    for table, is_drawn in ((seven, True), (predictions, False)):
        figure = _figures(evaluate(table), table, None, published=True, note=None)["roc"]
        words = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert any("paper" in text for text in words) == is_drawn


def test_headline_counts_patients_of_scored_studies(predictions, tmp_path):
    partly = predictions.assign(label=predictions["label"].astype("Int8"))
    partly.loc[20:, "label"] = pd.NA
    write_report(tmp_path, partly)
    assert "over 20 studies of 10 patients" in (tmp_path / "report.html").read_text()


def test_subgroup_column_with_slash_is_written(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(**{"age/sex": "a"}), by=["age/sex"])
    assert (tmp_path / "by_age_sex.csv").is_file()


def test_model_card_shows_undefined_figures_as_na(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(label=0))
    assert "AUROC n/a" in (tmp_path / "model_card.md").read_text()


@pytest.mark.slow
def test_model_card_describes_mura_labels_only_for_mura(predictions, tmp_path):
    counts = STUDY_COUNTS["valid"]["XR_HUMERUS"]
    n = sum(counts)
    mura = pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(n)],
            "study_type": "XR_HUMERUS",
            "label": np.repeat([0, 1], counts),
            "score": np.linspace(0, 1, n),
        }
    )
    for table, is_named in ((mura, True), (mura[1:], False), (predictions, False)):
        write_report(tmp_path, table)
        assert ("MURA" in (tmp_path / "model_card.md").read_text()) == is_named


@pytest.mark.slow
def test_model_card_contains_model_description_and_author_notes(predictions, tmp_path):
    notes = ["Labels by two radiologists in consensus."]
    described = ReportInputs(predictions, model=["Network: Res. A ResNet-18."])
    write_report(tmp_path / "a", described, notes=notes)
    write_report(tmp_path / "b", **read_report(tmp_path / "a"))
    write_report(tmp_path / "c", predictions)
    given, again, bare = ((tmp_path / name / "model_card.md").read_text() for name in "abc")
    assert again == given
    assert "- Network: Res. A ResNet-18." in given
    assert f"## Notes of the authors\n\n- {notes[0]}" in given
    assert "## Notes of the authors" not in bare
    assert "not stated" not in given
    assert "The source of these labels is not stated" in bare
    for card in (given, bare):
        assert "DenseNet" not in card
        assert "Activation maps" not in card  # none is shown


@pytest.mark.slow
def test_report_marks_figures_pooled_over_models(predictions, tmp_path):
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


@pytest.mark.slow
def test_rows_with_few_patients_are_marked(predictions, tmp_path):
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


def test_calibration_error_has_no_interval(predictions, tmp_path):
    scores = write_report(tmp_path, predictions)
    page = (tmp_path / "report.html").read_text()
    error = f"{scores['ece'].iloc[-1]:.3f}"[1:]
    assert f'<td class="number">{error}</td>' in page
    assert "artefact" not in page


@pytest.mark.slow
def test_readers_with_different_studies_are_not_ranked(predictions, tmp_path):
    rng = np.random.default_rng(0)
    read = {name: rng.integers(0, 2, 60) for name in ("ann", "bob", "cem")}
    table = predictions.assign(**read, decision=(predictions["score"] > 0.5).astype(int))
    for gold, is_ranked in ((None, False), ("label", True)):
        write_report(tmp_path, table, readers=list(read), gold=gold)
        page = (tmp_path / "report.html").read_text()
        section = re.search(r'<section id="readers".*?</section>', page, re.DOTALL)[0]
        assert (" *\n" in section) == is_ranked
        assert ("ties" in section) == ("--gold label" in section) == (not is_ranked)


def test_subgroup_section_names_its_column_and_has_auroc(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(site=["north", "south"] * 30), by=["site"])
    page = (tmp_path / "report.html").read_text()
    section = re.search(r'<section id="by-site".*?</section>', page, re.DOTALL)[0]
    assert section.count('<th scope="col">site</th>') >= 2
    assert "AUROC</th>" in section
    assert "study type</th>" not in section


def test_read_report_refuses_other_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"report\.json"):
        read_report(tmp_path)


def test_single_class_omits_curves_and_gives_the_reason(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(label=0))
    assert not (tmp_path / "roc.png").exists()
    assert "not defined, and why" in (tmp_path / "report.html").read_text()


def test_study_types_are_escaped(predictions, tmp_path):
    write_report(tmp_path, predictions.assign(study_type="<script>alert(1)</script>"))
    assert "<script" not in (tmp_path / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the browser chromium")
def test_page_fits_the_width_of_a_phone(predictions, views, tmp_path):
    write_report(tmp_path, ReportInputs(predictions, views), histories={"XR_HAND": HISTORY})
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


@pytest.mark.slow
def test_recalibration_is_reported_on_page_and_card(fitted, valid, tmp_path):
    local = fitted.recalibrate(valid, threshold=0.5)
    for name, model in (("local", local), ("original", fitted)):
        inputs = collect_predictions(model, valid, n_cases=0)
        write_report(tmp_path / name, inputs)
        for file in ("report.html", "model_card.md"):
            text = (tmp_path / name / file).read_text()
            assert (
                f"Recalibrated after training: slope {local.slope_:.3g} and intercept" in text
            ) == (name == "local")


def test_prior_correction_is_reported_as_recalibration(fitted, valid, tmp_path):
    corrected = fitted.recalibrate(threshold=0.3, calibration=None, prior_correction=True)
    assert sum("corrected for the class weights" in text for text in describe_model(corrected)) == 1


@pytest.mark.slow
def test_training_patients_are_reported(fitted, train, valid, tmp_path):
    some = pd.concat([train[:2], valid])
    with pytest.warns(UserWarning, match="2 of 18 studies carry ids of patients .* pass studies"):
        inputs = collect_predictions(fitted, some, n_cases=0)
    write_report(tmp_path, inputs)
    assert "2 of 18 studies carry ids of patients" in (tmp_path / "report.html").read_text()
    assert collect_predictions(fitted, valid, n_cases=0).alerts == []
    anonymous = some.drop(columns="patient")
    assert collect_predictions(fitted, anonymous, n_cases=0).alerts == []


def test_prediction_table_holds_no_path(studies):
    table = prediction_table(studies, np.zeros(len(studies)))
    columns = ["study", "study_type", "patient", "label", "n_views"]
    columns += ["score", "threshold", "decision", "note"]
    assert table.columns.tolist() == columns
    assert join_notes(studies) == "phantoms: no clinical meaning"
    assert join_notes(studies.drop(columns="note")) is None
