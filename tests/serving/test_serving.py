import base64
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import mlflow
import mlflow.cli
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from dicom_files import write_dicom
from PIL import Image
from served import (
    NOTE,
    ROOT,
    encoded,
    picture,
    post,
    requested,
    served,
    study,
    untrained,
)

from mura_skorch import MuraClassifier, MuraEnsemble
from mura_skorch.data import read_view
from mura_skorch.inspection.overlay import map_limit, overlay_map
from mura_skorch.serving import load_model, log_model
from mura_skorch.serving.images import decode_studies
from mura_skorch.serving.requests import BadRequestError, Row
from mura_skorch.tracking.mlflow_model import save_mlmodel


@pytest.fixture(scope="module")
def ensemble(clf):
    other = untrained(1, image_size=48)
    other.study_types_ = ["XR_WRIST"]
    return MuraEnsemble.of([clf, other], threshold=0.4)


# --- an MLflow model -------------------------------------------------------------------------


@pytest.mark.slow
def test_logged_model_is_registered_under_its_alias_and_loads_bit_equal(champion, clf, table):
    assert champion == "models:/wrists@champion"
    assert np.array_equal(load_model(champion).predict_proba(table), clf.predict_proba(table))
    assert np.array_equal(
        MuraClassifier.load(champion).predict_proba(table), clf.predict_proba(table)
    )
    version = mlflow.MlflowClient().get_model_version_by_alias("wrists", "champion")
    assert version.description == NOTE
    assert mlflow.get_run(version.run_id).data.tags["note"] == NOTE


def test_saved_model_holds_no_pickle_and_no_path(clf, tmp_path):
    save_mlmodel(clf, tmp_path / "model")
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert {path.name for path in files} == {
        "MLmodel", "conda.yaml", "input_example.json", "model.json", "model.safetensors",
        "python_env.yaml", "requirements.txt", "served_model.py", "serving_input_example.json",
    }  # fmt: skip
    texts = "".join(path.read_text() for path in files if path.suffix != ".safetensors")
    assert str(ROOT) not in texts
    assert str(tmp_path) not in texts
    flavor = mlflow.models.Model.load(tmp_path / "model").flavors["python_function"]
    assert flavor["model_code_path"] == "served_model.py"
    assert "python_model" not in flavor


@pytest.mark.slow
def test_model_of_a_fit_is_served_unchanged(clf, table, tmp_path):
    save_mlmodel(clf, tmp_path / "saved")  # what a fit logs
    with mlflow.start_run() as run:
        mlflow.log_artifacts(tmp_path / "saved", "model")
    address = f"runs:/{run.info.run_id}/model"
    answers = mlflow.pyfunc.load_model(address).predict(pd.DataFrame(requested(table)))
    assert np.array_equal(np.float32(answers["probability"]), clf.predict_proba(table)[:, 1])
    assert mlflow.register_model(address, "from-a-fit").version == 1


def test_study_unlike_the_training_studies_is_answered_with_a_note(clf, studies, table, tmp_path):
    save_mlmodel(deepcopy(clf).measure_training(studies), tmp_path)
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)
    Image.fromarray(noise).save(file, "PNG")
    rows = [{"images": [base64.b64encode(file.getvalue()).decode()], "study_type": "XR_HAND"}]
    answers = mlflow.pyfunc.load_model(tmp_path).predict(pd.DataFrame(rows + requested(table)))
    is_noted = answers["note"].str.contains("beyond the 99th percentile of their distance")
    assert is_noted[0]
    assert not is_noted[1:].all()
    expected = clf.predict_proba(table)[:, 1]
    np.testing.assert_allclose(np.float32(answers["probability"][1:]), expected, atol=1e-6)


def test_calibrated_model_answers_in_double_precision(clf, table, tmp_path):
    score = clf.predict_proba(table)[:, 1]
    local = clf.recalibrate(table, (score > np.median(score)).astype(int))
    save_mlmodel(local, tmp_path)
    answers = mlflow.pyfunc.load_model(tmp_path).predict(pd.DataFrame(requested(table)))
    expected = local.predict_proba(table)[:, 1]
    assert not np.array_equal(np.float32(expected), expected)
    assert json.loads(json.dumps(answers["probability"].tolist())) == expected.tolist()


