import sys

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from mura_skorch.sweeps import parameters_of, read_space


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr=1e-5:1e-2:log", FloatDistribution(1e-5, 1e-2, log=True)),
        ("optimizer__weight_decay=0:0.1", FloatDistribution(0, 0.1)),
        ("max_epochs=4:12", IntDistribution(4, 12)),
        ("max_epochs=4:12:4", IntDistribution(4, 12, step=4)),
        ("batch_size=2:32:log", IntDistribution(2, 32, log=True)),
        ("valid=0:1:0.25", FloatDistribution(0, 1, step=0.25)),
        ("batch_size=4,8,16", CategoricalDistribution([4, 8, 16])),
        (
            "backbone=densenet169,timm:resnet10t",
            CategoricalDistribution(["densenet169", "timm:resnet10t"]),
        ),
        ("backbone=timm:resnet10t", CategoricalDistribution(["timm:resnet10t"])),
        ("flip_average=True,False", CategoricalDistribution([True, False])),
        ("weights=None,IMAGENET1K_V1", CategoricalDistribution([None, "IMAGENET1K_V1"])),
    ],
)
def test_values_are_read_as_they_are_written(text, expected):
    name = text.partition("=")[0]
    assert read_space([text]) == {name: expected}


def test_short_names_stand_for_parameters_of_the_classifier():
    values = {"lr": 1, "backbone": "a", "image_size": 2, "criterion__level": "view"}
    assert parameters_of(values) == {
        "lr": 1,
        "module__backbone": "a",
        "dataset__image_size": 2,
        "criterion__level": "view",
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "got none: it is empty"),
        (["lr"], "got lr: a name and values, joined by =, are needed"),
        (["lr="], "got lr=: a name and values"),
        (["lr=2:1"], "got lr=2:1: "),
        (["lr=0:1:log"], "got lr=0:1:log: "),
        (["lr=1:2:linear"], "ends in log, in a step or in nothing, not in linear"),
        (["batch_size=4,,8"], "a value is missing"),
        (["lr=1:2", "lr=3,4"], "lr occurs twice"),
        (["backbone=a,b", "module__backbone=c"], "module__backbone occurs twice"),
    ],
)
def test_space_that_cannot_be_read_is_named(texts, message):
    with pytest.raises(ValueError, match="expected --space with parameters such as") as error:
        read_space(texts)
    assert message in str(error.value)


def test_missing_optuna_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'mura-skorch\[sweep\]'"):
        read_space(["lr=1:2"])
