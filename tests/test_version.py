"""The version stands in one place, and all that names it agrees."""

import json
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from mura_skorch import MuraEnsemble, __version__
from mura_skorch.utils.provenance import package_versions

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"^\s*_*(version|release)_*\s*[:=]\s*[\"']?\d", re.MULTILINE)


def test_no_second_file_names_a_version():
    files = [ROOT / name for name in ("pyproject.toml", "setup.cfg", "CITATION.cff", "Makefile")]
    for folder in ("mura_skorch", "docs", "experiments"):
        files += (ROOT / folder).rglob("*.py")
    naming = [path for path in files if NUMBER.search(path.read_text())]
    assert naming == [ROOT / "mura_skorch" / "_version.py"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]


def test_installed_metadata_has_the_version():
    assert version("mura-skorch") == __version__, "install again: pip install -e '.[dev]'"


def test_version_has_a_form_that_can_be_released():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|(a|b|rc)\d+)?", __version__)


def test_newest_part_of_the_changelog_is_unreleased_or_this_version():
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)
    assert headings[0] in ("Unreleased", __version__)
    assert len(set(headings)) == len(headings)
    dates = re.findall(r"^## \[\d.*?\] - (.+)$", text, re.MULTILINE)
    assert dates == sorted(dates, reverse=True)
    assert len(dates) == len([name for name in headings if name != "Unreleased"])


def test_saved_models_and_runs_tell_the_version(fitted, tmp_path):
    fitted.save(tmp_path / "single")
    MuraEnsemble.of([fitted]).save(tmp_path / "ensemble")
    for file in ("single/model.json", "ensemble/ensemble.json", "ensemble/member_0/model.json"):
        assert json.loads((tmp_path / file).read_text())["mura_skorch"] == __version__
    assert package_versions()["mura_skorch"] == __version__
