import json
import runpy
import shutil
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from dicom_files import write_dicom
from sklearn.metrics import cohen_kappa_score

from mura_skorch import MuraClassifier, read_studies, write_phantoms
from mura_skorch.commands.predict import check_apart
from mura_skorch.ensemble import MuraEnsemble, load_model
from mura_skorch.tracking import TrackedRun

SCRIPT = Path(__file__).parents[2] / "experiments" / "predict.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="predict")["main"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    return write_phantoms(folder, n_train=8, n_valid=8, n_test=3, study_types=["XR_HAND"])


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    """The folder of an ensemble of two models of one epoch."""
    studies = read_studies(data)
    nets = [
        MuraClassifier(
            module__weights=None,
            dataset__image_size=32,
            max_epochs=1,
            train_split=None,
            random_state=seed,
            callbacks__mlflow=None,
            verbose=0,
        ).fit(studies[studies.split == "train"])
        for seed in (0, 1)
    ]
    folder = tmp_path_factory.mktemp("model")
    MuraEnsemble.of(nets).save(folder)
    return folder


def call(main, model, data, *arguments):
    return main(["--model", str(model), "--data", str(data), "--out", "out", *arguments])


@pytest.mark.slow
def test_labelled_studies_are_predicted_and_scored(main, model, data, capsys):
    assert call(main, model, data, "--split", "valid", "--cases", "1") == 0
    printed = capsys.readouterr().out
    assert "phantoms: no clinical meaning" in printed
    assert "paper" not in printed
    predictions = pd.read_csv("out/predictions.csv")
    valid = read_studies(data).query("split == 'valid'")
    expected = load_model(model).predict_proba(valid)[:, 1]
    np.testing.assert_allclose(predictions["score"], expected, atol=1e-6)
    views = pd.read_csv("out/view_predictions.csv")
    assert len(views) == valid["views"].map(len).sum()
    metrics = pd.read_csv("out/metrics.csv").query("level == 'study' and study_type == 'overall'")
    kappa = cohen_kappa_score(predictions["label"], predictions["score"] > 0.5)
    assert metrics["kappa"].item() == pytest.approx(kappa)
    assert "Evaluation of a saved model" in Path("out/report.html").read_text()
    run = mlflow.last_active_run()
    logged = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, "report")}
    assert {"report/predictions.csv", "report/report.html"} <= logged
    assert run.data.metrics["test/kappa"] == pytest.approx(kappa)


def test_studies_without_labels_are_predicted(main, model, data, capsys):
    assert call(main, model, data, "--split", "test") == 0
    assert "No labels: no scores" in capsys.readouterr().out
    predictions = pd.read_csv("out/predictions.csv")
    assert len(predictions) == 3
    assert predictions["label"].isna().all()
    assert predictions["decision"].isin([0, 1]).all()
    assert not Path("out/report.html").exists()


@pytest.fixture(scope="module")
def measured(model, data, tmp_path_factory):
    """The folder of a classifier that finds all studies unlike its training studies."""
    clf = MuraClassifier.load(model / "member_0").measure_training(read_studies(data))
    clf.training_distance_.quantiles *= 1e-9
    folder = tmp_path_factory.mktemp("measured")
    clf.save(folder)
    return folder


def test_studies_unlike_the_training_studies_are_listed(main, measured, data, capsys):
    assert call(main, measured, data, "--split", "test") == 0
    assert "Caution: 3 of 3 studies are unlike the training studies" in capsys.readouterr().out
    assert (pd.read_csv("out/predictions.csv")["training_percentile"] == 100).all()


@pytest.mark.slow
def test_report_shows_unlike_studies_and_similar_training_studies(main, measured, data):
    extra = ["--similar-from", str(data), "--cache", "cache"]
    assert call(main, measured, data, "--split", "valid", *extra) == 0
    page = Path("out/report.html").read_text()
    assert "8 of 8 studies are unlike the training studies" in page
    assert "Most similar training studies, of other patients" in page
    assert list(Path("cache").glob("features-*.npy"))


def test_similar_studies_of_an_ensemble_are_refused(main, model, data):
    with pytest.raises(SystemExit, match="expected a single classifier for --similar-from"):
        call(main, model, data, "--split", "valid", "--similar-from", str(data))


@pytest.mark.slow
def test_train_split_is_excluded_by_default(main, model, data):
    call(main, model, data, "--cases", "0")
    assert len(pd.read_csv("out/predictions.csv")) == 11
    with pytest.raises(SystemExit, match="expected --split among"):
        call(main, model, data, "--split", "other")


