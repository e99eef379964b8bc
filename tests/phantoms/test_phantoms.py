import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mura_skorch.phantoms import MURA_TYPES, NOTE, write_phantoms, writing

TINY = {"n_train": 3, "n_valid": 1, "n_test": 1, "study_types": ["XR_FINGER"]}
STUDY = re.compile(r"(train|valid)/XR_[A-Z]+/patient\d{5}/study\d_(positive|negative)")
TEST_STUDY = re.compile(r"test/XR_[A-Z]+/patient\d{5}/study\d")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_phantoms(
        tmp_path_factory.mktemp("phantoms") / "MINI", n_train=5, n_valid=2, n_test=2
    )


@pytest.fixture(scope="module")
def views(root):
    """One row per view, as the disk tells it."""
    rows = []
    for path in sorted(root.glob("*/*/*/*/*.png")):
        study = path.parent.relative_to(root).as_posix()
        split, study_type, patient, folder = study.split("/")
        with Image.open(path) as image:
            picture = np.asarray(image.convert("L"))
            rows.append(
                {
                    "path": f"{root.name}/{study}/{path.name}",
                    "study": study,
                    "split": split,
                    "study_type": study_type,
                    "patient": patient,
                    "label": int(folder.endswith("_positive")),
                    "mode": image.mode,
                    "comment": image.text["Comment"],
                    "height": image.height,
                    "width": image.width,
                    "aspect": image.width / image.height,
                    "mean": picture.mean(),
                    "std": picture.std(),
                    "max": picture.max(),
                    "bytes": path.stat().st_size,
                }
            )
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def lesions(root):
    return pd.read_csv(root / "lesions.csv")


def read_rows(path):
    with open(path, newline="") as file:
        return list(csv.reader(file))


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# the folder


@pytest.mark.slow
def test_layout_is_that_of_v1_1(root, views):
    assert {path.name for path in root.iterdir()} == {
        *("train", "valid", "test", "lesions.csv", "NOTE.txt"),
        *("train_image_paths.csv", "train_labeled_studies.csv"),
        *("valid_image_paths.csv", "valid_labeled_studies.csv"),
    }
    for study, split in zip(views["study"], views["split"], strict=True):
        assert (TEST_STUDY if split == "test" else STUDY).fullmatch(study)


def test_views_and_studies_are_numbered_from_one(root):
    for patient in root.glob("*/*/*"):
        studies = sorted(path.name.partition("_")[0] for path in patient.iterdir())
        assert studies == [f"study{k}" for k in range(1, len(studies) + 1)]
        for study in patient.iterdir():
            names = sorted(path.name for path in study.iterdir())
            assert names == [f"image{k}.png" for k in range(1, len(names) + 1)]
            assert 1 <= len(names) <= 5


def test_counts_are_studies_per_type(views):
    counts = views.groupby(["split", "study_type"])["study"].nunique()
    for split, n in {"train": 5, "valid": 2, "test": 2}.items():
        assert counts[split].to_dict() == dict.fromkeys(MURA_TYPES, n)


@pytest.mark.parametrize("split", ["train", "valid"])
def test_csv_files_agree_with_the_disk(root, views, split):
    here = views[views["split"] == split]
    paths = [row[0] for row in read_rows(root / f"{split}_image_paths.csv")]
    labels = read_rows(root / f"{split}_labeled_studies.csv")
    assert sorted(paths) == sorted(here["path"])
    assert all((root.parent / path).is_file() for path in paths)
    expected = {(f"{root.name}/{s}/", str(y)) for s, y in zip(here.study, here.label, strict=True)}
    assert {tuple(row) for row in labels} == expected
    assert len(labels) == len(expected)


def test_both_classes_in_every_type_and_split(views):
    labelled = views[views["split"] != "test"]
    assert (labelled.groupby(["split", "study_type"])["label"].nunique() == 2).all()


def test_some_45_percent_are_abnormal():
    plan = writing._plan({"train": 100, "valid": 40, "test": 0}, MURA_TYPES, 0)
    for studies in (plan["train"], plan["valid"]):
        assert np.mean([study.label for study in studies]) == pytest.approx(0.45)