def test_triage_is_answered_with_its_promise_and_what_breaks_it(clf, table, tmp_path):
    score = clf.predict_proba(table)[:, 1]
    middles = table.assign(score=score).groupby("study_type")["score"].transform("median")
    careful = clf.triage(table, (score > middles).astype(int), error_rate=0.5)
    save_mlmodel(careful, tmp_path)
    rows = [*requested(table), {**requested(table[:1])[0], "study_type": None}]
    answers = mlflow.pyfunc.load_model(tmp_path).predict(pd.DataFrame(rows))["triage"].tolist()
    expected = careful.predict_triage(table)
    assert [answer["answer"] for answer in answers[:-1]] == expected["triage"].tolist()
    spread = [answer["view_disagreement"] for answer in answers[:-1]]
    np.testing.assert_allclose(np.array(spread, float), expected["view_disagreement"], atol=1e-6)
    assert answers[-1]["answer"] == "look yourself"
    assert answers[-1]["reason"] == "no local studies of this type"
    assert all(answer["error_rate"] == 0.5 for answer in answers)
    assert all("Another hospital" in answer["caveat"] for answer in answers)
    assert json.loads(json.dumps(answers)) == answers


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:training never saw")
def test_ensemble_answers_with_its_predictions(ensemble, table):
    served = mlflow.pyfunc.load_model(log_model(ensemble, "ensemble"))
    answers = served.predict(pd.DataFrame(requested(table)), params={"activation_maps": True})
    assert np.array_equal(np.float32(answers["probability"]), ensemble.predict_proba(table)[:, 1])
    views = [np.float32(row) for row in answers["view_probabilities"]]
    assert all(map(np.array_equal, views, ensemble.predict_view_proba(table)))
    decided = np.array(["normal", "abnormal"])[ensemble.predict(table)]
    assert answers["decision"].tolist() == decided.tolist()
    limits = [map_limit(*cams) for cams in ensemble.localize(table)]
    assert np.allclose(np.float64(answers["activation_map_limit"]), limits, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:training never saw")
def test_one_pass_gives_the_study_and_view_probabilities_of_two(clf, ensemble, table):
    for model in (clf, ensemble):
        proba, of_views = model.predict_with_views(table)
        assert np.array_equal(proba, model.predict_proba(table))
        assert all(map(np.array_equal, of_views, model.predict_view_proba(table)))


def test_alias_without_a_model_name_and_an_artifact_that_exists_are_refused(clf, champion):
    with pytest.raises(ValueError, match="an alias belongs to a registered model"):
        log_model(clf, alias="champion")
    run_id = mlflow.MlflowClient().get_model_version_by_alias("wrists", "champion").run_id
    with pytest.raises(ValueError, match="pass another name, or register what is there"):
        log_model(clf, run_id=run_id)


# --- over HTTP -------------------------------------------------------------------------------


@pytest.mark.slow
def test_served_batch_equals_predict_proba_bit_for_bit(url, clf, table):
    rows = served(url, requested(table))
    assert np.array_equal(
        np.float32([row["probability"] for row in rows]), clf.predict_proba(table)[:, 1]
    )
    of_views = clf.predict_view_proba(table)
    assert all(
        np.array_equal(np.float32(row["view_probabilities"]), views)
        for row, views in zip(rows, of_views, strict=True)
    )
    decided = ["abnormal" if call else "normal" for call in clf.predict(table)]
    assert [row["decision"] for row in rows] == decided
    assert {row["threshold"] for row in rows} == {0.5}
    assert {row["note"] for row in rows} == {NOTE}


def test_single_studies_in_both_formats_agree_within_rounding(url, clf, table):
    expected = clf.predict_proba(table)[:, 1]
    for row, p in zip(requested(table), expected, strict=True):
        (one,) = served(url, [row])
        assert one["probability"] == pytest.approx(p, abs=1e-5)
    split = {"columns": ["images"], "data": [[row["images"]]]}
    status, answer = post(url, {"dataframe_split": split})
    assert status == 200
    assert answer["predictions"] == served(url, [{"images": row["images"]}])


@pytest.mark.slow
def test_concurrent_requests_do_not_mix(url, table):
    rows = requested(table)
    alone = [served(url, [row], activation_maps=True) for row in rows]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda row: served(url, [row], activation_maps=True), rows))
    assert together == alone


