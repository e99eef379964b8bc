"""Find the class activation maps of a network whose last layer reads an average of feature maps."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

__all__ = ["exact_maps", "features_with_maps", "has_layer_norm"]

MEANS = (torch.Tensor.mean, torch.mean)


class PoolingRecorder(TorchFunctionMode):
    """Note what is averaged over space, and what a layer norm makes of it, in one thread.

    Attributes
    ----------
    averages : list of (Tensor, Tensor)
        Feature maps of shape (N, ..., n_features), and their averages.
    norms : list of (Tensor, dict, Tensor)
        Input, arguments and output of layer norms.
    """

    def __init__(self) -> None:
        super().__init__()
        self.averages: list[tuple[torch.Tensor, torch.Tensor]] = []
        self.norms: list[tuple[torch.Tensor, dict[str, Any], torch.Tensor]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of torch, and note it if it is one of those."""
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is functional.layer_norm:
            names = ("input", "normalized_shape", "weight", "bias", "eps")
            given = dict(zip(names, args, strict=False)) | kwargs
            self.norms = [(given["input"], given, output)]
        elif func is functional.adaptive_avg_pool2d and output.shape[2:] == (1, 1):
            self.averages = [(args[0].movedim(1, -1), output)]
        elif func in MEANS:
            maps = args[0]
            dims = kwargs.get("dim", args[1] if len(args) > 1 else ())
            dims = {dim % maps.ndim for dim in ([dims] if isinstance(dims, int) else dims or ())}
            if maps.ndim == 4 and dims == {2, 3}:
                self.averages = [(maps.movedim(1, -1), output)]
            elif dims in ({1, 2}, {1}) and maps.ndim == len(dims) + 2:
                self.averages = [(maps, output)]
        return output


def exact_maps(
    network: Callable[[torch.Tensor], torch.Tensor], head: nn.Linear, images: torch.Tensor
) -> torch.Tensor:
    r"""Return the class activation map of each image.

    Parameters
    ----------
    network : Module
        A network without its last layer, in eval mode.
    head : Linear
        The last layer, with one output.
    images : Tensor of shape (N, 3, H, W), float32
        The network's input.

    Returns
    -------
    Tensor of shape (N, h, w), float32
        In logits. The mean of a map plus the head's bias is the image's logit, up to rounding.

    Raises
    ------
    TypeError
        The head reads something else than an average of feature maps.

    Notes
    -----
    Where the head reads the average of feature maps :math:`f_k` over their pixels, the map is
    [1]_

    .. math:: z = b + \sum_k w_k \frac{1}{hw} \sum_{xy} f_k(x, y)
                = b + \frac{1}{hw} \sum_{xy} M(x, y), \quad
              M(x, y) = \sum_k w_k f_k(x, y).

    Where a layer norm with gains :math:`g_k` and offsets :math:`\beta_k` stands between, it
    divides by the standard deviation :math:`s` of the image's averaged features. This one number
    is held fixed, so that pixels add up again:

    .. math:: M(x, y) = \sum_k w_k \Bigl(\frac{g_k}{s}
              \bigl(f_k(x, y) - \tfrac{1}{K} \sum_j f_j(x, y)\bigr) + \beta_k\Bigr).

    Which of the two holds is found by the numbers: the head's input must be equal, bit for bit,
    to what the average or the norm returned.

    References
    ----------
    .. [1] Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
    """
    with PoolingRecorder() as seen:
        features = network(images)
    return _maps_of(seen, head, has_norm=_has_norm(seen, features))


def has_layer_norm(network: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> bool:
    """Return whether a layer norm stands between the average of the feature maps and the head.

    Parameters
    ----------
    network : Module
        A network without its last layer, in eval mode.
    images : Tensor of shape (N, 3, H, W), float32
        Any input of the network.

    Raises
    ------
    TypeError
        The head reads something else than an average of feature maps.
    """
    with PoolingRecorder() as seen:
        features = network(images)
    return _has_norm(seen, features)


def features_with_maps(
    network: Callable[[torch.Tensor], torch.Tensor],
    head: nn.Linear,
    images: torch.Tensor,
    *,
    has_norm: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a network's features and the maps of `exact_maps`, without looking at a value.

    Parameters
    ----------
    network, head, images
        As for `exact_maps`, of a network for which these are known to hold.
    has_norm : bool
        What `has_layer_norm` found.

    Returns
    -------
    features : Tensor of shape (N, n_features)
    maps : Tensor of shape (N, h, w), float32
    """
    with PoolingRecorder() as seen:
        features = network(images)
    return features, _maps_of(seen, head, has_norm=has_norm)


def _has_norm(seen, features):
    """Return whether the features are a layer norm of an average, or raise TypeError."""
    if not seen.averages:
        raise _no_maps(
            "it averages no feature maps; it may read a class token, instead of which "
            "module__global_pool='avg' averages in transformers of timm"
        )
    _, average = seen.averages[-1]
    if _are_equal(average, features):
        return False
    norm_input, _, output = seen.norms[-1] if seen.norms else (None, {}, None)
    if output is None or not (
        _are_equal(output, features) and _are_equal(norm_input, average.flatten(1))
    ):
        raise _no_maps("there are layers between the average of its feature maps and its last")
    return True


def _maps_of(seen, head, *, has_norm):
    """Return the maps of what was recorded."""
    maps, average = seen.averages[-1]
    maps = maps.float()
    weight, offset = head.weight.flatten().float(), torch.zeros((), device=maps.device)
    if has_norm:
        _, norm, _ = seen.norms[-1]
        centre = average.flatten(1).float()
        scale = (centre.var(dim=1, correction=0) + norm.get("eps", 1e-5)).rsqrt()
        if norm.get("bias") is not None:
            offset = (weight * norm["bias"].float()).sum()
        if norm.get("weight") is not None:
            weight = weight * norm["weight"].float()
        maps = maps - maps.mean(dim=-1, keepdim=True)
        maps = maps * scale.reshape(-1, *[1] * (maps.ndim - 1))
    cam = (maps * weight).sum(dim=-1) + offset
    if cam.ndim == 2:  # tokens of a transformer, row by row
        side = math.isqrt(cam.shape[1])
        if side * side != cam.shape[1]:
            raise _no_maps(f"its {cam.shape[1]} tokens are no square")
        cam = cam.unflatten(1, (side, side))
    return cam


def _are_equal(one, features):
    """Return whether values are those of features of shape (N, n_features)."""
    return one.numel() == features.numel() and torch.equal(one.reshape(features.shape), features)


def _no_maps(reason):
    return TypeError(
        f"expected a network whose last layer reads an average of feature maps, got another: "
        f"{reason}; activation maps would not add up to its logits. Take another backbone"
    )
