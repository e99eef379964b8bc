"""The package as a user's type checker sees it."""

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = "mura_skorch"
PACKAGES = [
    PACKAGE,
    *(
        f"{PACKAGE}.{name}"
        for name in (
            "calibration",
            "callbacks",
            "data",
            "dicom",
            "distributed",
            "ensemble",
            "evaluation",
            "evaluation.published",
            "exploration",
            "features",
            "inference",
            "inspection",
            "metrics",
            "models",
            "phantoms",
            "plots",
            "presets",
            "report",
            "scoring",
            "serving",
            "studies",
            "sweeps",
            "tracking",
            "utils.identity",
            "utils.progress",
        )
    ),
]
PUBLIC = [
    pytest.param(getattr(module, name), id=f"{module.__name__}.{name}")
    for module in map(importlib.import_module, PACKAGES)
    for name in module.__dict__.get("__all__", [])
    if inspect.isfunction(getattr(module, name)) or inspect.isclass(getattr(module, name))
]

# What a user may write: "error" where it is wrong, the type where one is asked for.
SCRIPT = """
from mura_skorch import MuraEnsemble, PatientSplit, StudyNetwork, ValidStudies, kappa_interval
from mura_skorch.evaluation import compare_models
from mura_skorch.report import collect_predictions
from mura_skorch.calibration import choose_threshold
from mura_skorch.plots import RocDisplay
from mura_skorch.report import read_report, write_report

reveal_type(studies)  # pandas.core.frame.DataFrame
reveal_type(clf)  # mura_skorch.classifier.MuraClassifier
reveal_type(clf.fit(train))  # mura_skorch.classifier.MuraClassifier
reveal_type(clf.predict(valid))  # numpy.ndarray
reveal_type(clf.predict_proba(valid))  # numpy.ndarray
reveal_type(clf.localize(valid))  # list[numpy.ndarray
reveal_type(clf.recalibrate(valid).threshold_)  # float
reveal_type(clf.triage(valid).predict_triage(valid))  # pandas.core.frame.DataFrame
reveal_type(MuraClassifier.load("model"))  # mura_skorch.classifier.MuraClassifier
reveal_type(MuraEnsemble.of([clf]).predict_proba(valid))  # numpy.ndarray
reveal_type(scores)  # pandas.core.frame.DataFrame
reveal_type(kappa_interval([0, 1], [0, 1]).kappa)  # float
reveal_type(choose_threshold([0, 1], [0.2, 0.7], "youden"))  # float
reveal_type(collect_predictions(clf, valid).predictions)  # pandas.core.frame.DataFrame
reveal_type(RocDisplay.from_predictions([0, 1], y_score))  # mura_skorch.plots.roc.RocDisplay

MuraClassifier(train_split=ValidStudies(valid), random_state=None, verbose=0)
MuraClassifier(train_split=0.1, optimizer="AdamW", device=None)
MuraClassifier(module=StudyNetwork, train_split=None, threshold="sensitivity=0.95")
compare_models(valid.label, y_score, list(y_score), groups=valid.patient, threshold=(0.5, 0.4))
write_report("again", **read_report("report"))

from mura_skorch import MuraClasifier  # error
read_studies(3)  # error
write_phantoms(folder, n_train="many")  # error
MuraClassifier(criterion__level="patient")  # error
MuraClassifier(lr="small")  # error
MuraClassifier(train_split="a tenth")  # error
MuraClassifier.load(3)  # error
MuraEnsemble.of("model")  # error
PatientSplit("a tenth")  # error
clf.fit("MURA-v1.1")  # error
clf.predict_proba([1, 2])  # error
clf.save(None)  # error
kappa_interval([0, 1], [0, 1], method="exact")  # error
study_scores([0, 1], [0.2, 0.7], interval=0.95)  # error
compare_models([0, 1], [0.2, 0.7])  # error
collect_predictions(clf, valid, cases=4)  # error
"""


def functions_of(item):
    """Yield a function, or the public ones of a class and its `__init__`, by name."""
    if inspect.isfunction(item):
        yield item.__name__, item
        return
    for name, value in vars(item).items():
        value = getattr(value, "fget", None) or getattr(value, "__func__", value)
        is_ours = inspect.isfunction(value) and value.__module__.startswith(PACKAGE)
        if is_ours and (name in ("__init__", "__call__") or not name.startswith("_")):
            yield f"{item.__name__}.{name}", value


@pytest.mark.parametrize("item", PUBLIC)
def test_every_public_function_says_what_it_takes_and_returns(item):
    for name, function in functions_of(item):
        signature = inspect.signature(function)
        bare = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
        ]
        assert not bare, f"{name} does not say the type of {', '.join(bare)}"
        assert signature.return_annotation is not signature.empty, f"{name}: of its result"


@pytest.mark.slow
def test_type_checker_passes_the_quick_start_and_reports_every_wrong_use(tmp_path):
    quick_start = (ROOT / "README.md").read_text().split("```python\n")[1].split("```")[0]
    lines = (quick_start + SCRIPT).splitlines()
    file = tmp_path / "user.py"
    file.write_text("\n".join(lines))
    # With the settings and the cache of the repository: torch alone takes a minute to read.
    command = [sys.executable, "-m", "mypy", "--no-pretty", str(file)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    said = re.findall(r"^.*user\.py:(\d+): (error|note): (.*)$", found.stdout, re.MULTILINE)
    wanted = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    errors = {int(number) for number, kind, _ in said if kind == "error"}
    assert wanted, "the script has wrong uses"
    assert errors == wanted, found.stdout + found.stderr
    for number, line in enumerate(lines, 1):
        if line.startswith("reveal_type"):
            (type_,) = [text for at, kind, text in said if (int(at), kind) == (number, "note")]
            assert f'"{line.rpartition("# ")[2]}' in type_.replace("builtins.", ""), line
