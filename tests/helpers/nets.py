"""A network that trains in a second, and a classifier around it."""

import torch
from torchvision.models import DenseNet

from mura_skorch import MuraClassifier, StudyNetwork

# Threads of one process that wait for those of another make small networks very slow.
torch.set_num_threads(1)


def tiny_densenet():
    """Return a DenseNet of four layers."""
    return DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, num_classes=1)


class TinyNet(StudyNetwork):
    """The study network with a DenseNet of four layers."""

    def __init__(self, weights=None, backbone=tiny_densenet, **params):
        super().__init__(weights, backbone, **params)


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
