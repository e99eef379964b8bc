import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from numpydoc.docscrape import NumpyDocString
from numpydoc.validate import validate

import mura_skorch

ROOT = Path(__file__).parents[1]
MODULES = [
    importlib.import_module(module.name)
    for module in pkgutil.walk_packages(mura_skorch.__path__, "mura_skorch.")
]
PUBLIC = [
    pytest.param(item, id=f"{item.__module__}.{item.__qualname__}")
    for module in MODULES
    for item in (getattr(module, name) for name in getattr(module, "__all__", []))
    if inspect.isfunction(item) or inspect.isclass(item)
    # Once: where it is defined.
    if item.__module__ == module.__name__
]
# Layout of sections, a summary of one line, and what describes each parameter.
NUMPYDOC_CHECKS = {
    "GL01", "GL02", "GL03", "GL05", "GL06", "GL08", "GL09", "GL10",
    "SS01", "SS02", "SS03", "SS04", "SS06",
    "PR05", "PR09", "PR10", "RT04", "RT05", "SA02", "SA03", "SA04",
}  # fmt: skip


def test_front_door_is_small_and_complete():
    assert sorted(mura_skorch.__all__) == sorted(set(mura_skorch.__all__))
    assert len(mura_skorch.__all__) <= 13
    assert all(hasattr(mura_skorch, name) for name in mura_skorch.__all__)


def in_new_process(code):
    """Return what a program prints, as a list of words."""
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return found.stdout.split()


def test_importing_imports_no_large_library():
    code = "import sys, mura_skorch; print(*{name.partition('.')[0] for name in sys.modules})"
    large = {"joblib", "matplotlib", "mlflow", "numpy", "pandas", "sklearn", "skorch", "torch"}
    assert not large & {*in_new_process(code)}


def test_reading_studies_needs_no_torch():
    code = "import sys; from mura_skorch import read_studies; print('torch' in sys.modules)"
    assert in_new_process(code) == ["False"]


@pytest.mark.slow
def test_fitting_touches_neither_mlflow_nor_matplotlib():
    code = "import sys; from mura_skorch import *; MuraClassifier(); "
    code += "print('mlflow' in sys.modules, 'matplotlib' in sys.modules)"
    assert in_new_process(code) == ["False", "False"]


def test_packages_are_attributes_without_an_import_of_their_own():
    code = "import mura_skorch; print(mura_skorch.metrics.study_scores.__name__)"
    assert in_new_process(code) == ["study_scores"]


def test_names_are_listed_before_they_are_used():
    listed = in_new_process("import mura_skorch; print(*dir(mura_skorch))")
    packages = {path.parent.name for path in (ROOT / "mura_skorch").glob("*/__init__.py")}
    assert {*mura_skorch.__all__, "classifier", *packages} <= {*listed}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'mura_skorch' has no attribute 'MuraClasifier'"):
        _ = mura_skorch.MuraClasifier
    with pytest.raises(ImportError, match="cannot import name 'MuraClasifier'"):
        exec("from mura_skorch import MuraClasifier")


def parameters_of(item):
    """Return the parameters of a function, or of a class with a constructor of its own."""
    if inspect.isclass(item) and "__init__" not in vars(item):
        return []  # they are documented where they are defined
    return list(inspect.signature(item).parameters.values())


def documented(docstring, *sections):
    """Return the names that the sections of a docstring describe, such as ``a`` in ``a, b``."""
    parsed = NumpyDocString(docstring)
    names = [item.name for section in sections for item in parsed[section]]
    return {name.strip().lstrip("*") for group in names for name in group.split(",")}


@pytest.mark.parametrize("item", PUBLIC)
def test_docstrings_pass_numpydoc(item):
    found = validate(f"{item.__module__}.{item.__qualname__}")["errors"]
    assert [message for code, message in found if code in NUMPYDOC_CHECKS] == []


@pytest.mark.parametrize("item", PUBLIC)
def test_docstrings_describe_every_parameter_and_no_other(item):
    parameters, docstring = parameters_of(item), inspect.getdoc(item)
    described = documented(docstring, "Parameters", "Other Parameters")
    # Those of a part, such as module__weights, go through **kwargs.
    if parameters:
        assert {name for name in described if "__" not in name} <= {p.name for p in parameters}
    named = {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
    # One line is enough for what takes one or two.
    if described or len(named) > 2:
        assert named <= described | documented(docstring, "Attributes")


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda p: p.name)
def test_experiments_open_with_their_question(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert re.match(r"[A-Z][^.?!:]*\?( |$)", docstring.splitlines()[0])