@pytest.mark.slow
def test_labels_readers_and_sites_are_read_from_a_file(main, model, data):
    keys = read_studies(data).query("split == 'test'")["study"]
    rows = {"study": "MURA-v1.1/" + keys + "/", "label": [0, 1, 1], "anna": [0, 1, 0]}
    table = pd.DataFrame({**rows, "ben": [1, 1, 0], "site": ["A", "A", "B"]})
    table.to_csv("labels.csv", index=False)
    extra = ["--split", "test", "--labels", "labels.csv", "--cases", "0"]
    assert call(main, model, data, *extra, "--readers", "anna", "ben", "--by", "site") == 0
    predictions = pd.read_csv("out/predictions.csv")
    assert predictions["label"].tolist() == [0, 1, 1]
    assert predictions["site"].tolist() == ["A", "A", "B"]
    for name in ("readers.csv", "by_site.csv"):
        assert Path("out", name).is_file()
    with pytest.raises(SystemExit, match="expected columns clara"):
        call(main, model, data, *extra, "--readers", "clara")
    table[1:].to_csv("labels.csv", index=False)
    with pytest.raises(SystemExit, match="1 missing: test/XR_HAND"):
        call(main, model, data, *extra)


@pytest.mark.slow
def test_dicom_folder_is_predicted_with_hashed_ids(main, model, monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(4):
        ids = {"StudyInstanceUID": f"1.2.777.{number}", "PatientID": f"patient {number // 2}"}
        pixels = rng.integers(0, 4096, (40, 32), dtype=np.uint16)
        write_dicom(tmp_path / "clinic" / str(number), pixels, BitsStored=12, **ids)
    labels = pd.DataFrame({"study": [f"1.2.777.{n}" for n in range(4)], "label": [0, 1, 0, 1]})
    labels.assign(site="north").to_csv("labels.csv", index=False)
    monkeypatch.setenv("MURA_SKORCH_SECRET", "what the clinic keeps to itself")
    extra = ["--labels", "labels.csv", "--by", "site"]
    assert call(main, model, tmp_path / "clinic", *extra) == 0
    predictions = pd.read_csv("out/predictions.csv")
    assert predictions["study_type"].unique().tolist() == ["XR_HAND"]
    assert predictions["patient"].nunique() == 2
    assert predictions["site"].unique().tolist() == ["north"]
    for path in Path("out").rglob("*.*"):
        assert not any(
            word in path.read_bytes() for word in (b"1.2.777", b"patient 0", b"SECRETIVE")
        )
    with pytest.raises(SystemExit, match="expected a folder that holds train and valid"):
        call(main, model, tmp_path / "clinic", "--split", "test")


def test_dicom_options_are_applied(main, model, tmp_path, capsys):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for name, part, modality in [("a", "HIP", "DX"), ("b", "CHEST", "DX"), ("c", "HAND", "MG")]:
        ids = {"StudyInstanceUID": f"1.{ord(name)}", "BodyPartExamined": part}
        write_dicom(tmp_path / "clinic" / name, pixels, Modality=modality, **ids)
    write_dicom(tmp_path / "clinic/d", pixels, PatientID="")
    clinic, skip = tmp_path / "clinic", ["--on-bad-file", "skip"]
    with pytest.raises(SystemExit, match="expected a PatientID in every file"):
        call(main, model, clinic)
    with pytest.raises(SystemExit, match="got none for 'HIP'"):
        call(main, model, clinic, *skip)
    types = ["--study-type", "hip=XR_HIP", "--study-type", "CHEST="]
    with pytest.warns(UserWarning, match="1 of modality MG.*1 of a body part|1 of a body part"):
        assert call(main, model, clinic, *skip, *types) == 0
    assert pd.read_csv("out/predictions.csv")["study_type"].tolist() == ["XR_HIP"]
    with pytest.warns(UserWarning, match="3 files left out"):
        assert call(main, model, clinic, *skip, *types, "--modalities", "MG") == 0
    assert pd.read_csv("out/predictions.csv")["study_type"].tolist() == ["XR_HAND"]
    with pytest.raises(SystemExit):
        call(main, model, clinic, "--study-type", "HIP")
    assert "expected NAME=TYPE, such as HIP=XR_HIP, got 'HIP'" in capsys.readouterr().err


def test_study_key_may_be_longer_than_its_path():
    table = {"study": ["1.2/XR_HAND/L"], "patient": ["p1"], "views": [("/a.dcm",)]}
    other = pd.DataFrame({"study": ["1.3"], "patient": ["p2"], "views": [("/b.dcm",)]})
    check_apart(other, pd.DataFrame(table))


def test_refit_recognises_patients_and_views_in_any_spelling():
    local = pd.DataFrame({"study": ["x/a"], "patient": ["7.0"], "views": [("/r/x/a/1.png",)]})
    other = pd.DataFrame({"study": ["x/b"], "patient": [7], "views": [("/r/x/b/1.png",)]})
    with pytest.raises(ValueError, match="got 1 in both"):
        check_apart(local, other)
    with pytest.raises(ValueError, match="got 1 views in both"):
        check_apart(local, other.assign(views=[("/r/x/b/../a/1.png",)]))


@pytest.mark.parametrize("option", ["--modalities", "--study-type", "--on-bad-file", None])
def test_dicom_options_are_refused_for_other_folders(main, model, data, monkeypatch, option):
    if option is None:
        monkeypatch.setenv("MURA_SKORCH_SECRET", "what the clinic keeps to itself")
    values = {"--modalities": "DX", "--study-type": "A=B", "--on-bad-file": "skip"}
    extra = [option, values[option]] if option else []
    with pytest.raises(SystemExit, match="expected a folder of DICOM files for .*MURA_SKORCH") as e:
        call(main, model, data, *extra)
    assert "keeps" not in str(e.value)


def test_threshold_is_applied_and_a_rule_needs_studies(main, model, data):
    call(main, model, data, "--split", "test", "--threshold", "0.001")
    assert pd.read_csv("out/predictions.csv")["decision"].all()
    with pytest.raises(SystemExit, match="--refit-on"):
        call(main, model, data, "--threshold", "youden")
    with pytest.raises(SystemExit):
        call(main, model, data, "--threshold", "best")


@pytest.mark.slow
def test_refitted_model_is_used_and_saved(main, model, data, tmp_path):
    local = write_phantoms(tmp_path / "local", n_train=1, n_valid=12, n_test=1,
                           study_types=["XR_HAND"], random_state=7)  # fmt: skip
    extra = ["--split", "test", "--refit-on", str(local), "--threshold", "sensitivity=0.9"]
    assert call(main, model, data, *extra) == 0
    predictions, refitted = pd.read_csv("out/predictions.csv"), load_model("out/model")
    assert refitted.threshold == "sensitivity=0.9"
    assert (refitted.slope_, refitted.intercept_) != (1, 0)
    assert predictions["threshold"].unique() == pytest.approx(refitted.threshold_)
    table = read_studies(local)
    assert refitted.predict(table[table["label"] == 1]).mean() >= 0.9
    with pytest.raises(SystemExit, match="other studies than those reported"):
        call(main, model, data, "--refit-on", str(data))


def test_model_of_a_run_is_loaded_and_missing_run_named(main, model, data):
    with TrackedRun(name="trained") as run:
        run.log_folder(model, "model")
    assert call(main, run.run_id, data, "--split", "test") == 0
    for missing in ("0" * 32, "nowhere"):
        with pytest.raises(SystemExit, match=missing):
            call(main, missing, data)


def test_model_trained_on_phantoms_has_a_caveat(main, model, data, tmp_path):
    other = shutil.copytree(data, tmp_path / "other", ignore=shutil.ignore_patterns("NOTE.txt"))
    call(main, model, other, "--split", "test")
    note = "model trained on phantoms: no clinical meaning"
    assert set(pd.read_csv("out/predictions.csv")["note"]) == {note}
    (other / "NOTE.txt").write_text("clinic: pilot data")
    call(main, model, other, "--split", "test")
    assert set(pd.read_csv("out/predictions.csv")["note"]) == {f"clinic: pilot data; {note}"}
    assert json.loads((model / "ensemble.json").read_text())["note"] in note


@pytest.fixture
def extra(data):
    """Arguments that name labels with readers, sites, ages and notes of the test split."""
    keys = read_studies(data).query("split == 'test'")["study"]
    table = {"study": keys, "label": [0, 1, 1], "anna": [0, 1, 0], "ben": ["yes", "no", "no"]}
    table |= {"site": ["NA", "B", "B"], "note": "Dr X was in doubt", "score": 0.1}
    pd.DataFrame(table).to_csv("labels.csv", index=False)
    return ["--split", "test", "--labels", "labels.csv", "--cases", "0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--readers", "anna", "ben"], "ben to be 0 .normal., 1 .abnormal. or missing, got 'yes'"),
        (["--readers", "anna"], "at least two readers, or a gold column"),
        (["--by", "score"], "not called score"),
        (["--by", "age"], "expected columns age"),
    ],
)
def test_readers_and_columns_are_checked_before_loading_the_model(
    main, data, extra, arguments, message
):
    with pytest.raises(SystemExit, match=f"predict: .*{message}"):
        call(main, "nowhere", data, *extra, *arguments)


