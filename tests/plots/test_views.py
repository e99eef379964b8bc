import numpy as np
import pytest
from matplotlib.figure import Figure

from mura_skorch.inspection.overlay import map_limit, overlay_map
from mura_skorch.plots import MapDisplay

NOTE = "phantoms: no clinical meaning"


def view_of(height=96, width=64):
    return np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.uint8)


@pytest.fixture
def cam():
    return np.random.default_rng(1).normal(size=(3, 2)).astype(np.float32)


def texts(display):
    found = [ax.get_title() for ax in display.figure_.axes]
    found += [ax.get_xlabel() for ax in display.figure_.axes]
    return found + [ax.get_ylabel() for ax in display.figure_.axes]


def test_plot_returns_the_display_with_two_axes_and_figure(cam):
    display = MapDisplay(view_of(), cam, title="a view", note=NOTE)
    assert display.plot() is display
    assert isinstance(display.figure_, Figure)
    assert len(display.axes_) == 2
    assert all(ax.figure is display.figure_ for ax in display.axes_)


def test_title_note_and_colour_bar_label_are_drawn(cam):
    found = [
        text.replace("\n", " ")
        for text in texts(MapDisplay(view_of(), cam, title="a view", note=NOTE).plot())
    ]
    assert {"a view", NOTE, "contribution to the logit"} <= set(found)


def test_figure_is_not_managed_by_pyplot(cam):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()  # what others have open is theirs
    MapDisplay(view_of(), cam).plot()
    assert plt.get_fignums() == before


def test_plot_uses_given_axes(cam):
    axes = Figure(figsize=(8, 4), layout="constrained").subplots(1, 2)
    display = MapDisplay(view_of(), cam).plot(axes)
    assert display.axes_ == tuple(axes)


def test_scale_is_symmetric_about_zero(cam):
    display = MapDisplay(view_of(), cam).plot()
    bar = display.figure_.axes[-1]
    low, high = bar.get_ylim()
    assert low == -high == pytest.approx(-np.abs(cam).max())
    assert [label.get_text() for label in bar.get_yticklabels()][1] == "0"


def test_given_limit_ends_the_scale(cam):
    display = MapDisplay(view_of(), cam, limit=10).plot()
    assert display.figure_.axes[-1].get_ylim() == (-10, 10)


@pytest.mark.parametrize("shape", [(64, 64), (512, 60), (60, 512), (512, 400), (1, 1)])
def test_texts_are_inside_the_figure_without_overlap(cam, shape):
    title = "XR_SHOULDER, patient00012, study1_positive, view 2\nscore 0.93"
    display = MapDisplay(view_of(*shape), cam, title=title, note=NOTE).plot()
    figure = display.figure_
    figure.draw_without_rendering()
    left, right = display.axes_
    boxes = [left.title, right.title, left.xaxis.label, figure.axes[-1].yaxis.label]
    boxes = [text.get_window_extent() for text in boxes]
    for box in boxes:
        assert box.x0 >= -2
        assert box.y0 >= -2
        assert box.x1 <= figure.bbox.width + 2
        assert box.y1 <= figure.bbox.height + 2
    assert boxes[0].x1 < boxes[1].x0


def test_box_is_drawn_in_view_pixels_on_both_axes(cam):
    display = MapDisplay(view_of(), cam, box=(10, 20, 30, 60)).plot()
    for ax in display.axes_:
        (patch,) = ax.patches
        assert (*patch.get_xy(), patch.get_width(), patch.get_height()) == (10, 20, 20, 40)


def test_cross_marks_the_peak():
    cam = np.zeros((4, 4))
    cam[1, 3] = 2
    (line,) = MapDisplay(view_of(80, 40), cam).plot().axes_[1].lines
    assert (*line.get_xdata(), *line.get_ydata()) == (35.0, 30.0)


def test_overlay_of_a_zero_map_is_the_radiograph():
    view = view_of()
    np.testing.assert_array_equal(
        overlay_map(view, np.zeros((3, 3)), 1.0), np.repeat(view[:, :, None], 3, axis=2)
    )


def test_colours_show_the_sign_and_saturate_at_the_limit():
    view = np.zeros((1, 4), dtype=np.uint8)
    shown = overlay_map(view, np.array([[-9.0, -1.0, 1.0, 9.0]]), 1.0)[0].astype(int)
    assert (shown[0] == shown[1]).all()
    assert (shown[2] == shown[3]).all()
    assert shown[0, 2] > shown[0, 0]  # blue
    assert shown[3, 0] > shown[3, 2]  # orange


def test_limit_of_zero_maps_is_one():
    assert map_limit(np.zeros((2, 2))) == map_limit() == 1.0
    assert map_limit(np.array([[-2.0]]), np.array([[1.0]])) == 2.0


def test_zero_map_can_be_drawn():
    MapDisplay(view_of(), np.zeros((2, 2))).plot().figure_.draw_without_rendering()
