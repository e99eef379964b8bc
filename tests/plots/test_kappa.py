import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mura_skorch import plots
from mura_skorch.evaluation.published import STUDY_COUNTS, add_published
from mura_skorch.metrics import study_scores
from mura_skorch.plots import KappaDisplay, ReliabilityDisplay, TrainingDisplay


def predictions(types=tuple(STUDY_COUNTS["valid"]), each=30):
    rng = np.random.default_rng(0)
    study_type = np.repeat(np.array(types, dtype=object), each)
    y_true = np.tile([0, 1], len(study_type) // 2)
    y_score = np.clip(0.5 + 0.2 * (2 * y_true - 1) + 0.3 * rng.normal(size=len(y_true)), 0, 1)
    return y_true, y_score, study_type


@pytest.fixture
def scores():
    y_true, y_score, study_type = predictions()
    return study_scores(y_true, y_score, study_type=study_type)


def texts(display):
    return [text.get_text() for text in display.ax_.texts]


def legend(display):
    return [text.get_text() for text in display.ax_.get_legend().get_texts()]


def fits(display):
    """Whether all texts lie within the figure, once it is laid out."""
    figure = display.figure_
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in display.ax_.texts]
    boxes += [label.get_window_extent() for label in display.ax_.get_yticklabels()]
    boxes.append(display.ax_.get_legend().get_window_extent())
    return all(
        box.x0 >= -1
        and box.y0 >= -1
        and box.x1 <= figure.bbox.width + 1
        and box.y1 <= figure.bbox.height + 1
        for box in boxes
    )


