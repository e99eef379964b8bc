"""The guide to triage: its snippets run as they stand, in order."""

import re
from pathlib import Path

GUIDE = Path(__file__).parents[1] / "docs" / "how_to" / "triage.md"


def test_guides_python_runs_from_top_to_bottom(fitted, train, valid):
    score = fitted.predict_proba(train)[:, 1]
    middles = train.assign(score=score).groupby("study_type")["score"].transform("median")
    local = train.assign(label=(score > middles).astype(int), patient="local " + train["patient"])
    names = {"clf": fitted, "local": local, "new": valid}
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), names)
    assert set(names["answers"]["triage"]) <= {"normal", "abnormal", "look yourself"}
