"""Wheel and sdist: built from a copy of the repository, installed and used outside of it."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from mura_skorch import __version__
from mura_skorch.cli.main import SUBCOMMANDS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SOURCES = ["mura_skorch", "tests", "docs", "experiments", "requirements"]
# Names that stand for an image, a cache, a database and a compiled file that lie about.
STRAY = ["view.png", "view.dcm", "views.views", "mlflow.db", "model.safetensors", "old.pyc"]
WHERE = "\nimport mura_skorch\nprint(mura_skorch.__file__, mura_skorch.__version__)\n"


def build(source, out, *options):
    """Build without a network, with the setuptools that is installed."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", out, *options, source]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    return out


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the repository's files in which stray files lie about."""
    folder = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    generated = shutil.ignore_patterns("__pycache__", "_build", "gallery")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / name, ignore=generated)
        for stray in STRAY:
            (folder / name / stray).write_bytes(b"stray")
    (folder / "mura_skorch" / "__pycache__").mkdir()
    (folder / "mura_skorch" / "__pycache__" / "old.cpython-311.pyc").write_bytes(b"stray")
    return folder


@pytest.fixture(scope="module")
def dist(source, tmp_path_factory):
    """The sdist, and the wheel that is built from it."""
    return build(source, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def wheel(dist):
    (file,) = dist.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def sdist(dist):
    """The files of the sdist, by their paths below its one folder."""
    (file,) = dist.glob("*.tar.gz")
    with tarfile.open(file) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
    assert {name.split("/")[0] for name in names} == {f"mura_skorch-{__version__}"}
    return {name.partition("/")[2] for name in names}


def contents(wheel):
    """Return the bytes of a wheel's files by their names."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def sources(*suffixes):
    """Return the repository's files of these kinds that a package of it must hold."""
    return {
        path.relative_to(ROOT).as_posix()
        for name in SOURCES
        for path in (ROOT / name).rglob("*")
        if path.suffix in suffixes and not {"__pycache__", "_build", "gallery"} & set(path.parts)
    }


def test_wheel_holds_every_module_template_and_table_and_nothing_else(wheel):
    names = {name for name in contents(wheel) if ".dist-info/" not in name}
    ours = sources(".py", ".csv", ".jinja", ".typed")
    package = {name for name in ours if name.startswith("mura_skorch/")}
    assert {"mura_skorch/py.typed", "mura_skorch/serving/served_model.py"} < package
    assert names == package


def test_wheel_of_the_sdist_is_the_wheel_of_the_repository(wheel, source, tmp_path):
    (direct,) = build(source, tmp_path, "--wheel").glob("*.whl")
    assert direct.name == wheel.name
    assert contents(direct) == contents(wheel)


def test_sdist_holds_what_it_takes_to_check_the_package_and_no_stray_file(sdist):
    assert sources(".py", ".csv", ".jinja", ".md") <= sdist
    assert {"LICENSE", "Makefile", "setup.cfg", "pyproject.toml", "CHANGELOG.md"} <= sdist
    assert not [name for name in sdist if Path(name).name in STRAY or "__pycache__" in name]


def test_metadata_has_version_licence_and_a_page_to_show(wheel):
    files = contents(wheel)
    info = f"mura_skorch-{__version__}.dist-info"
    metadata = Parser().parsestr(files[f"{info}/METADATA"].decode())
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "BSD-3-Clause"
    assert files[f"{info}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    assert metadata.get_payload().strip() == (ROOT / "README.md").read_text().strip()


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory):
    """The Python of an environment with the wheel."""
    environment = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(environment, with_pip=False)
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    # What the package needs is found where it is installed already. An editable install there is
    # not: Python does not read the .pth files of a folder that a .pth file names.
    (folder_of(python) / "needed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def folder_of(python):
    """Return the folder of the packages of an environment."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    return Path(found.stdout.strip())


def run_installed(command):
    """Run a program of the environment, which finds the wheel and nothing of the repository."""
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    clean["OMP_NUM_THREADS"] = "1"  # other tests use the other core
    return subprocess.run(command, env=clean, capture_output=True, text=True, check=False)


def test_installed_command_runs_every_subcommand(python, phantom_root):
    command = python.with_name("mura-skorch")
    for name in SUBCOMMANDS:
        found = run_installed([command, name, "--help"])
        assert found.returncode == 0, found.stderr
        assert found.stdout.startswith(f"usage: mura-skorch {name}")
    found = run_installed([command, "explore", "--data", phantom_root, "--no-images"])
    assert found.returncode == 0, found.stderr
    assert "dataset.html" in found.stdout


def test_readmes_python_runs_as_it_stands_with_the_installed_wheel(python):
    readme = (ROOT / "README.md").read_text()
    quick_start = readme.split("```python\n")[1].split("```")[0]
    found = run_installed([python, "-c", quick_start + WHERE])
    assert found.returncode == 0, found.stderr
    assert "Warning" not in found.stderr
    *lines, where = found.stdout.splitlines()
    overall = next(line for line in lines if " overall " in line)
    assert float(overall.split()[3]) > 0.6, "a kappa of a model that has learned something"
    assert lines[-1].endswith("]"), "the loaded model's decisions come last"
    file, version = where.rsplit(" ", 1)
    installed = folder_of(python)
    assert Path(file).parent == installed / "mura_skorch"
    assert version == __version__
    for name in ("py.typed", "report/templates/report.html.jinja", "serving/served_model.py"):
        assert (installed / "mura_skorch" / name).is_file()
