import numpy as np
import pytest
from nets import tiny_classifier
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mura_skorch import ValidStudies
from mura_skorch.report import collect_predictions, write_report

pytestmark = pytest.mark.faults


def with_pixels(studies, folder, pixels):
    """Return the studies with one picture in the place of every view, no two files alike."""
    folder.mkdir()
    views = [
        tuple(str(folder / f"{i}_{k}.png") for k in range(len(paths)))
        for i, paths in enumerate(studies["views"])
    ]
    for path in (path for paths in views for path in paths):
        text = PngInfo()
        text.add_text("name", path)
        Image.fromarray(pixels).save(path, pnginfo=text)
    return studies.assign(views=views)


PICTURES = {
    "black": np.zeros((40, 30), dtype=np.uint8),
    "white": np.full((40, 30), 255, dtype=np.uint8),
    "identical": np.random.default_rng(0).integers(0, 256, (40, 30)).astype(np.uint8),
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_without_any_difference_end_in_one_probability_and_no_skill(
    train, valid, tmp_path, name
):
    same, held_out = (
        with_pixels(part, tmp_path / f"{number}", PICTURES[name])
        for number, part in enumerate((train, valid))
    )
    net = tiny_classifier(train_split=ValidStudies(held_out)).fit(same)
    assert np.isfinite(net.history[:, ("train_loss", "valid_loss")]).all()
    inputs = collect_predictions(net, held_out)
    scores = inputs.predictions["score"]
    assert np.isfinite(scores).all()
    assert np.ptp(scores) < 1e-6
    # Means over different numbers of equal views differ in the last bit.
    rounded = inputs.predictions.assign(score=scores.round(6))
    overall = write_report(tmp_path / "report", rounded).iloc[-1]
    assert (overall["kappa"], overall["auroc"], overall["accuracy"]) == (0.0, 0.5, 0.5)
    assert "none called" in overall["undefined"]


def test_rule_that_cannot_choose_between_identical_scores_says_so(train, valid, tmp_path):
    same, held_out = (
        with_pixels(part, tmp_path / f"{number}", PICTURES["black"])
        for number, part in enumerate((train, valid))
    )
    net = tiny_classifier(threshold="youden", train_split=ValidStudies(held_out))
    with pytest.warns(UserWarning, match=r"same score for all 16 studies.*The threshold is 0\.5"):
        net.fit(same)
    assert net.threshold_ == 0.5
    assert len(set(net.predict(held_out))) == 1


def test_type_with_one_study_is_trained_on_and_weighted_evenly(train, valid):
    part = train.copy()
    part.iloc[0, part.columns.get_loc("study_type")] = "XR_ELBOW"
    with pytest.warns(UserWarning, match="every training study of XR_ELBOW is"):
        net = tiny_classifier(train_split=ValidStudies(valid)).fit(part)
    row = net.study_types_.index("XR_ELBOW")
    assert net.criterion_.class_weight[row].tolist() == [0.5, 0.5]
    assert np.isfinite(net.history[:, ("train_loss", "valid_loss")]).all()


def test_type_with_one_study_has_a_reason_in_the_place_of_a_score(fitted, valid, tmp_path):
    part = valid.copy()
    part.iloc[0, part.columns.get_loc("study_type")] = "XR_ELBOW"
    with pytest.warns(UserWarning, match="never saw XR_ELBOW"):
        inputs = collect_predictions(fitted, part)
    scores = write_report(tmp_path / "report", inputs.predictions)
    alone = scores.set_index("study_type").loc["XR_ELBOW"]
    assert alone["n"] == 1
    assert np.isnan(alone[["kappa", "auroc", "kappa_low"]].to_numpy(dtype=float)).all()
    assert "auroc: only one class" in alone["undefined"]
    assert "resampled intervals: only one patient" in alone["undefined"]
