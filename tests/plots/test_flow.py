from mura_skorch.plots import FlowDisplay, FlowStep

STEPS = [
    FlowStep("100 studies read", "Left out:\n3 unlabelled\n20 of other splits"),
    FlowStep("77 studies given to the fit"),
    FlowStep("Training part:\n70 studies\nValidation part:\n7 studies"),
]


def boxes(display):
    figure = display.figure_
    figure.draw_without_rendering()
    return [patch.get_window_extent() for patch in display.ax_.patches if patch.get_width() > 1]


def test_boxes_do_not_overlap_and_hold_their_text():
    display = FlowDisplay([STEPS, STEPS[:2]], note="phantoms: no clinical meaning").plot()
    found = boxes(display)
    assert len(found) == 7
    for number, box in enumerate(found):
        assert not any(box.overlaps(other) for other in found[number + 1 :])
    texts = [text for text in display.ax_.texts if text.get_text()]
    assert len(texts) == 7
    for text in texts:
        inside = text.get_window_extent()
        assert any(box.containsx(inside.x0) and box.containsx(inside.x1)
                   and box.containsy(inside.y0) and box.containsy(inside.y1)
                   for box in found), text.get_text()  # fmt: skip


def test_everything_is_on_the_figure():
    display = FlowDisplay([STEPS]).plot()
    whole = display.figure_.bbox
    for box in boxes(display):
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert whole.y0 <= box.y0
        assert box.y1 <= whole.y1
