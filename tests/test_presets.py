import pytest
from nets import tiny_classifier

from mura_skorch.presets import beyond_paper
from mura_skorch.tracking.params import settings_of


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
