import ast
import importlib
import inspect
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import mura_skorch

ROOT = Path(__file__).parents[1]
MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(mura_skorch.__path__, "mura_skorch.")
]


def test_front_door_is_small_and_complete():
    assert sorted(mura_skorch.__all__) == sorted(set(mura_skorch.__all__))
    assert len(mura_skorch.__all__) <= 13
    assert all(hasattr(mura_skorch, name) for name in mura_skorch.__all__)


def test_importing_touches_neither_mlflow_nor_matplotlib():
    code = "import sys, mura_skorch; print('mlflow' in sys.modules, 'matplotlib' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_public_functions_and_classes_document_every_parameter(module):
    for name in getattr(module, "__all__", []):
        item = getattr(module, name)
        if not callable(item) or not item.__module__.startswith("mura_skorch"):
            continue
        doc = inspect.getdoc(item) or ""
        assert doc, f"{name} has no docstring"
        if inspect.isclass(item) and "__init__" not in vars(item):
            continue  # its parameters are documented where they are defined
        parameters = [
            parameter.name
            for parameter in inspect.signature(item).parameters.values()
            if parameter.name not in ("self", "kwargs", "args", "fit_params")
        ]
        if len(parameters) > 2:
            missing = [parameter for parameter in parameters if parameter not in doc]
            assert not missing, f"{name} does not document {missing}"


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.name)
def test_experiments_open_with_their_question(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert docstring.splitlines()[0].split(".")[0].endswith(("?", "MLflow")) or "?" in docstring


def test_readmes_python_runs_as_it_stands(tmp_path):
    readme = (ROOT / "README.md").read_text()
    snippet = readme.split("```python\n")[1].split("```")[0]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # other tests use the other core
    found = subprocess.run(
        [sys.executable, "-c", snippet],
        **{"cwd": tmp_path, "env": alone, "capture_output": True, "text": True, "check": False},
    )
    assert found.returncode == 0, found.stderr
    assert "Warning" not in found.stderr
    overall = next(line for line in found.stdout.splitlines() if " overall " in line)
    kappa = float(overall.split()[3])
    assert kappa > 0.6, "a model that has learned something"
    assert found.stdout.rstrip().endswith("]"), "the loaded model's decisions come last"
