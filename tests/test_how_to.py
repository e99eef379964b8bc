"""Snippets of the guides that have no test of their own run as they stand."""

import re
from pathlib import Path

import pytest
from nets import tiny_classifier

from mura_skorch import MuraClassifier, StudyNetwork

DOCS = Path(__file__).parents[1] / "docs" / "how_to"
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def snippets(page):
    return re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text(), re.DOTALL)


def run(page, **names):
    """Run the snippets of a page in one namespace; return it."""
    for snippet in snippets(page):
        exec(compile(snippet, page, "exec"), names)
    return names


def test_features(fitted, train, valid):
    names = run("features", clf=fitted, train=train, valid=valid)
    assert names["head"].predict(valid).shape == (len(valid),)
    assert Path("cache").is_dir()


def test_report(fitted, valid):
    run("report", clf=fitted, valid=valid, print=lambda *values: None)
    assert "Wrists of our clinic" in Path("report/report.html").read_text()
    assert Path("again/report.html").is_file()


def test_resume(train):
    run("resume", train=train)
    clf = run("resume", train=train)["clf"]  # a second time, from the checkpoint
    assert len(clf.history) == 2


def test_tracking(fitted, train, valid):
    schedule, test_scores, winner = snippets("tracking")
    names = {}
    exec(schedule, names)
    assert isinstance(names["clf"], MuraClassifier)
    clf = tiny_classifier(max_epochs=1, callbacks__mlflow__log_model=False).fit(train)
    exec(test_scores, {"clf": clf, "test": valid})
    search = type("Search", (), {"best_estimator_": clf})
    exec(winner, {"search": search})


def test_sweeps(train):
    pytest.importorskip("optuna")
    (snippet,) = snippets("sweeps")
    small = snippet.replace("range(20)", "range(2)")
    small = small.replace("from mura_skorch import MuraClassifier", "")
    assert small != snippet
    names = {"train": train, "MuraClassifier": lambda **kw: tiny_classifier(max_epochs=2, **kw)}
    exec(small, names)
    assert len(names["study"].trials) == 2


def test_export(train):
    pytest.importorskip("onnxscript")
    params = {"module": StudyNetwork, "module__backbone": "resnet18", "max_epochs": 1}
    tiny_classifier(**params).fit(train).save("wrist-model")
    run("export")
    assert Path("wrist-onnx/model.onnx").is_file()


def test_remote_data(phantom_root):
    address = "s3://my-bucket/MURA-v1.1"  # a store on loopback has tests of its own
    first, *_ = snippets("remote_data")
    assert address in first
    small = first.replace(address, str(phantom_root)).replace("MuraClassifier, ", "")
    names = {"MuraClassifier": lambda **params: tiny_classifier(max_epochs=1, **params)}
    exec(small, names)
    assert len(names["clf"].history) == 1
    assert list(Path("cache").iterdir())
