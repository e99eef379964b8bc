import re
from pathlib import Path

import pytest
from nets import tiny_classifier

from mura_skorch import MuraClassifier
from mura_skorch.presets import beyond_paper
from mura_skorch.tracking.params import settings_of

GUIDE = Path(__file__).parents[1] / "docs" / "how_to" / "recipe.md"


@pytest.mark.parametrize("max_epochs", [1, 2, 10])
def test_recipe_trains_for_its_epochs(train, max_epochs):
    clf = tiny_classifier(**beyond_paper(max_epochs, lr=1e-3, image_size=32))
    if max_epochs == 10:
        train = train[:12]
    rates = clf.fit(train).history[:, "event_lr"]
    assert len(rates) == max_epochs
    if max_epochs == 10:
        assert rates[0] == pytest.approx(2.5e-4)
        assert rates[1] == max(rates) == pytest.approx(1e-3)
        assert rates[-1] < 1e-4


def test_recipe_is_on_record():
    found = settings_of(tiny_classifier(**beyond_paper(image_size=32)).initialize())
    assert "scale=[0.8, 1.25]" in found["augment"]
    assert "OneCycleLR" in found["lr_policy"]
    assert found["optimizer"] == "AdamW"
    assert found["callbacks__ema__decay"] == 0.999
    assert found["flip_average"] is True


def test_recipes_share_no_object():
    schedules = [beyond_paper()["callbacks__plateau"] for _ in range(2)]
    assert schedules[0] is not schedules[1]


def test_guides_python_runs_from_top_to_bottom(train):
    blocks = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(blocks) > 5
    names = {"clf": tiny_classifier(max_epochs=1), "train": train}
    for block in blocks:
        exec(compile(block, GUIDE.name, "exec"), names)
    for name in ("by_batch", "by_epoch"):
        rates = names[name].fit(train[:12]).history[-1]
        assert rates["valid_loss"] > 0
    assert names["flipped"].flip_average
    assert set(names["recipe"]) < set(MuraClassifier(**names["recipe"]).get_params())
