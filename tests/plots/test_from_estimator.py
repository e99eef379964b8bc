import numpy as np
import pytest
from matplotlib.figure import Figure

from mura_skorch.ensemble import MuraEnsemble
from mura_skorch.evaluation import prediction_table, score_predictions
from mura_skorch.plots import KappaDisplay, ReliabilityDisplay, RocDisplay, TrainingDisplay

NOTE = "phantoms: no clinical meaning"


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_kappas_of_an_estimator_are_those_of_its_predictions(fitted, valid):
    ax = Figure(figsize=(10, 4)).subplots()
    display = KappaDisplay.from_estimator(fitted, valid, ax=ax)
    table = prediction_table(valid, fitted.predict_proba(valid)[:, 1], threshold=fitted.threshold_)
    expected = score_predictions(table)
    assert display.scores["kappa"].tolist() == expected["kappa"].tolist()
    assert display.scores["kappa_low"].tolist() == expected["kappa_low"].tolist()
    assert display.ax_ is ax
    assert display.note == NOTE


def test_roc_of_an_estimator_has_a_curve_of_each_type(fitted, valid):
    display = RocDisplay.from_estimator(fitted, valid)
    words = legend(display.ax_)
    for name in ("XR_HAND, AUROC", "XR_WRIST, AUROC", "all studies, AUROC"):
        assert sum(word.startswith(name) for word in words) == 1
    assert len(legend(RocDisplay.from_estimator(fitted, valid, by_type=False).ax_)) == 2
    one = valid[valid["study_type"] == "XR_HAND"]
    assert len(legend(RocDisplay.from_estimator(fitted, one).ax_)) == 2


def test_type_of_one_class_is_named_and_has_no_curve():
    display = RocDisplay.from_predictions(
        [0, 1, 1, 1], [0.1, 0.9, 0.4, 0.6], study_type=["A", "A", "B", "B"]
    )
    assert "B: one class only" in legend(display.ax_)


def test_many_types_differ_by_colour_or_line():
    types = np.repeat([f"type {i:02d}" for i in range(15)], 2)
    display = RocDisplay.from_predictions([0, 1] * 15, [0.1, 0.9] * 15, study_type=types)
    lines = [line for line in display.ax_.lines if str(line.get_label()).startswith("type")]
    assert len({(line.get_color(), line.get_linestyle()) for line in lines}) == 15


def test_reliability_of_an_estimator_counts_every_labelled_study(fitted, valid):
    labels = valid["label"].astype(int).to_numpy()
    display = ReliabilityDisplay.from_estimator(fitted, valid.drop(columns="label"), labels)
    heights = [bar.get_height() for bar in display.ax_histogram_.patches]
    assert sum(heights) == len(valid)


def test_epochs_of_an_ensemble_have_a_ring_for_each_model(fitted):
    display = TrainingDisplay.from_estimator(fitted)
    assert display.note == NOTE
    best = [row["epoch"] for row in fitted.history if row.get("event_cp")][-1]
    rings = [line for line in display.axes_[0].lines if line.get_markersize() == 10]
    assert rings[0].get_xdata().tolist() == [best]
    both = TrainingDisplay.from_estimator(MuraEnsemble.of([fitted, fitted]))
    rings = [line for line in both.axes_[0].lines if line.get_markersize() == 10]
    assert [len(line.get_xdata()) for line in rings] == [1, 1, 0]  # the last explains the ring


def test_ring_is_at_the_epoch_whose_weights_were_kept():
    rows = [
        {"epoch": k, "train_loss": 1.0, "valid_loss": loss, "valid_kappa": 0.1, "event_cp": kept}
        for k, loss, kept in ((1, 0.3, True), (2, 0.1, True), (3, 0.2, True), (4, 0.05, False))
    ]
    display = TrainingDisplay.from_histories({"by kappa": rows})
    (ring, _) = (line for line in display.axes_[0].lines if line.get_markersize() == 10)
    assert ring.get_xdata().tolist() == [3]
    with pytest.raises(ValueError, match="fit the classifier first"):
        TrainingDisplay.from_histories({})


def test_studies_without_labels_are_refused(fitted, valid):
    with pytest.raises(ValueError, match="expected labels to draw"):
        RocDisplay.from_estimator(fitted, valid.drop(columns="label"))