def test_patients_are_never_in_two_splits(views):
    assert views.groupby("patient")["split"].nunique().max() == 1


def test_some_patients_have_several_studies_and_types(views):
    assert views.groupby("patient")["study"].nunique().max() > 1
    assert views.groupby("patient")["study_type"].nunique().max() > 1


def test_without_valid_and_test_only_train_is_written(tmp_path):
    root = write_phantoms(tmp_path / "a", n_train=2, n_valid=0, n_test=0, study_types=["XR_HAND"])
    names = {path.name for path in root.iterdir()}
    assert names == {
        *("train", "train_image_paths.csv", "train_labeled_studies.csv"),
        *("lesions.csv", "NOTE.txt"),
    }


def test_note_is_the_first_line_and_in_every_picture(root, views):
    assert (root / "NOTE.txt").read_text().splitlines()[0] == NOTE
    assert NOTE == "phantoms: no clinical meaning"
    assert (views["comment"] == NOTE).all()


# the pictures


def test_longest_side_is_512(views):
    assert (views[["height", "width"]].max(axis=1) == 512).all()


def test_both_file_modes_are_present_in_both_classes(views):
    shares = views.groupby("label")["mode"].value_counts(normalize=True)
    assert set(views["mode"]) == {"L", "RGB"}
    assert shares.between(0.3, 0.7).all()


def test_colour_files_are_grey(root, views):
    path = views.loc[views["mode"] == "RGB", "path"].iloc[0]
    with Image.open(root.parent / path) as image:
        red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    np.testing.assert_array_equal(red, green)
    np.testing.assert_array_equal(red, blue)


def test_views_of_a_study_differ(root, views):
    for _, study in list(views.groupby("study"))[:20]:
        assert len({(root.parent / path).read_bytes() for path in study["path"]}) == len(study)


def test_lesion_boxes_lie_inside_their_picture(views, lesions):
    table = lesions.merge(views, left_on="view", right_on="path", validate="many_to_one")
    assert len(table) == len(lesions)
    assert ((table["x0"] >= 0) & (table["y0"] >= 0)).all()
    assert ((table["x1"] <= table["width"]) & (table["y1"] <= table["height"])).all()
    assert (table["x1"] - table["x0"] >= 8).all()
    assert (table["y1"] - table["y0"] >= 8).all()


def test_every_abnormal_study_shows_its_lesion_and_no_normal_one_does(views, lesions):
    labelled = views[views["split"] != "test"]
    shown = labelled["path"].isin(lesions["view"]).groupby(labelled["study"]).any()
    label = labelled.groupby("study")["label"].first().astype(bool)
    pd.testing.assert_series_equal(shown, label, check_names=False)


def test_test_split_has_lesions_too(lesions):
    assert lesions["view"].str.contains("/test/").any()


# the label is in the lesion, and nowhere else


FEATURES = ["views", "height", "width", "aspect", "mean", "std", "max"]


def describe(study):
    """Mean over the views of what a shortcut would look at."""
    pictures = [picture for picture, _, _ in writing._views(study)]
    return {
        "study_type": study.study_type,
        "seed": study.seed,
        "label": study.label,
        "views": len(pictures),
        "height": np.mean([p.shape[0] for p in pictures]),
        "width": np.mean([p.shape[1] for p in pictures]),
        "aspect": np.mean([p.shape[1] / p.shape[0] for p in pictures]),
        "mean": np.mean([p.mean() for p in pictures]),
        "std": np.mean([p.std() for p in pictures]),
        "max": np.mean([p.max() for p in pictures]),
    }


@pytest.fixture(scope="module")
def twins():
    """Studies drawn twice, once normal and once abnormal, so that chance plays no part."""
    return pd.DataFrame(
        describe(writing._Study("", study_type, label, (9, k)))
        for study_type in MURA_TYPES
        for k in range(6)
        for label in (0, 1)
    )