def test_column_of_too_many_values_is_refused_before_loading_the_model(main, tmp_path):
    many = write_phantoms(
        tmp_path / "many", n_train=1, n_valid=24, n_test=1, study_types=["XR_HAND"]
    )
    keys = read_studies(many).query("split == 'valid'")["study"]
    table = pd.DataFrame({"study": keys, "label": [0, 1] * 12, "age": range(24)})
    table.to_csv("labels.csv", index=False)
    with pytest.raises(SystemExit, match="at most 20 different values of age"):
        call(main, "nowhere", many, "--split", "valid", "--labels", "labels.csv", "--by", "age")


@pytest.mark.slow
def test_unrequested_label_columns_are_not_written(main, model, data, extra, capsys):
    assert call(main, model, data, *extra, "--by", "site") == 0
    assert "NA" in pd.read_csv("out/by_site.csv", keep_default_na=False)["value"].tolist()
    written = [path.read_text() for path in Path("out").iterdir() if path.suffix != ".png"]
    assert not any("in doubt" in text for text in [capsys.readouterr().out, *written])
    run = mlflow.last_active_run()
    assert "in doubt" not in str(run.data.tags)
    assert run.data.params["labels"] == "labels.csv"
    assert run.data.params["data"] == data.name
    assert run.data.params["model"] == model.name