def test_activation_maps_are_layers_of_the_size_of_their_views(url, clf, table):
    row = table.iloc[1]
    (answer,) = served(url, requested(table.iloc[[1]]), activation_maps=True)
    (cams,) = clf.localize(table.iloc[[1]])
    assert answer["activation_map_limit"] == pytest.approx(map_limit(*cams), rel=1e-5)
    assert len(answer["activation_maps"]) == len(row.views)
    for path, text, cam in zip(row.views, answer["activation_maps"], cams, strict=True):
        view = read_view(path)
        layer = Image.open(io.BytesIO(base64.b64decode(text)))
        assert (layer.format, layer.mode) == ("PNG", "RGBA")
        under = Image.fromarray(view).convert("RGBA")
        laid = np.asarray(Image.alpha_composite(under, layer))[..., :3].astype(int)
        expected = overlay_map(view, cam, answer["activation_map_limit"]).astype(int)
        assert np.abs(laid - expected).max() <= 2
    assert "activation_maps" not in served(url, requested(table.iloc[[1]]))[0]


def test_data_urls_wrapped_base64_and_jpeg_are_accepted(url, table):
    image = requested(table)[0]["images"][0]
    file = io.BytesIO()
    Image.fromarray(read_view(table.iloc[0].views[0])).save(file, "JPEG", quality=95)
    jpeg = base64.b64encode(file.getvalue()).decode()
    wrapped = base64.encodebytes(base64.b64decode(image)).decode()
    (row,) = served(url, [{"images": [image, f"data:image/png;base64,{image}", wrapped, jpeg]}])
    first, *others, last = row["view_probabilities"]
    assert others == pytest.approx([first] * 2, abs=1e-6)
    assert last == pytest.approx(first, abs=0.2)


def test_dicom_is_accepted_as_an_image(url, table, tmp_path):
    path = table["views"].iloc[0][0]
    dicom = write_dicom(tmp_path / "view", read_view(path), WindowCenter=128, WindowWidth=256)
    by_dicom, by_png = served(url, [{"images": [encoded(dicom)]}, {"images": [encoded(path)]}])
    assert by_dicom["probability"] == pytest.approx(by_png["probability"], abs=1e-5)


def test_unseen_study_types_are_answered_with_a_note(url, table):
    rows = [row | {"study_type": t} for row, t in zip(requested(table), ["XR_KNEE", None])]  # noqa: B905
    unseen, unnamed = served(url, rows)
    assert unseen["note"].startswith(f"{NOTE}; training never saw XR_KNEE")
    assert unnamed["note"] == NOTE


def test_blank_image_is_answered_with_a_note(url, table):
    file = io.BytesIO()
    Image.new("L", (9, 9), 77).save(file, "PNG")
    image = requested(table)[0]["images"][0]
    blank = base64.b64encode(file.getvalue()).decode()
    first, second = served(url, [{"images": [image]}, {"images": [image, blank]}])
    assert first["note"] == NOTE
    assert second["note"].startswith(f"{NOTE}; image 2 of study 2: all of its 81 pixels")


def test_dicom_that_cannot_be_displayed_is_not_called_damaged(tmp_path):
    pixels = np.arange(64, dtype=np.uint8).reshape(8, 8)
    write_dicom(tmp_path / "v", pixels, RescaleSlope=0, RescaleIntercept=0)
    with pytest.raises(
        BadRequestError, match="image 1 of study 1: expected .* RescaleSlope"
    ) as told:
        decode_studies([Row(["file:v"], None)], {32}, root=tmp_path)
    assert "damaged" not in str(told.value)


