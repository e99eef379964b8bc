import runpy
from pathlib import Path

import mlflow
import pandas as pd
import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "robustness.py"


@pytest.fixture(scope="module")
def main():
    return runpy.run_path(str(SCRIPT), run_name="robustness")["main"]


@pytest.fixture(scope="module")
def model(train, tmp_path_factory):
    """The folder of a model with a network that a script can load."""
    from mura_skorch import MuraClassifier

    folder = tmp_path_factory.mktemp("model")
    MuraClassifier(
        module__weights=None,
        module__backbone="mobilenet_v2",
        dataset__image_size=32,
        max_epochs=1,
        train_split=None,
        random_state=0,
        callbacks__mlflow=None,
        verbose=0,
    ).fit(train).save(folder)
    return folder


@pytest.mark.slow
def test_script_writes_table_figure_page_and_run(main, model, phantom_root, capsys):
    arguments = ["--model", str(model), "--data", str(phantom_root), "--split", "valid"]
    assert main([*arguments, "--out", "out", "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    assert "phantoms: no clinical meaning" in printed
    assert "Predicted and scored in" in printed
    scores = pd.read_csv("out/robustness.csv")
    assert (scores["n"] > 0).all()
    for name in scores["perturbation"]:
        assert name in printed
    page = Path("out/robustness.html").read_text()
    assert "phantoms: no clinical meaning" in page
    assert "<script" not in page
    assert Path("out/robustness.png").is_file()
    run = mlflow.last_active_run()
    assert any(name.startswith("robustness/kappa/") for name in run.data.metrics)


def test_data_without_labels_is_refused(main, model, phantom_root):
    with pytest.raises(SystemExit, match="robustness: expected labelled studies in the split test"):
        main(["--model", str(model), "--data", str(phantom_root), "--split", "test"])