@pytest.mark.slow
def test_refit_on_another_split_of_the_same_folder(main, model, data):
    split = ["--split", "test", "--refit-on", str(data)]
    assert call(main, model, data, *split, "--refit-split", "valid", "--cases", "0") == 0
    about = load_model("out/model").describe_operating_point()
    assert "youden" in about
    with pytest.raises(SystemExit, match="expected --refit-split among"):
        call(main, model, data, *split, "--refit-split", "tune")
    with pytest.raises(SystemExit, match="views in both.*see --refit-split"):
        call(main, model, data, "--refit-on", str(data), "--refit-split", "valid")


@pytest.mark.slow
def test_refit_on_reported_patients_is_refused(main, model, data, tmp_path, capsys):
    shared = shutil.copytree(data, tmp_path / "shared", ignore=shutil.ignore_patterns("*.csv"))
    reported, chosen = (
        read_studies(shared).query(f"split == '{split}'")["patient"].iloc[0]
        for split in ("test", "valid")
    )
    folder = shared / "valid" / "XR_HAND"
    (folder / chosen).rename(folder / reported)
    arguments = ["--split", "test", "--refit-split", "valid", "--cases", "0"]
    with pytest.raises(SystemExit, match=f"1 in both, such as {reported}; figures"):
        call(main, model, shared, *arguments, "--refit-on", str(shared))
    assert call(main, model, data, *arguments, "--refit-on", str(shared)) == 0
    assert "if they are the same people" in capsys.readouterr().out


@pytest.mark.slow
def test_triage_is_chosen_on_local_studies_saved_and_written(main, model, data, tmp_path, capsys):
    local = write_phantoms(tmp_path / "local", n_train=1, n_valid=12, n_test=1,
                           study_types=["XR_HAND"], random_state=7)  # fmt: skip
    refit = ["--refit-on", str(local), "--cases", "0"]
    assert call(main, model, data, "--split", "valid", *refit, "--triage", "0.4") == 0
    printed = capsys.readouterr().out
    assert "at most 40 % are called normal" in printed
    assert "Another hospital" in printed
    predictions, careful = pd.read_csv("out/predictions.csv"), load_model("out/model")
    valid = read_studies(data).query("split == 'valid'")
    assert predictions["triage"].tolist() == careful.predict_triage(valid)["triage"].tolist()
    assert (predictions["triage_error_rate"] == 0.4).all()
    page = Path("out/report.html").read_text()
    assert "What breaks the promise" in page
    caution = "if they are the same people, figures are too good"
    assert caution in printed
    assert caution in page
    assert call(main, "out/model", data, "--split", "test") == 0
    assert "look yourself" in capsys.readouterr().out
    assert "triage" in pd.read_csv("out/predictions.csv")


@pytest.mark.slow
def test_triage_needs_local_studies_and_enough_of_them(main, model, data, tmp_path):
    with pytest.raises(SystemExit, match="expected --refit-on .* limits of --triage"):
        call(main, model, data, "--triage", "0.05")
    local = write_phantoms(tmp_path / "local", n_train=1, n_valid=12, n_test=0,
                           study_types=["XR_HAND"], random_state=7)  # fmt: skip
    with pytest.raises(SystemExit, match="expected at least 19 patients with normal"):
        call(main, model, data, "--refit-on", str(local), "--triage", "0.05")
