"""The page on backbones names networks that exist, each in the right table."""

import re
from pathlib import Path

import pytest
import timm
import torchvision

from mura_skorch import StudyNetwork

PAGE = (Path(__file__).parents[1] / "docs" / "how_to" / "backbones.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| [^|]*\| `([\w.:]+)` \| (\d+) x (\d+) \|", PAGE, flags=re.MULTILINE)


def test_every_backbone_of_the_tables_exists():
    known = {*torchvision.models.list_models(), *(f"timm:{name}" for name in timm.list_models())}
    assert len(ROWS) > 25
    assert {name for name, _, _ in ROWS} <= known


@pytest.mark.slow
def test_snippet_of_an_averaged_vision_transformer_names_weights_that_exist():
    name, tag = re.search(r'"timm:(vit\w+)",\n    module__weights="(\w+)"', PAGE).groups()
    assert f"{name}.{tag}" in timm.list_pretrained()
    assert StudyNetwork(backbone=f"timm:{name}", global_pool="avg").head.in_features == 384
