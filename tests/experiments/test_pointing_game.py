import runpy
from argparse import Namespace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from mura_skorch import write_phantoms
from mura_skorch.commands import pointing_game
from mura_skorch.data import read_view
from mura_skorch.inspection import LEGEND, pointing_scores

SCRIPT = Path(__file__).parents[2] / "experiments" / "pointing_game.py"
NOTE = "phantoms: no clinical meaning"


class Pointer:
    """A model whose maps are a delta where it is told to point, in shares of width and height."""

    threshold_ = 0.5

    def __init__(self, targets, cells=64):
        self.targets = targets
        self.cells = cells

    def localize(self, studies):
        return [np.stack([self.map_of(path) for path in paths]) for paths in studies["views"]]

    def predict_view_proba(self, studies):
        return [np.linspace(0, 1, len(paths) + 1)[1:] for paths in studies["views"]]

    def map_of(self, path):
        cam = np.zeros((self.cells, self.cells), dtype=np.float32)
        x, y = self.targets.get(path, (0, 0))
        cam[int(y * self.cells), int(x * self.cells)] = 1
        return cam


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="pointing_game")["main"]


@pytest.fixture(scope="module")
def lesions(phantom_root):
    return pointing_game.read(Namespace(data=phantom_root, study_types=None))[1]


@pytest.fixture(scope="module")
def abnormal(valid):
    return valid[valid["label"] == 1]


def centres(lesions):
    found = {}
    for path, (x0, y0, x1, y1) in zip(lesions.index, lesions.to_numpy(), strict=True):
        height, width = read_view(path).shape
        found[path] = ((x0 + x1) / 2 / width, (y0 + y1) / 2 / height)
    return found


def play(target, abnormal, lesions):
    games, _ = pointing_game.play(Pointer(target), abnormal, lesions)
    return games, pointing_scores(games, (64, 64))


def test_boxes_match_the_views(lesions, studies):
    views = studies.explode("views").set_index("views")
    assert set(lesions.index) <= set(views.index)
    assert (views.loc[lesions.index, "label"].dropna() == 1).all()
    shown = studies[studies["label"] == 1]["views"]
    assert all(any(path in lesions.index for path in paths) for paths in shown)
    for path, (x0, y0, x1, y1) in zip(lesions.index, lesions.to_numpy(), strict=True):
        height, width = read_view(path).shape
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def test_pointing_at_the_lesion_always_hits(abnormal, lesions):
    games, results = play(centres(lesions), abnormal, lesions)
    assert len(games) == sum(path in lesions.index for paths in abnormal["views"] for path in paths)
    assert (results["hits"] == 1).all()
    assert (results["best"] == 1).all()


def test_pointing_at_a_corner_never_hits(abnormal, lesions):
    _, results = play({}, abnormal, lesions)
    assert (results["hits"] == 0).all()
    assert (results["gain"] <= 0).all()


def test_pointing_at_the_centre_gives_the_centre_baseline(abnormal, lesions):
    # 65 cells: the middle one is centred on the view.
    pointer = Pointer(dict.fromkeys(lesions.index, (0.5, 0.5)), cells=65)
    games, _ = pointing_game.play(pointer, abnormal, lesions)
    np.testing.assert_allclose(games[["x", "y"]], 0.5)
    results = pointing_scores(games, (65, 65))
    np.testing.assert_array_equal(results["hits"], results["centre"])


def test_random_baseline_equals_share_of_random_hits(abnormal, lesions):
    games, results = play({}, abnormal, lesions)
    points = pd.DataFrame(np.random.default_rng(0).random((20_000, 2)), columns=["x", "y"])
    x, y = points.to_numpy().T[:, :, None]
    inside = (games.x0.values <= x) & (x < games.x1.values)
    inside &= (games.y0.values <= y) & (y < games.y1.values)
    assert results["anywhere"][0] == pytest.approx(inside.mean(), abs=0.01)


def test_views_called_abnormal_are_above_the_threshold(abnormal, lesions):
    games, results = play(centres(lesions), abnormal, lesions)
    assert results["n"].tolist() == [len(games), (games["score"] > 0.5).sum()]


def made_up(hits, patients):
    """Return views whose boxes are the left half, and peaks there or not."""
    box = {"x0": 0.0, "y0": 0.0, "x1": 0.5, "y1": 1.0}
    table = pd.DataFrame({"patient": patients, "x": np.where(hits, 0.25, 0.75), "y": 0.5})
    return table.assign(study_type="XR_HAND", called=True, **box)


