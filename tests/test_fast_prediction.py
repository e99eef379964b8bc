"""The guide "Predicting fast without a GPU": its snippets run as they stand, in order."""

import re
from pathlib import Path

import numpy as np
import pytest

GUIDE = Path(__file__).parents[1] / "docs" / "how_to" / "fast_prediction.md"


@pytest.mark.slow
def test_guide_runs_as_it_stands():
    names = {"print": lambda *values: None}
    for snippet in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL):
        exec(compile(snippet, GUIDE.name, "exec"), names)
    exact = names["clf"].predict_proba(names["valid"])
    for other, most in [(names["fast"], 0.02), (names["small"], 0.1)]:
        assert np.abs(other.predict_proba(names["valid"]) - exact).max() < most
    assert names["small"].describe_engine() == "openvino, int8"
