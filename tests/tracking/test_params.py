from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nets import TinyNet, tiny_classifier
from sklearn.model_selection import GroupKFold
from skorch.callbacks import (
    Callback,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    LRScheduler,
)
from torch.optim.lr_scheduler import CosineAnnealingLR, StepLR
from torchvision.transforms.v2 import RandomRotation

from mura_skorch import Augment, MlflowTracker, PatientSplit, StudyTypeBCE, ValidStudies
from mura_skorch.callbacks import EpochLine
from mura_skorch.data import StudyCollate
from mura_skorch.tracking.params import settings_of


class SmallerNet(TinyNet):
    pass


def focal(gamma):
    """Return a loss whose one name stands for many."""

    class Focal(StudyTypeBCE):
        exponent = gamma

        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs) * gamma

    return Focal


class Noise:
    """An augmentation without a text of its own."""

    def __init__(self, sigma):
        self.sigma = sigma

    def __call__(self, views):
        return views


class Crop(StudyCollate):
    def __init__(self, share=1.0):
        self.share = share


class Counts(Callback):
    def __init__(self, every=1):
        self.every = every
        self.n_calls_ = object()


def table(*labels):
    return pd.DataFrame(
        {
            "study": [f"s{i}" for i in range(len(labels))],
            "study_type": "XR_HAND",
            "patient": [f"p{i}" for i in range(len(labels))],
            "views": [(f"/ward/dr_name/{i}.png",) for i in range(len(labels))],
            "label": labels,
        }
    )


# What a user may set, as functions that make it anew: no two fits share an object.
CHOICES = {
    "module": [lambda: SmallerNet],
    "module__augment": [
        lambda: None, lambda: Augment(degrees=30), lambda: Augment(flip=0.4),
        lambda: Augment(scale=(0.8, 1.25)), lambda: Augment(scale=(0.5, 2)), lambda: Noise(0.1),
        lambda: Noise(0.2), lambda: RandomRotation(5), lambda: RandomRotation(6),
        lambda: (lambda views: views), lambda: (lambda views: views + 1),
        lambda: partial(torch.clamp, min=0.1), lambda: partial(torch.clamp, min=0.2),
    ],
    "module__max_views": [lambda: 32, lambda: None],
    "module__memory_efficient": [lambda: True],
    "criterion": [lambda: focal(1), lambda: focal(2)],
    "criterion__level": [lambda: "view"],
    "criterion__count": [lambda: "studies"],
    "dataset__image_size": [lambda: 48, lambda: np.int64(64)],
    "dataset__cache": [lambda: "here/cache", lambda: Path("here/other")],
    "optimizer": [lambda: torch.optim.AdamW, lambda: torch.optim.SGD],
    "optimizer__weight_decay": [lambda: 1e-4, lambda: 1e-2],
    "lr": [lambda: 1e-4, lambda: 2e-4],
    "batch_size": [lambda: 4, lambda: 16],
    "max_epochs": [lambda: 3],
    "train_split": [
        lambda: None, lambda: PatientSplit(0.2), lambda: PatientSplit(0.1, random_state=1),
        lambda: ValidStudies(table(0, 1)), lambda: ValidStudies(table(1, 0)),
        lambda: GroupKFold(5), lambda: GroupKFold(4),
    ],
    "iterator_train__shuffle": [lambda: False],
    "iterator_train__collate_fn": [lambda: Crop(0.5), lambda: Crop(0.6)],
    "iterator_train__num_workers": [lambda: 2],
    "iterator_valid__batch_size": [lambda: 32],
    "threshold": [lambda: 0.4, lambda: "youden"],
    "precision": [lambda: "auto", lambda: "bfloat16"],
    "accumulate": [lambda: 2, lambda: 4],
    "flip_average": [lambda: True],
    "on_bad_view": [lambda: "skip"],
    "max_bad_share": [lambda: 0.1],
    "random_state": [lambda: 1, lambda: 2],
    "callbacks": [
        lambda: [LRScheduler(CosineAnnealingLR, T_max=4)],
        lambda: [LRScheduler(CosineAnnealingLR, T_max=5)],
        lambda: [("cosine", LRScheduler(CosineAnnealingLR, T_max=4))],
        lambda: [EarlyStopping(patience=2)],
        lambda: [EarlyStopping(patience=3)],
        lambda: [EpochScoring("roc_auc", lower_is_better=False)],
        lambda: [GradientNormClipping(1.0)],
        lambda: [Counts(), GradientNormClipping(1.0)],
        lambda: [GradientNormClipping(1.0), Counts()],
        lambda: [Counts(every=2)],
    ],
    "callbacks__plateau": [lambda: None, lambda: LRScheduler(StepLR, step_size=2)],
    "callbacks__ema__decay": [lambda: 0.9, lambda: 0.999],
    "callbacks__best__monitor": [lambda: "valid_kappa_best"],
    "callbacks__print_log": [lambda: EpochLine("a"), lambda: None],
    "callbacks__mlflow__log_model": [lambda: False],
}  # fmt: skip