def test_interval_resamples_patients():
    hits = [1, 1, 1, 0, 0, 0] * 20
    one_each, by_patient, alone = (
        pointing_scores(made_up(hits, patients), (2, 2)).iloc[0]
        for patients in (range(120), np.repeat(range(40), 3), [1] * 120)
    )
    assert one_each.hits_low < 0.5 < one_each.hits_high
    wide, narrow = (row.hits_high - row.hits_low for row in (by_patient, one_each))
    assert wide > 1.4 * narrow
    assert np.isnan([alone.hits_low, alone.hits_high, alone.other_box, alone.gain]).all()


def test_view_without_other_patients_is_excluded_from_gain():
    left, right = made_up([1] * 20, range(20)), made_up([0] * 20, range(20, 40))
    known = pd.concat([left, right.assign(x0=0.5, x1=1.0)], ignore_index=True)
    alone = made_up([1] * 20, range(40, 60)).assign(study_type=[f"XR_{i}" for i in range(20)])
    gains = ["gain", "gain_low", "gain_high"]
    with_alone = pointing_scores(pd.concat([known, alone], ignore_index=True), (2, 2)).iloc[0]
    assert with_alone.n == 60
    pd.testing.assert_series_equal(with_alone[gains], pointing_scores(known, (2, 2)).iloc[0][gains])


def test_peaks_at_usual_lesion_positions_have_no_gain():
    row = pointing_scores(made_up([1] * 30, range(30)), (2, 2)).iloc[0]
    assert row.hits == row.other_box == 1
    assert row.gain == row.gain_low == row.gain_high == 0


def test_no_abnormal_call_gives_undefined_scores():
    row = pointing_scores(made_up([1] * 4, range(4)).assign(called=False), (2, 2)).iloc[1]
    assert row.n == 0
    assert np.isnan(row.hits)
    assert np.isnan(row.hits_low)


@pytest.mark.slow
def test_saved_model_reproduces_the_results(main, phantom_root, capsys):
    common = ["--data", str(phantom_root), "--study-types", "XR_HAND", "--threads", "1"]
    train = ["--image-size", "64", "--max-epochs", "1", "--out", "one"]
    assert main([*common, *train]) == 0
    printed = capsys.readouterr().out
    assert NOTE in printed
    assert "called abnormal" in printed
    experiment = mlflow.get_experiment_by_name("pointing_game")
    (run,) = mlflow.search_runs([experiment.experiment_id], output_format="list")
    assert run.info.status == "FINISHED"
    assert run.data.metrics["pointing/n"] > 0
    logged = {item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert {"views.csv", "results.csv", "maps.png"} <= logged
    (logged_model,) = mlflow.search_logged_models([experiment.experiment_id], output_format="list")
    assert logged_model.source_run_id == run.info.run_id
    assert imread("one/maps.png").shape[0] > 200
    assert set(pd.read_csv("one/views.csv")["note"]) == {NOTE}
    results = pd.read_csv("one/results.csv")
    assert all(f"{name}  " in printed for name in LEGEND)
    assert {name.removesuffix("_low").removesuffix("_high") for name in results} == {
        *(*LEGEND, "views", "n", "note"),
    }
    assert "Maps have 2 x 2 cells" in printed
    assert "max_epochs=1" in printed
    assert main([*common, "--model", run.info.run_id, "--out", "two"]) == 0
    assert "max_epochs=" not in capsys.readouterr().out
    tables = [pd.read_csv(f"{out}/results.csv") for out in ("one", "two")]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(("is_hit", "n_axes"), [([True] * 5, 6), ([True, False], 4)])
def test_figure_has_no_empty_row_or_column(lesions, is_hit, n_axes):
    games = pd.DataFrame({"patient": "p", "view": 1, "score": 0.5, "hit": is_hit})
    maps = [(lesions.index[0], lesions.iloc[0], np.eye(2))] * len(games)
    figure = pointing_game.draw(games, maps, NOTE)
    assert sum(bool(ax.images) for ax in figure.axes) == n_axes
    assert figure.axes[0].get_subplotspec().get_gridspec().ncols == 2 * min(3, sum(is_hit))


def test_folder_without_visible_lesions_is_refused(main, tmp_path):
    write_phantoms(tmp_path / "P", n_train=4, n_valid=4, n_test=0, study_types=["XR_HAND"])
    boxes = tmp_path / "P" / "lesions.csv"
    boxes.write_text(boxes.read_text().splitlines()[0] + "\n")
    with pytest.raises(
        SystemExit, match="pointing_game: expected a view with a lesion .* got none"
    ):
        main(["--data", str(tmp_path / "P"), "--threads", "1"])


def test_folder_without_boxes_is_refused(main, tmp_path):
    with pytest.raises(SystemExit, match=r"expected phantoms with a lesions\.csv, got none"):
        main(["--data", str(tmp_path), "--threads", "1"])
