import re
import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from public_datasets import write_fracatlas, write_grazpedwri
from sklearn.metrics import cohen_kappa_score

from mura_skorch import MuraClassifier, read_studies, write_phantoms
from mura_skorch.report import read_report, write_report

SCRIPT = Path(__file__).parents[2] / "experiments" / "external.py"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="external")["main"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The model's own hospital: phantoms of wrists."""
    folder = tmp_path_factory.mktemp("own") / "phantoms"
    return write_phantoms(folder, n_train=10, n_valid=10, study_types=["XR_WRIST"])


@pytest.fixture(scope="module")
def model(own, tmp_path_factory):
    studies = read_studies(own)
    clf = MuraClassifier(
        module__backbone="mobilenet_v2",
        module__weights=None,
        dataset__image_size=32,
        max_epochs=1,
        train_split=None,
        random_state=0,
        callbacks__mlflow=None,
        verbose=0,
    ).fit(studies[studies.split == "train"])
    folder = tmp_path_factory.mktemp("model")
    clf.save(folder)
    return folder


@pytest.fixture(scope="module")
def graz(tmp_path_factory):
    """A folder in the layout of GRAZPEDWRI-DX: 40 studies of 40 children."""
    rows = [
        (f"{k:04d}_12978603{k:02d}_01_WRI-L1_{'MF'[k % 2]}{k % 17:03d}", "1" if k % 3 == 0 else "")
        for k in range(1, 41)
    ]
    return write_grazpedwri(tmp_path_factory.mktemp("graz"), rows)


def call(main, model, data, *arguments):
    paths = ["--model", str(model), "--data", str(data), "--out", "out"]
    return main([*paths, "--draws", "10", "--n-resamples", "50", "--cases", "0", *arguments])


@pytest.mark.slow
def test_other_hospital_is_compared_with_the_own_one_on_one_page(main, model, graz, own, capsys):
    Path("study.toml").write_text('ethics = "Waived."')
    extra = ["--own-data", str(own), "--by", "sex", "--study-facts", "study.toml"]
    assert call(main, model, graz, *extra) == 0
    printed = capsys.readouterr().out
    assert "Layout: grazpedwri. 40 labelled studies" in printed
    assert "Kappa here minus at home" in printed
    change = pd.read_csv("out/external_change.csv").set_index("study_type").loc["overall"]
    predictions = pd.read_csv("out/predictions.csv")
    kappa = cohen_kappa_score(predictions["label"], predictions["score"] > 0.5)
    assert change["kappa_external"] == pytest.approx(kappa, nan_ok=True)
    assert (change["n_reference"], change["n_external"]) == (10, 40)
    mix = pd.read_csv("out/external_case_mix.csv").set_index("characteristic")
    assert mix.loc["studies", ["training", "here"]].tolist() == ["10", "40"]
    assert pd.isna(mix.loc["age in years: median (quartiles)", "training"])
    curve = pd.read_csv("out/external_recalibration.csv")
    assert curve["n_studies"].tolist() == [0, 10]
    page = Path("out/report.html").read_text()
    for title in ("Case mix", "Change in performance", "Recalibration on local studies", "By sex"):
        assert f">{title}</h2>" in page
    assert "model trained on phantoms: no clinical meaning" in page
    # Both number their patients from 1.
    assert re.search(r"\d of the 40 patient ids here occur among the \d", page)
    assert "Two hospitals may use one id for different patients" in page
    assert "counted with the table of the fit, which its digest identifies" in page
    assert "those that the model was trained on, without those that chose its epoch" in page
    stard = pd.read_csv("out/stard_ai.csv", dtype=str).set_index("item")
    assert stard.loc["29", "filled_from"] == "Case mix"
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(re.findall(r'\bid="([^"]+)"', page))


@pytest.mark.slow
def test_own_data_that_the_model_was_not_fitted_on_is_named(main, model, graz, tmp_path):
    other = write_phantoms(tmp_path / "o", n_train=9, n_valid=10, study_types=["XR_WRIST"])
    assert call(main, model, graz, "--own-data", str(other)) == 0
    assert "is another one, since their digests differ" in Path("out/report.html").read_text()
    mix = pd.read_csv("out/external_case_mix.csv").set_index("characteristic")
    assert mix.loc["studies", "training"] == "10"  # of the model's record, not of the folder


@pytest.mark.slow
def test_report_is_redrawn_from_its_folder(main, model, graz, own):
    assert call(main, model, graz, "--own-data", str(own)) == 0
    write_report("again", **read_report("out"))
    for path in Path("out").iterdir():
        if path.suffix in (".html", ".csv", ".md"):
            assert path.read_bytes() == Path("again", path.name).read_bytes(), path.name


@pytest.mark.slow
def test_predictions_of_an_earlier_report_are_a_reference(main, model, graz, own, capsys):
    assert call(main, model, own, "--split", "valid", "--layout", "mura") == 0
    Path("out").rename("home")
    assert call(main, model, graz, "--reference", "home") == 0
    with_report = pd.read_csv("out/external_change.csv")
    assert call(main, model, graz, "--reference", "home/predictions.csv") == 0
    pd.testing.assert_frame_equal(pd.read_csv("out/external_change.csv"), with_report)
    mix = pd.read_csv("out/external_case_mix.csv").set_index("characteristic")
    assert mix.loc["studies", "training"] == "10"  # on record in the model


@pytest.mark.slow
def test_types_that_the_model_never_saw_are_reported(main, model, tmp_path):
    flags = [["leg"], ["hip", "hardware"], ["hand"]]
    rows = [(k, flags[k % 3], int(k % 4 == 0)) for k in range(1, 31)]
    data = write_fracatlas(tmp_path / "FracAtlas", rows)
    assert call(main, model, data) == 0
    page = Path("out/report.html").read_text()
    assert "The model never saw XR_HAND, XR_HIP, XR_LEG in training" in page
    assert "patients are not published, each image counts as one" in page
    assert "no figures of the model&#39;s own hospital" in page
    assert not Path("out/external_change.csv").exists()


def test_own_data_that_is_scored_elsewhere_is_refused(main, model, own):
    with pytest.raises(SystemExit, match="expected --own-data and --data to share no view"):
        call(main, model, own, "--own-data", str(own))


@pytest.mark.slow
def test_unreadable_views_are_left_out_and_counted(main, model, graz, tmp_path):
    data = shutil.copytree(graz, tmp_path / "graz")
    next(data.glob("*/0001_*.png")).write_bytes(b"no image")
    with pytest.raises(ValueError, match="0001_"):
        call(main, model, data)
    assert call(main, model, data, "--on-bad-view", "skip") == 0
    page = Path("out/report.html").read_text()
    lost = "1 views could not be read and are left out, with 1 studies that have no others"
    assert lost in page
    assert len(pd.read_csv("out/predictions.csv")) == 39


def test_wrong_study_fact_ends_the_call_before_anything_is_read(main, model):
    Path("study.toml").write_text('ethic = "Waived."')
    with pytest.raises(SystemExit, match="did you mean ethics"):
        call(main, model, "no/such/folder", "--study-facts", "study.toml")


def test_studies_without_a_label_are_refused(main, model, tmp_path):
    folder = tmp_path / "valid" / "XR_WRIST" / "patient1" / "study1"
    folder.mkdir(parents=True)
    np.zeros(1).tofile(folder / "image1.png")
    with pytest.raises(SystemExit, match="expected labelled studies"):
        call(main, model, tmp_path)