BAD = {
    "no JSON": (b'{"dataframe_records": [}', r"got other text \(Expecting value, character 23\)"),
    "nothing": (b"", "got nothing"),
    "no UTF-8": (b"\xff\xfe", "expected JSON in UTF-8"),
    "deep JSON": (b"[" * 100_000, "nested too deep"),
    "a list": ([1], "got a list"),
    "inputs": ({"inputs": [["x"]]}, 'expected one of the keys .* got "inputs"'),
    "instances": ({"instances": [{"images": ["x"]}]}, 'got "instances"'),
    "another key": (study("x") | {"parms": {}}, 'got also "parms"'),
    "no records": ({"dataframe_records": {}}, "as a list of studies, got an object"),
    "odd split": ({"dataframe_split": {"columns": ["images"], "data": [["x", "y"]]}}, "row 1"),
    "an odd index": (
        {"dataframe_split": {"columns": ["images"], "data": [[["x"]]], "index": [[1, 2]]}},
        "as many entries in the index",
    ),
    "a number for an index": (
        {"dataframe_split": {"columns": ["images"], "data": [[["x"]]], "index": 5}},
        "as many entries in the index",
    ),
    "no study": ({"dataframe_records": []}, "at least one study, got none"),
    "a number for a study": ({"dataframe_records": [3]}, "study 1 as an object"),
    "no images": ({"dataframe_records": [{"image": ["x"]}]}, 'got the columns "image"'),
    "null": ({"dataframe_records": [{"images": None}]}, "got null"),
    "empty list": (study(), "at least one image in study 1"),
    "one text": ({"dataframe_records": [{"images": "x"}]}, "got a single string"),
    "null among images": (study(None), "image 1 of study 1 as a base64 string, got null"),
    "no base64": (study("abc!"), "that are not base64"),
    "empty text": (study(""), "got an empty string"),
    "no image": (study("aGVsbG8gd29ybGQ="), "as a PNG, JPEG or DICOM file, got 11 bytes"),
    "a GIF": (study(base64.b64encode(b"GIF89a" + bytes(99)).decode()), "of another kind"),
    "a truncated PNG": (study(picture(until=-40)), "readable PNG file, got a truncated"),
    "a bomb": (study(picture(size=(10_000, 10_000))), "with at most 40,000,000 pixels"),
    "many pixels": (
        study(*[picture(size=(6_200, 6_200))] * 11),
        "at most 400,000,000 pixels in all images of a request, got 422,840,000",
    ),
    "too many": (study(*["x"] * 257), "at most 256 images in a request, got 257"),
    "half a character": (study(picture(), study_type="XR_\ud800"), "half of a surrogate pair"),
    "half a character for an image": (study("\ud83d.png"), "half of a surrogate pair"),
    "half a character in a column": (
        {"dataframe_split": {"columns": ["\ud800"], "data": [["x"]]}},
        r'got the columns "\\ud800"',
    ),
    "a path": (study("/etc/passwd"), "looks like a path"),
    "a relative path": (study("../image1.png"), "looks like a path"),
    "a file URL": (study("file:///etc/passwd"), "looks like a path"),
    "a web address": (study("https://example.com/a.png"), "looks like a path"),
    "a number as type": (study(picture(), study_type=3), "study_type of study 1 as a string"),
    "a word as parameter": (study("x") | {"params": {"activation_maps": "yes"}}, "true or false"),
    "a wrong parameter": (study("x") | {"params": {"maps": True}}, "no params but activation_maps"),
    "a list of parameters": (study("x") | {"params": [1]}, "params as an object"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_are_refused_in_one_sentence(url, name):
    body, expected = BAD[name]
    status, answer = post(url, body)
    assert status == 400
    assert answer["error_code"] == "INVALID_PARAMETER_VALUE"
    message = answer["message"]
    assert pd.Series([message]).str.contains(expected).all(), message
    assert message.startswith("expected ")
    assert "\n" not in message
    assert len(message) < 300
    assert "Traceback" not in json.dumps(answer)
    assert "stack" not in json.dumps(answer)


def test_other_content_types_are_refused_in_one_sentence(url):
    for content_type in ("text/csv", "application/vnd.apache.parquet", "", "text/plain"):
        status, answer = post(url, b"images\nx", content_type)
        assert (status, answer["message"].split(",")[0]) == (
            400, "expected the header Content-Type: application/json"
        )  # fmt: skip


def test_server_works_after_bad_requests(url, table):
    row = requested(table)[0]
    before = served(url, [row])
    post(url, study(picture(size=(10_000, 10_000))))
    assert served(url, [row]) == before


def test_nan_probability_is_a_failure_and_not_normal(clf, tmp_path):
    save_mlmodel(clf, tmp_path)
    pyfunc = mlflow.pyfunc.load_model(tmp_path)
    pyfunc.unwrap_python_model().model.module_.head.bias.data[:] = np.nan
    with pytest.raises(mlflow.MlflowException, match="the model failed on this request"):
        pyfunc.predict(pd.DataFrame({"images": [[picture()]]}))


def test_failure_of_the_model_is_reported_without_its_stack_trace(clf, tmp_path, caplog):
    save_mlmodel(clf, tmp_path)
    pyfunc = mlflow.pyfunc.load_model(tmp_path)
    pyfunc.unwrap_python_model().model.module_.network = None
    with pytest.raises(mlflow.MlflowException) as caught:
        pyfunc.predict(pd.DataFrame({"images": [[picture()]]}))
    assert str(caught.value).startswith("the model failed on this request")
    assert json.loads(caught.value.serialize_as_json())["error_code"] == "INTERNAL_ERROR"
    assert "Traceback" in caplog.text  # the server's log has it


def test_mlflow_models_predict_answers_the_example_of_the_model(champion, tmp_path):
    folder = mlflow.artifacts.download_artifacts(champion)
    words = ["models", "predict", "-m", champion, "-i", f"{folder}/serving_input_example.json"]
    words += ["-t", "json", "--env-manager", "local", "-o", str(tmp_path / "answer.json")]
    CliRunner().invoke(mlflow.cli.cli, words, catch_exceptions=False)
    (row,) = json.loads((tmp_path / "answer.json").read_text())["predictions"]
    assert 0 <= row["probability"] <= 1
    assert row["note"] == NOTE


# --- paths -----------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path):
    """A folder of one picture, and a link that leaves it."""
    (tmp_path / "root" / "deep").mkdir(parents=True)
    Image.new("L", (9, 9)).save(tmp_path / "root" / "deep" / "image1.png")
    Image.new("L", (9, 9)).save(tmp_path / "outside.png")
    (tmp_path / "root" / "link.png").symlink_to(tmp_path / "outside.png")
    return tmp_path / "root"


def test_paths_in_a_configured_root_are_read(root):
    for path in ("deep/image1.png", "deep/../deep/image1.png", "file:deep/image1.png",
                 f"{root}/deep/image1.png"):  # fmt: skip
        decoded = decode_studies([Row([path], None)], {32}, root=root)
        assert decoded.shapes == [(9, 9)]


@pytest.mark.parametrize(
    "path",
    ["../outside.png", "link.png", "/etc/passwd", "nothing.png", "file:deep", "a\0.png"],
)
def test_paths_that_leave_the_root_are_refused_like_missing_ones(root, path):
    with pytest.raises(BadRequestError, match="got a path that is neither"):
        decode_studies([Row([path], None)], {32}, root=root)


# --- the guide -------------------------------------------------------------------------------


@pytest.mark.slow
def test_code_of_the_serving_page_runs():
    page = (ROOT / "docs" / "how_to" / "serving.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    exec("\n".join(blocks), {})
    assert Path("request.json").is_file()