@pytest.mark.slow
def test_lesion_changes_neither_number_nor_size_of_views(twins):
    normal, abnormal = (
        twins.loc[twins["label"] == label, ["views", "height", "width"]].reset_index(drop=True)
        for label in (0, 1)
    )
    pd.testing.assert_frame_equal(normal, abnormal)


@pytest.mark.parametrize(
    "model",
    [
        make_pipeline(StandardScaler(), LogisticRegression()),
        GradientBoostingClassifier(n_estimators=30, max_depth=2, random_state=0),
    ],
    ids=["linear", "boosted"],
)
@pytest.mark.parametrize("feature", FEATURES)
def test_no_shortcut_tells_normal_from_abnormal(twins, feature, model):
    patient = twins.groupby(["study_type", "seed"]).ngroup()
    score = cross_val_predict(
        model,
        twins[[feature]].astype(float),
        twins["label"],
        groups=patient,
        cv=GroupKFold(5),
        method="predict_proba",
    )
    area = roc_auc_score(twins["label"], score[:, 1])
    assert max(area, 1 - area) <= 0.60


def test_lesion_changes_the_picture_in_its_box_more_than_elsewhere():
    study = writing._Study("", "XR_WRIST", 0, (9, 1))
    normal, abnormal = writing._views(study), writing._views(study._replace(label=1))
    for (a, no_box, _), (b, (x0, y0, x1, y1), _) in zip(normal, abnormal, strict=True):
        change = np.abs(a.astype(float) - b)
        assert no_box is None
        assert change[y0:y1, x0:x1].mean() > 2 * change.mean()


# the call


def test_same_random_state_gives_the_same_bytes(tmp_path):
    first = write_phantoms(tmp_path / "a" / "MINI", **TINY)
    second = write_phantoms(tmp_path / "b" / "MINI", **TINY)
    assert contents(first) == contents(second)


def test_another_random_state_gives_other_pictures(tmp_path):
    first = contents(write_phantoms(tmp_path / "a", **TINY))
    second = contents(write_phantoms(tmp_path / "b", **TINY, random_state=1))
    pictures = [{b for p, b in files.items() if p.suffix == ".png"} for files in (first, second)]
    assert not pictures[0] & pictures[1]


def test_returns_the_path_it_was_given(tmp_path):
    assert write_phantoms(str(tmp_path / "a"), **TINY) == tmp_path / "a"


def test_empty_folder_is_filled(tmp_path):
    (tmp_path / "a").mkdir()
    assert (write_phantoms(tmp_path / "a", **TINY) / "NOTE.txt").is_file()


def test_folder_in_use_is_refused_and_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="Pass another path"):
        write_phantoms(tmp_path, **TINY)
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]


def test_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="file"):
        write_phantoms(tmp_path / "file", **TINY)


def test_interrupted_call_leaves_nothing_behind(tmp_path, monkeypatch):
    drawn = []

    def interrupt(draft: Path, study):
        drawn.append(study)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return original(draft, study)

    original = writing._draw_study
    monkeypatch.setattr(writing, "_draw_study", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "a", **TINY)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n_train": 0}, "n_train"),
        ({"n_valid": -1}, "n_valid"),
        ({"n_test": 1.5}, "n_test"),
        ({"n_train": True}, "n_train"),
        ({"study_types": "XR_HAND"}, "list of str"),
        ({"study_types": []}, "study_types"),
        ({"study_types": None}, "list of str"),
        ({"study_types": ["XR_HAND", "XR_HAND"]}, "study_types"),
        ({"study_types": ["XR_FOOT"]}, "XR_FOOT"),
        ({"random_state": -1}, "random_state"),
        ({"random_state": None}, "random_state"),
    ],
)
def test_bad_arguments_are_named(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        write_phantoms(tmp_path / "a", **(TINY | wrong))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_importing_computes_no_texture():
    code = "import numpy; numpy.fft.rfft2 = None; import mura_skorch.phantoms.drawing; print('ok')"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["ok"]
