import io
import pickle
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from nets import tiny_classifier
from PIL import Image

from mura_skorch import StudyNetwork
from mura_skorch.data import read_view
from mura_skorch.evaluation import prediction_table
from mura_skorch.report import collect_predictions, review_cases, write_report
from mura_skorch.report.case_review import map_text


class Scorer:
    """A model without maps."""

    def predict_view_proba(self, studies):
        return [np.full(len(views), 0.25) for views in studies["views"]]


@pytest.fixture
def predictions(valid):
    """Scores rise along the table, so that half of the studies of each label are wrong."""
    return prediction_table(valid, np.linspace(0.1, 0.9, len(valid)))


@pytest.fixture
def cases(fitted, valid, predictions):
    return review_cases(fitted, valid, predictions, n_cases=3)


def picture(file):
    image = Image.open(io.BytesIO(file))
    image.load()
    return image


def expected(predictions, label):
    wrong = predictions[(predictions.label == label) & (predictions.decision != label)]
    return wrong.sort_values("score", ascending=label == 1)["study"].tolist()


def test_cases_are_the_most_confident_errors(cases, predictions):
    assert [case.kind for case in cases] == ["false negative"] * 3 + ["false positive"] * 3
    assert [case.study for case in cases[:3]] == expected(predictions, 1)[:3]
    assert [case.study for case in cases[3:]] == expected(predictions, 0)[:3]
    assert all(case.label == (case.kind == "false negative") for case in cases)
    assert all((case.score > case.threshold) == (case.kind == "false positive") for case in cases)


def test_right_call_is_the_most_confident_true_positive(fitted, valid, predictions):
    cases = review_cases(fitted, valid, predictions, n_cases=1, n_right=1)
    assert [case.kind for case in cases] == ["false negative", "false positive", "true positive"]
    is_right = (predictions.label == 1) & (predictions.decision == 1)
    best = predictions[is_right].sort_values("score", ascending=False)
    assert cases[-1].study == best["study"].iloc[0]
    assert [case.is_error for case in cases] == [True, True, False]


def test_page_separates_the_right_call_from_the_errors(fitted, valid, predictions, tmp_path):
    cases = review_cases(fitted, valid, predictions, n_cases=1, n_right=1)
    inputs = collect_predictions(fitted, valid, n_cases=0)
    write_report(tmp_path, inputs._replace(cases=cases))
    page = (tmp_path / "report.html").read_text()
    errors, right = page.split("A right call, for comparison")
    assert "False negative, score" in errors
    assert "False positive, score" in errors
    assert "True positive, score" not in errors
    assert right.count("True positive, score") == 1
    assert "False negative, score" not in right


def test_page_without_errors_says_so(fitted, valid, predictions, tmp_path):
    cases = review_cases(fitted, valid, predictions, n_cases=0, n_right=1)
    inputs = collect_predictions(fitted, valid, n_cases=0)
    write_report(tmp_path, inputs._replace(cases=cases))
    page = (tmp_path / "report.html").read_text()
    assert "false negatives and false positives: there are none" in page


@pytest.mark.parametrize(
    ("cells", "text"),
    [
        ((7, 7), "A map has 7 x 7 cells."),
        ((1, 1), "A map has 1 x 1 cell: too coarse to show a place."),
        (None, ""),
    ],
)
def test_size_of_the_maps_is_stated(cases, cells, text):
    views = tuple(replace(view, map_cells=cells) for view in cases[0].views)
    assert map_text([replace(cases[0], views=views)]).startswith(text)
    assert bool(text) == bool(map_text([replace(cases[0], views=views)]))


def test_maps_too_coarse_to_look_at_are_named_on_the_page(fitted, valid, tmp_path):
    inputs = collect_predictions(fitted, valid, n_cases=1)
    coarse = [
        replace(case, views=tuple(replace(view, map_cells=(2, 2)) for view in case.views))
        for case in inputs.cases
    ]
    write_report(tmp_path, inputs._replace(cases=coarse))
    assert "2 x 2 cells: too coarse to show a place" in (tmp_path / "report.html").read_text()


def test_each_row_uses_its_own_threshold(fitted, valid, predictions):
    own = predictions.assign(threshold=np.where(predictions.index % 2, 0.05, 0.95))
    cases = review_cases(fitted, valid, own, n_cases=99, max_views=1)
    is_called = own["score"] > own["threshold"]
    assert {case.study for case in cases} == set(own["study"][is_called != (own["label"] == 1)])


def test_case_repeats_the_prediction_row(cases, predictions):
    row = predictions.set_index("study").loc[cases[0].study]
    assert cases[0].study_type == row.study_type
    assert cases[0].patient == row.patient
    assert cases[0].score == row.score
    assert cases[0].n_views == row.n_views
    assert cases[0].note == "phantoms: no clinical meaning"
    assert cases[0].problem is None


def test_every_view_has_radiograph_and_overlay_of_its_shape(cases, valid):
    paths = valid.set_index("study")["views"]
    for case in cases:
        for view, path in zip(case.views, paths[case.study], strict=True):
            assert view.mime == "image/jpeg"
            assert view.problem is None
            height, width = read_view(path).shape
            for file in (view.radiograph, view.overlay):
                shown = picture(file)
                assert shown.format == "JPEG"
                assert max(shown.size) == 384
                assert shown.width / shown.height == pytest.approx(width / height, rel=0.01)
                assert len(file) < 60_000
            assert view.radiograph_uri.startswith("data:image/jpeg;base64,")


