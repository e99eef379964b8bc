import numpy as np
import pytest
from matplotlib.figure import Figure

from mura_skorch.plots import RocDisplay


@pytest.fixture
def scored():
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, 200)
    return y_true, np.clip(rng.normal(0.4 + 0.3 * y_true, 0.2), 0, 1)


def points(display):
    return {
        line.get_label(): (line.get_xdata()[0], line.get_ydata()[0])
        for line in display.ax_.lines
        if len(line.get_xdata()) == 1
    }


def test_operating_point_uses_strictly_greater_scores(scored):
    y_true, y_score = scored
    threshold = float(np.sort(y_score)[100])
    display = RocDisplay.from_predictions(y_true, y_score, threshold=threshold)
    called = y_score > threshold
    (point,) = points(display).values()
    assert point == (called[y_true == 0].mean(), called[y_true == 1].mean())
    curve = next(line for line in display.ax_.lines if "AUROC" in str(line.get_label()))
    assert any(np.allclose(point, step) for step in curve.get_xydata())


def test_published_point_and_footnote_are_optional(scored):
    display = RocDisplay.from_predictions(*scored, published=True)
    assert points(display)["paper's model*"] == pytest.approx((0.113, 0.815))
    assert "hidden" in display.ax_.get_xlabel()
    assert "AUROC 0.929" in display.ax_.get_xlabel()
    display = RocDisplay.from_predictions(*scored)
    assert list(points(display)) == ["model above 0.5"]
    assert display.ax_.get_xlabel() == "1 - specificity"


def test_threshold_none_draws_no_point(scored):
    assert points(RocDisplay.from_predictions(*scored, threshold=None)) == {}


def test_curve_has_the_given_name(scored):
    display = RocDisplay.from_predictions(*scored, name="7 models, pooled")
    words = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert words[0].startswith("7 models, pooled, AUROC")
    assert list(points(display)) == ["7 models, pooled above 0.5"]


def test_note_is_the_title_of_the_given_axes(scored):
    ax = Figure().subplots()
    display = RocDisplay.from_predictions(*scored, note="phantoms: no clinical meaning", ax=ax)
    assert display.ax_ is ax
    assert ax.get_title(loc="left") == "phantoms: no clinical meaning"


def test_single_class_is_refused():
    with pytest.raises(ValueError, match="normal and abnormal"):
        RocDisplay.from_predictions([1, 1], [0.2, 0.7])
