import doctest
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
PAGES = sorted(
    page
    for page in DOCS.rglob("*.md")
    if not {"_build", "gallery"} & {*page.relative_to(DOCS).parts}
)
HOW_TO = [page for page in PAGES if page.parent.name == "how_to" and page.stem != "index"]
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
    guides = {path.relative_to(DOCS).with_suffix("") for path in PAGES}
    named = {"index", "get_started/demo", "how_to/own_data", "concepts/kappa", "reference/speed"}
    assert set(map(Path, named)) <= guides
    assert guides <= {path.relative_to(build).with_suffix("") for path in build.rglob("*.html")}


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
    guides = [ROOT / "README.md", *PAGES, *DOCS.glob("tutorial/*.py")]
    text = "\n".join(guide.read_text() for guide in guides)
    imported = set(re.findall(r"(?:from|import) (mura_skorch(?:\.\w+)?)", text))
    assert imported <= set(PACKAGES)


def test_readme_is_short_and_shows_a_picture():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 120
    assert len(text.split()) <= 800
    assert "![" in text


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.stem)
def test_links_and_pictures_of_a_page_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r"```\{image\} (\S+)", text)
    made = re.compile(r"https?://|#|(\.\./)*gallery/")
    paths = [link.partition("#")[0] for link in links if not made.match(link)]
    assert [path for path in paths if not (page.parent / path).exists()] == []


@pytest.mark.parametrize("page", HOW_TO, ids=lambda page: page.stem)
def test_every_how_to_has_a_picture_with_words_for_those_who_cannot_see_it(page):
    assert re.search(r"```\{image\} \.\./_static/\S+\.png\n:alt: \w.+\n```", page.read_text())


def test_every_picture_is_shown():
    text = "\n".join(page.read_text() for page in PAGES)
    assert [path.name for path in DOCS.glob("_static/*.png") if path.name not in text] == []


@pytest.mark.parametrize("page", sorted(DOCS.glob("concepts/*.md")), ids=lambda page: page.stem)
def test_examples_of_concepts_print_what_is_shown(page):
    examples = "\n".join(re.findall(r"```pycon\n(.*?)```", page.read_text(), flags=re.DOTALL))
    test = doctest.DocTestParser().get_doctest(examples, {}, page.stem, str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(test)
    assert test.examples or page.stem in {"index", "shortcuts"}
    assert runner.failures == 0