@pytest.mark.slow
def test_importing_plots_does_not_import_matplotlib():
    # The module alone: a stand-in for the package keeps the front door, and torch, out of it.
    code = (
        "import sys, types; package = types.ModuleType('mura_skorch'); "
        f"package.__path__ = [{str(Path(plots.__file__).parents[1])!r}]; "
        "sys.modules['mura_skorch'] = package; "
        "import mura_skorch.plots; sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_plot_returns_the_display_with_axes_and_figure(scores):
    display = KappaDisplay(scores)
    assert display.plot() is display
    assert isinstance(display.figure_, Figure)
    assert display.ax_.figure is display.figure_
    assert display.ax_.get_xlabel() == "Cohen's kappa"


def test_figure_is_not_managed_by_pyplot(scores):
    import matplotlib.pyplot as plt

    before = plt.get_fignums()  # what others have open is theirs
    KappaDisplay(scores).plot()
    assert plt.get_fignums() == before


def test_plot_uses_given_axes(scores):
    ax = Figure(figsize=(10, 4.5)).add_subplot()
    display = KappaDisplay(add_published(scores), note="phantoms").plot(ax=ax)
    assert display.ax_ is ax
    assert fits(display)


@pytest.mark.slow
def test_from_predictions_draws_study_scores(scores):
    y_true, y_score, study_type = predictions()
    display = KappaDisplay.from_predictions(y_true, y_score, study_type=study_type, note="a note")
    assert display.scores.equals(scores)
    assert display.ax_.get_title(loc="left") == "a note"


def test_every_row_has_name_point_and_figures(scores):
    display = KappaDisplay(scores).plot()
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == scores.study_type.tolist()
    points = next(line for line in display.ax_.lines if len(line.get_xdata()) == 8)
    np.testing.assert_array_equal(points.get_xdata(), scores.kappa)
    assert {f"{value:.3f}".lstrip("0") for value in scores.auroc} <= set(texts(display))


def test_overall_is_set_apart(scores):
    heights = np.diff(KappaDisplay(scores).plot().ax_.get_yticks())
    assert (heights[:-1] == 1).all()
    assert heights[-1] > 1


def test_published_kappas_have_markers_and_footnote(scores):
    plain = KappaDisplay(scores).plot()
    beside = KappaDisplay(add_published(scores)).plot()
    assert legend(plain) == ["kappa, 95 % interval"]
    assert legend(beside)[1:] == ["paper's model*", "best radiologist*"]
    assert not any("another test set" in text.replace("\n", " ") for text in texts(plain))
    assert any("another test set" in text.replace("\n", " ") for text in texts(beside))


def test_undefined_kappas_are_shown_as_na(scores):
    scores.loc[[1, 4], ["kappa", "kappa_low", "kappa_high"]] = np.nan
    display = KappaDisplay(scores).plot()
    assert texts(display).count("n/a") == 4
    assert fits(display)


def test_status_replaces_the_figures(scores):
    scores.loc[1, ["kappa", "kappa_low", "kappa_high", "auroc"]] = np.nan
    scores.loc[1, ["sensitivity", "specificity", "accuracy"]] = np.nan
    scores["status"] = ["", "FAILED: no memory", *[""] * 6]
    assert "FAILED: no memory" in texts(KappaDisplay(scores).plot())


@pytest.mark.parametrize(
    "types", [("a",), ("XR_WRIST", "x"), tuple(f"metacarpophalangeal joint {i}" for i in range(7))]
)
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("with_table", [False, True])
def test_all_text_is_inside_the_figure(types, published, with_table):
    y_true, y_score, study_type = predictions(types)
    scores = study_scores(y_true, y_score, study_type=study_type)
    scores = add_published(scores) if published else scores
    display = KappaDisplay(scores, note="phantoms: no clinical meaning", with_table=with_table)
    assert fits(display.plot())


def test_figure_without_the_table_shows_kappas_alone(scores):
    display = KappaDisplay(scores, with_table=False).plot()
    assert "AUROC" not in texts(display)
    assert not any(text.startswith(".") for text in texts(display))
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == scores["study_type"].tolist()
    assert display.ax_.get_xlim()[1] < 1.1
    assert display.figure_.get_figwidth() < KappaDisplay(scores).plot().figure_.get_figwidth()


def test_negative_kappas_are_inside_the_axis(scores):
    scores.loc[0, ["kappa", "kappa_low", "kappa_high"]] = [-0.7, -0.95, -0.2]
    display = KappaDisplay(scores).plot()
    assert display.ax_.get_xlim()[0] < -0.95
    assert display.ax_.get_xticks().min() == -1


@pytest.mark.parametrize("study_type", [None, []])
def test_empty_table_draws_one_row(study_type):
    display = KappaDisplay.from_predictions([], [], study_type=study_type)
    assert fits(display)


def test_columns_of_the_table_do_not_overlap(scores):
    display = KappaDisplay(add_published(scores)).plot()
    display.figure_.draw_without_rendering()
    header = [text for text in display.ax_.texts if text.get_fontweight() == "bold"]
    boxes = [text.get_window_extent() for text in header]
    assert len(boxes) == 7
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_training_plot_labels_view_level_kappa():
    epochs = pd.DataFrame({"name": "a", "epoch": [1, 2], "train_loss": 0.4, "valid_loss": 0.5})
    studies = TrainingDisplay(epochs.assign(valid_kappa=[0.1, 0.2])).plot().axes_[1]
    views = TrainingDisplay(epochs.assign(valid_view_kappa=[0.3, 0.4])).plot().axes_[1]
    assert studies.get_ylabel() == "Cohen's kappa, validation"
    assert views.get_ylabel() == "Cohen's kappa, validation (view level)"
    assert views.lines[0].get_ydata().tolist() == [0.3, 0.4]


def reliability(y_true, y_score, **options):
    display = ReliabilityDisplay(y_true, y_score, **options).plot()
    lines = {line.get_label(): line for line in display.ax_.lines}
    return display, lines


def test_bins_of_few_studies_are_faint_and_not_joined():
    """Bins 0, 1 and 3 hold twenty studies each, bin 2 three."""
    y_score = np.repeat([0.03, 0.1, 0.16, 0.22], [20, 20, 3, 20])
    y_true = np.arange(63) % 2
    _, lines = reliability(y_true, y_score)
    curve, few = lines["model"], lines["fewer than 10 studies"]
    assert np.flatnonzero(~np.isnan(curve.get_ydata())).tolist() == [0, 1, 3]
    assert few.get_linestyle() == "None"
    assert few.get_alpha() < 0.5
    assert few.get_xdata()[2] == pytest.approx(0.16)
    assert "fewer than 10 studies" not in reliability(y_true[:40], y_score[:40])[1]


def test_curve_histogram_and_calibration_error_share_bins():
    """Scores on the edges of bins, where a bin begins."""
    y_score = np.repeat(np.array([3, 6, 9, 12]) / 15, 20)
    y_true = (np.arange(80) % 4 == 0).astype(int)
    display, lines = reliability(y_true, y_score)
    bars = {
        round(bar.get_x() * 15): bar.get_height()
        for bar in display.ax_histogram_.patches
        if bar.get_height() and bar.get_y() == 0
    }
    assert bars == {3: 15, 6: 15, 9: 15, 12: 15}
    shares = lines["model"].get_ydata()
    assert np.flatnonzero(~np.isnan(shares)).tolist() == [3, 6, 9, 12]
    error = study_scores(y_true, y_score).ece.iloc[0]
    gaps = np.abs(shares - lines["model"].get_xdata())
    assert error == pytest.approx(np.nanmean(gaps))


def test_reliability_without_studies_is_an_empty_figure():
    display, _ = reliability([], [], name="7 models, pooled", note="phantoms")
    assert display.ax_.get_title(loc="left") == "phantoms"


def test_summary_rows_are_set_apart_together(scores):
    y_true, y_score, study_type = predictions()
    scores = study_scores(y_true, y_score, study_type=study_type, mean_of_types=True)
    display = KappaDisplay(scores.assign(n_models=[1] * 7 + [7, 7])).plot()
    heights = np.diff(display.ax_.get_yticks())
    assert heights[-2] > 1
    assert heights[-1] == 1
    assert fits(display)
    assert any("7 models" in text for text in texts(display))


def test_selected_epoch_has_a_ring():
    epochs = pd.DataFrame({"name": "a", "epoch": [1, 2, 3], "train_loss": 0.4})
    losses, kappas = [0.5, 0.3, 0.3], [0.1, 0.2, 0.3]

    def ringed(**columns):
        axes = TrainingDisplay(epochs.assign(**columns)).plot().axes_
        return [
            line.get_xdata().tolist()
            for ax in axes
            for line in ax.lines
            if line.get_markerfacecolor() == "none" and len(line.get_xdata())
        ]

    assert ringed(valid_loss=losses, valid_kappa=kappas) == [[2], [2]]
    # A call that begins anew keeps its own best.
    again = {"valid_loss": losses, "valid_loss_best": [True, False, True]}
    assert ringed(**again) == [[3]]
    assert ringed() == []