def test_view_scores_equal_predict_view_proba(cases, fitted, valid):
    for case in cases:
        own = fitted.predict_view_proba(valid[valid["study"] == case.study])[0]
        np.testing.assert_allclose([view.score for view in case.views], own, atol=1e-6)


def test_views_of_a_case_share_one_colour_scale(cases, fitted, valid):
    for case in cases:
        own = fitted.localize(valid[valid["study"] == case.study])[0]
        assert case.limit == pytest.approx(np.abs(own).max(), abs=1e-4)


def test_cases_can_be_pickled(cases):
    assert pickle.loads(pickle.dumps(cases)) == cases


def test_cases_are_deterministic(cases, fitted, valid, predictions):
    assert review_cases(fitted, valid, predictions, n_cases=3) == cases


def test_max_views_limits_pictures_but_not_the_count(fitted, valid, predictions):
    cases = review_cases(fitted, valid, predictions, max_views=1)
    assert all(len(case.views) == 1 for case in cases)
    assert any(case.n_views > 1 for case in cases)


def test_model_without_maps_shows_radiographs(valid, predictions):
    cases = review_cases(Scorer(), valid, predictions)
    views = [view for case in cases for view in case.views]
    assert all(view.radiograph and view.overlay is None for view in views)
    assert all(view.overlay_uri is None and view.score == 0.25 for view in views)
    assert all(case.limit is None for case in cases)


def test_network_without_exact_maps_shows_radiographs_with_a_warning(valid, predictions):
    from tests.inspection.test_activation_maps import HiddenLayer

    clf = tiny_classifier(module=StudyNetwork, module__backbone=HiddenLayer).initialize()
    clf.study_types_ = sorted(valid["study_type"].unique())
    with pytest.warns(UserWarning, match="written without maps: expected a network whose last"):
        cases = review_cases(clf, valid, predictions)
    assert all(view.radiograph and view.overlay is None for case in cases for view in case.views)


@pytest.mark.parametrize("content", [None, b"", b"no picture"])
def test_unreadable_view_affects_no_other_view(fitted, valid, predictions, tmp_path, content):
    study = expected(predictions, 1)[0]
    bad = tmp_path / "image1.png"
    if content is not None:
        bad.write_bytes(content)
    row = valid.index[valid["study"] == study][0]
    broken = valid.copy()
    broken.at[row, "views"] = (str(bad), *broken.at[row, "views"])
    cases = review_cases(fitted, broken, predictions)
    first, *others = cases[0].views
    assert first.radiograph is first.overlay is first.score is None
    assert first.problem.startswith("image1.png: expected ")
    assert str(tmp_path) not in first.problem
    assert others
    assert all(view.overlay for view in others)


def test_missing_files_raise_no_error(fitted, valid, predictions):
    gone = valid.assign(views=[("no/such/image1.png",)] * len(valid))
    cases = review_cases(fitted, gone, predictions)
    assert len(cases) == 8
    assert all(case.views[0].problem and case.limit is None for case in cases)


def test_study_missing_from_the_table_has_a_problem(fitted, valid, predictions):
    cases = review_cases(fitted, valid.iloc[:1], predictions)
    assert any(case.problem and not case.views for case in cases)


def test_unlabelled_and_unscored_studies_are_ignored(fitted, valid, predictions):
    predictions.loc[::2, "label"] = pd.NA
    predictions.loc[1::2, "score"] = np.nan
    assert review_cases(fitted, valid, predictions) == []


def test_perfect_predictions_give_no_case(fitted, valid, predictions):
    right = predictions.assign(score=predictions["label"].astype(float))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert review_cases(fitted, valid, right) == []


def test_study_keys_patients_and_notes_are_optional(fitted, valid):
    bare = valid[["study_type", "views", "label"]].reset_index(drop=True)
    table = prediction_table(bare, np.linspace(0.1, 0.9, len(bare)))
    case = review_cases(fitted, bare, table)[0]
    assert case.patient is case.note is None
    assert case.views[0].overlay


@pytest.mark.parametrize("shape", [(9, 9), (3000, 20), (1, 900)])
def test_extreme_aspect_ratios_have_pictures(fitted, tmp_path, shape):
    path = tmp_path / "image1.png"
    Image.fromarray(np.full(shape, 99, dtype=np.uint8)).save(path)
    study = pd.DataFrame({"study_type": ["XR_HAND"], "views": [(str(path),)], "label": [1]})
    case = review_cases(fitted, study, prediction_table(study, [0.1]))[0]
    assert max(picture(case.views[0].overlay).size) == 384


def test_most_similar_training_studies_are_of_other_patients(fitted, train, valid, predictions):
    both = pd.concat([train, valid])  # the nearest of each case is itself
    cases = review_cases(
        fitted,
        valid,
        predictions,
        n_cases=2,
        train=both,
        train_features=fitted.embed(both),
        n_similar=2,
    )
    patient_of = dict(zip(both["study"], both["patient"], strict=True))
    assert all(len(case.similar) == 2 for case in cases)
    for case in cases:
        assert case.patient not in {patient_of[study.study] for study in case.similar}
        first, second = case.similar
        assert first.distance <= second.distance
        assert picture(first.radiograph).size[0] <= 192
        assert first.label == both.set_index("study").loc[first.study, "label"]


def test_report_shows_similar_training_studies(fitted, train, valid, tmp_path):
    inputs = collect_predictions(
        fitted, valid, n_cases=1, train=train, train_features=fitted.embed(train)
    )
    write_report(tmp_path, inputs)
    page = (tmp_path / "report.html").read_text()
    assert "Most similar training studies, of other patients" in page
    assert all(study.study in page for case in inputs.cases for study in case.similar)
