from pathlib import Path

import pytest
from skorch.callbacks import LRScheduler
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from mura_skorch import Augment
from mura_skorch.commands.settings import read_settings


def test_pairs_are_read_as_python():
    found = read_settings("lr=1e-3,flip_average=True, callbacks__mlflow=None,optimizer=AdamW")
    assert found == {
        **{"lr": 1e-3, "flip_average": True},
        **{"callbacks__mlflow": None, "optimizer": "AdamW"},
    }


def test_known_classes_are_made():
    found = read_settings(
        "module__augment=Augment(30, scale=(0.5, 2)),"
        "callbacks__plateau=LRScheduler(CosineAnnealingLR, T_max=7)"
    )
    assert repr(found["module__augment"]) == repr(Augment(30, scale=(0.5, 2)))
    schedule = found["callbacks__plateau"]
    assert isinstance(schedule, LRScheduler)
    assert schedule.policy is CosineAnnealingLR
    assert schedule.kwargs == {"T_max": 7}


def test_file_of_lines_is_read():
    Path("small.txt").write_text("# smaller steps\nlr=1e-5\n\noptimizer='SGD',  # no momentum\n")
    assert read_settings("small.txt") == {"lr": 1e-5, "optimizer": "SGD"}


def test_defaults_and_presets_are_named():
    assert read_settings("defaults", max_epochs=3) == {}
    found = read_settings("beyond_paper", max_epochs=3, lr=1e-3, image_size=64)
    assert found["dataset__image_size"] == 64
    assert found["callbacks__plateau"].policy is OneCycleLR
    assert found["callbacks__plateau"].kwargs["total_steps"] == found["max_epochs"] == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lr=", "not written as in Python"),
        ("lr=1e-3,lr=1e-4", "repeated"),
        ("lr=open('x')", "calls of Augment, LRScheduler, PatientSplit alone"),
        ("lr=().__class__", "malformed"),
        ("module__augment=Augment(scale=(2, 1))", "the smaller one first"),
        ("module__augment=Augment(blur=1)", "unexpected keyword"),
        ("**{'a'=1}", "expected settings"),
        ("1e-3,lr=1", "value without a key"),
        ("nowhere.txt", "which is none"),
    ],
)
def test_what_cannot_be_read_is_answered_with_an_example(text, reason):
    with pytest.raises(ValueError, match="expected settings such as lr=1e-3") as error:
        read_settings(text)
    assert reason in str(error.value)