def recorded(**params):
    given = {"callbacks__mlflow": MlflowTracker(), **params}
    return settings_of(tiny_classifier(**given).initialize())


def drawn(rng):
    """Return the number of a choice by parameter, of a few parameters."""
    names = rng.choice(sorted(CHOICES), size=rng.integers(0, 5), replace=False)
    return {str(name): int(rng.integers(len(CHOICES[name]))) for name in names}


def made(choice):
    return {name: CHOICES[name][number]() for name, number in choice.items()}


@pytest.mark.parametrize("seed", range(25))
def test_two_fits_differ_on_record_where_a_user_set_something_else_and_only_there(seed):
    rng = np.random.default_rng(seed)
    first, second = drawn(rng), drawn(rng)
    one = recorded(**made(first))
    assert recorded(**made(first)) == one
    assert (recorded(**made(second)) == one) == (first == second)


@pytest.mark.parametrize("name", sorted(CHOICES))
def test_each_value_of_a_setting_has_a_record_of_its_own(name):
    found = [recorded()] + [recorded(**{name: choice()}) for choice in CHOICES[name]]
    texts = [repr(sorted(map(repr, settings.items()))) for settings in found]
    assert len(set(texts)) == len(texts)


@pytest.mark.slow
def test_no_record_holds_an_address_in_memory_or_a_folder():
    for name, choices in CHOICES.items():
        for choice in choices:
            text = str(recorded(**{name: choice()}))
            assert " at 0x" not in text
            assert not any(folder in text for folder in ("here/", "dr_name"))


def test_names_are_those_of_the_estimator():
    found = recorded(
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=0.01,
        callbacks=[("early", EarlyStopping(patience=2))],
        callbacks__plateau__patience=3,
        accumulate=4,
    )
    assert found["optimizer"] == "AdamW"
    assert found["optimizer__weight_decay"] == 0.01
    assert (found["callbacks"], found["callbacks__early"]) == ("early", "EarlyStopping")
    assert found["callbacks__early__patience"] == 2
    assert (found["module"], found["criterion"]) == ("TinyNet", "StudyTypeBCE")
    assert (found["accumulate"], found["patience"]) == (4, 3)


@pytest.mark.parametrize(
    ("params", "policy"),
    [
        ({}, "ReduceLROnPlateau(factor=0.1, monitor=watched_loss, patience=1)"),
        ({"callbacks__plateau": None}, "constant"),
        ({"callbacks__plateau": LRScheduler(StepLR, step_size=2)}, "StepLR(step_size=2)"),
        ({"callbacks": [LRScheduler(StepLR, step_size=3)]}, "StepLR(step_size=3)"),
    ],
)
def test_policy_in_force_is_on_record_and_patience_only_of_a_plateau(params, policy):
    found = recorded(**params)
    assert found["lr_policy"] == policy
    assert ("patience" in found) == policy.startswith("ReduceLROnPlateau")


def test_weights_of_one_name_are_told_apart_by_what_the_file_holds(tmp_path):
    files = [tmp_path / folder / "weights.pth" for folder in ("a", "b")]
    for number, file in enumerate(files):
        file.parent.mkdir()
        torch.save(TinyNet(None).network.state_dict() | {}, file)
        file.write_bytes(file.read_bytes() + bytes([number]))
    clf = tiny_classifier(callbacks__mlflow=MlflowTracker()).initialize()
    found = [settings_of(clf.set_params(module__weights=file))["weights"] for file in files]
    assert all(text.startswith("weights.pth with digest ") for text in found)
    assert found[0] != found[1]


class Unspeakable:
    def __repr__(self):
        raise ZeroDivisionError

    def __call__(self, views):
        return views


def test_object_that_has_no_text_ends_no_fit():
    assert recorded(module__augment=Unspeakable())["augment"].startswith("Unspeakable")
