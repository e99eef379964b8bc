import importlib
import os
import re
import shutil
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import mura_skorch
from mura_skorch.phantoms import NOTE

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = sorted(
    re.search(r"automodule:: ([\w.]+)", page.read_text())[1]
    for page in (DOCS / "reference").glob("*.rst")
    if page.stem != "index"
)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """The folder of the pages, built from a copy: the tutorial leaves its figures beside them."""
    folder = tmp_path_factory.mktemp("docs")
    made = shutil.ignore_patterns("_build", "gallery", "sg_execution_times.rst", "__pycache__")
    shutil.copytree(DOCS, folder / "docs", ignore=made)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "docs", "html"]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}  # other tests use the other core
    found = subprocess.run(
        command, cwd=folder, env=alone, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, f"{found.stdout[-2000:]}\n{found.stderr}"
    assert "WARNING" not in found.stderr
    assert not list(folder.rglob("mlruns")), "the tutorial leaves its record beside itself"
    return folder / "html"


@pytest.fixture(scope="module")
def tutorial(build):
    return (build / "gallery" / "plot_study_classification.html").read_text()


@pytest.fixture(scope="module")
def described(build):
    """Every Python name that the reference describes."""
    packed = (build / "objects.inv").read_bytes().split(b"\n", 4)[4]
    lines = zlib.decompress(packed).decode().splitlines()
    return {name for name, kind, *_ in map(str.split, lines) if kind.startswith("py:")}


@pytest.mark.slow
def test_every_guide_is_a_page(build):
    guides = {path.stem for path in DOCS.glob("*.md")}
    assert {"index", "own_data", "scikit_learn", "serving"} <= guides
    assert guides <= {path.stem for path in build.glob("*.html")}


@pytest.mark.slow
def test_tutorial_shows_figures_and_tables(build, tutorial):
    figures = set(re.findall(r'src="\.\./(_images/sphx_glr_plot_\w+\.png)"', tutorial))
    assert len(figures) >= 6
    assert all((build / figure).stat().st_size > 5000 for figure in figures)
    assert tutorial.count('class="dataframe"') >= 6


@pytest.mark.slow
def test_whatever_the_tutorial_shows_says_that_it_comes_from_phantoms(tutorial):
    outputs = re.findall(r'<table[^>]*class="dataframe".*?</table>', tutorial, flags=re.DOTALL)
    outputs += re.findall(
        r'class="sphx-glr-script-out.*?<pre>(.*?)</pre>', tutorial, flags=re.DOTALL
    )
    figures = [output for output in outputs if re.search(r"\d\.\d\d", output)]
    assert len(figures) >= 6
    assert all(NOTE in output for output in figures)


@pytest.mark.slow
def test_model_of_the_tutorial_is_better_than_guessing(tutorial):
    text = re.sub("<[^>]+>", "", tutorial)
    assert float(re.search(r"The model: accuracy \S+, kappa (-?[\d.]+)", text)[1]) > 0.3


@pytest.mark.slow
@pytest.mark.parametrize("room", PACKAGES)
def test_every_public_name_is_in_the_reference(room, described):
    module = importlib.import_module(room)
    missing = []
    for name in getattr(module, "__all__", []):
        item = getattr(module, name)
        names = {f"{room}.{name}", f"{getattr(item, '__module__', '')}.{name}"}
        if getattr(mura_skorch, name, None) is item:
            names.add(f"mura_skorch.{name}")
        if not names & described:
            missing.append(name)
    assert not missing


@pytest.mark.slow
def test_pages_fetch_nothing_from_the_network(build):
    for page in build.rglob("*.html"):
        fetched = re.findall(
            r'<(?:script|img|link)[^>]*(?:src|href)="https?://[^"]*"', page.read_text()
        )
        assert not fetched, page.name


def test_rooms_that_guides_import_from_have_a_page():
    guides = [ROOT / "README.md", *DOCS.glob("*.md"), *DOCS.glob("tutorial/*.py")]
    text = "\n".join(guide.read_text() for guide in guides)
    imported = set(re.findall(r"(?:from|import) (mura_skorch(?:\.\w+)?)", text))
    assert imported <= set(PACKAGES)
