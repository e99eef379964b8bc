"""The guide to notebooks: its snippets run as they stand, in order."""

import re
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "how_to" / "notebooks.md"


@pytest.mark.filterwarnings("ignore:zero width:RuntimeWarning")
def test_guides_python_runs_from_top_to_bottom(fitted, valid, capsys):
    names = {"clf": fitted, "valid": valid}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL):
        exec(compile(block, GUIDE.name, "exec"), names)
    assert "kappa_low" in capsys.readouterr().out
    assert {path.stem for path in Path().glob("*.png")} == {
        "kappa",
        "roc",
        "reliability",
        "training",
    }


def test_columns_that_a_fit_prints_are_in_the_table(fitted):
    text = GUIDE.read_text("utf-8")
    printed = {key for key in fitted.history[-1] if "/" not in key and not key.endswith("_best")}
    printed -= {
        "batches",
        "epoch",
        "event_cp",
        "event_lr",
        "train_batch_count",
        "valid_batch_count",
    }
    missing = [name for name in printed if f"`{name}`" not in text]
    assert missing == []
