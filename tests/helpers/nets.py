"""A network that trains in a second, and a classifier around it."""

from functools import partial

import torch
from torchvision.models import DenseNet

from mura_skorch import MuraClassifier, StudyDenseNet

# Threads of one process that wait for those of another make small networks very slow.
torch.set_num_threads(1)


class TinyNet(StudyDenseNet):
    """The study network with a DenseNet of four layers."""

    build_network = staticmethod(
        partial(DenseNet, growth_rate=4, block_config=(2, 2), num_init_features=8)
    )


def tiny_classifier(**params):
    """Return a classifier that fits in a second, in float32, off the record."""
    settings = {
        "module": TinyNet,
        "module__weights": None,
        "dataset__image_size": 32,
        "precision": "float32",
        "max_epochs": 2,
        "lr": 1e-3,
        "random_state": 0,
        "verbose": 0,
    }
    if not any(key.startswith("callbacks__mlflow") for key in params):
        settings["callbacks__mlflow"] = None
    return MuraClassifier(**{**settings, **params})
