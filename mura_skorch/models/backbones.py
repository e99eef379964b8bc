"""Find, build and describe backbones: networks of torchvision and timm without their last layer."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

import torch
from torch import nn

__all__ = [
    "AUXILIARY",
    "DEFAULT_TAG",
    "TIMM",
    "Backbone",
    "check_image_size",
    "fixed_size",
    "make_backbone",
    "make_timm_network",
    "statistics_of",
    "timm_tags",
    "torchvision_models",
]

TIMM = "timm:"
DEFAULT_TAG = "DEFAULT"  # the library's own choice of weights, as torchvision calls it
# ImageNet statistics, with which torchvision's weights were trained, unless these say otherwise.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
SMALLEST_SAFE = 64  # pixels; DenseNets, the default, take any such image
# Arguments of torchvision's builders that fix the size of the image.
SIZE_ARGUMENTS: dict[str, Callable[[int], dict[str, Any]]] = {
    "vit_": lambda size: {"image_size": size},
    "maxvit_": lambda size: {"input_size": (size, size)},
}
# Networks with a second head, which training on ImageNet used.
AUXILIARY = ("googlenet", "inception_v3")
AUXILIARY_OPTIONS = {"aux_logits": False, "init_weights": True, "transform_input": True}
TRIED_SIZES = (32, 64, 75, 96, 112, 128, 160, 192, 196, 224, 256, 288, 299, 320, 336, 384, 448, 512)

Builder = Callable[[], nn.Module]


@dataclass(frozen=True)
class Backbone:
    """A network without its last layer.

    Attributes
    ----------
    network : Module
        Takes views of shape (N, 3, H, W), returns features of shape (N, n_features).
    head : Linear
        The last layer, with one output.
    head_name : str
        Name of the last layer in the complete network, such as "classifier".
    """

    network: nn.Module
    head: nn.Linear
    head_name: str


def make_backbone(
    backbone: str | Builder, image_size: int | None = None, global_pool: str | None = None
) -> Backbone:
    """Build a network with random weights, and take its last layer off.

    Parameters
    ----------
    backbone : str or callable
        A name of torchvision's classification networks, "timm:" and a name of timm's, or a
        function that returns a network with one output.
    image_size : int, optional
        Height and width of a view in pixels, for networks that need it when they are built. None
        means their own.
    global_pool : str, optional
        How a network of timm pools its last features: "avg" gives vision transformers exact
        activation maps.

    Returns
    -------
    Backbone

    Raises
    ------
    ValueError
        The name is unknown, the network's size does not fit, or its last layer is not linear.
    ImportError
        timm is not installed.
    """
    network = _build(backbone, image_size, global_pool)
    config = getattr(network, "pretrained_cfg", None) or {}
    if isinstance(config.get("classifier"), tuple | list):
        raise ValueError(
            f"expected a backbone with one last layer, got {_name_of(backbone)}, which averages "
            "several; take another one"
        )
    linear = [
        (name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)
    ]
    name, head = linear[-1] if linear else ("", None)
    if head is None:
        raise ValueError(
            f"expected a backbone whose last layer is linear, got {_name_of(backbone)}, which ends "
            "otherwise; take another one"
        )
    if not name:
        raise ValueError(
            f"expected a backbone of several layers, got {_name_of(backbone)}: one linear layer"
        )
    if head.out_features != 1:
        raise ValueError(
            f"expected a backbone with one output, got {_name_of(backbone)} with "
            f"{head.out_features:,}; pass num_classes=1, or what it calls that, where it is built"
        )
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, nn.Identity())
    return Backbone(network, head, name)


def check_image_size(
    backbone: str | Builder, image_size: int, global_pool: str | None = None
) -> None:
    """Raise ValueError if a backbone does not take views of a size.

    Parameters
    ----------
    backbone : str or callable
        As for `make_backbone`.
    image_size : int
        Height and width of a prepared view in pixels.
    global_pool : str, optional
        As for `make_backbone`.

    Raises
    ------
    ValueError
        With sizes that it takes, or because its name is unknown or its last layer not linear.
    ImportError
        timm is not installed.
    """
    if backbone in _densenets() and image_size >= SMALLEST_SAFE:
        return
    if _takes(backbone, image_size, global_pool):
        return
    _build_empty(backbone, None, global_pool)  # whatever is wrong with it at any size
    name = _name_of(backbone)
    sizes = [size for size in TRIED_SIZES if _takes(backbone, size, global_pool)]
    if not sizes:
        raise ValueError(f"expected a backbone that takes square views, got {name}")
    larger = [size for size in sizes if size > image_size]
    if larger and _takes(backbone, larger[0] + 1, global_pool):  # any size from some size on
        smaller = [image_size, *(size for size in TRIED_SIZES if image_size < size < larger[0])]
        between = range(smaller[-1] + 1, larger[0] + 1)
        least = next(size for size in between if _takes(backbone, size, global_pool))
        raise ValueError(
            f"expected dataset__image_size of {least} pixels or more, the smallest that {name} "
            f"takes, got {image_size}; raise it"
        )
    raise ValueError(
        f"expected dataset__image_size that {name} takes, such as {', '.join(map(str, sizes))}, "
        f"got {image_size}; take one of them"
    )


def fixed_size(backbone: str | Builder) -> int | None:
    """Return the image size that a network has without being told another, or None for any."""
    if isinstance(backbone, str) and backbone.startswith(TIMM):
        config = _timm().get_pretrained_cfg(backbone.removeprefix(TIMM))
        return config.input_size[-1] if config is not None and config.fixed_input_size else None
    return 224 if isinstance(backbone, str) and backbone.startswith(tuple(SIZE_ARGUMENTS)) else None


def statistics_of(
    network: nn.Module, backbone: str | Builder, weights: Any = None
) -> tuple[Sequence[float], Sequence[float]]:
    """Return mean and standard deviation of the images that weights were trained with.

    Parameters
    ----------
    network : Module
        Made of `backbone`.
    backbone : str or callable
        As for `make_backbone`.
    weights : str, path or None
        Named weights. For others, the statistics of the backbone's usual weights.

    Returns
    -------
    mean, std : sequence of 3 float
        Of pixels from 0 to 1.
    """
    if isinstance(backbone, str) and not backbone.startswith(TIMM):
        entries = torchvision_models().get_model_weights(backbone)
        known = entries.__members__
        entry = known.get(str(weights)) or known.get("IMAGENET1K_V1") or entries.DEFAULT
        transform = entry.transforms()
        return transform.mean, transform.std
    config = getattr(network, "pretrained_cfg", None) or {}  # timm's networks have one
    if isinstance(backbone, str) and str(weights) in timm_tags(backbone):
        config = _timm().get_pretrained_cfg(f"{_timm_name(backbone)}.{weights}").to_dict()
    return config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD)


def timm_tags(backbone: str) -> list[str]:
    """Return the tags of the weights that timm has of a network: "a1_in1k" and the like."""
    known = _timm().list_pretrained(f"{_timm_name(backbone)}.*")
    return [name.partition(".")[2] for name in known]


def torchvision_models() -> Any:
    """Return torchvision's networks. With them comes torch's compiler, a second of importing."""
    from torchvision import models

    return models


def _build(backbone, image_size, global_pool):
    """Return a whole network with one output."""
    if isinstance(backbone, nn.Module) or not (isinstance(backbone, str) or callable(backbone)):
        raise TypeError(
            "expected module__backbone to be a name, or a function that returns a network, got "
            f"{type(backbone).__name__}; write a function that builds it anew at each call"
        )
    if not isinstance(backbone, str):
        return backbone()
    if backbone.startswith(TIMM):
        return make_timm_network(backbone, image_size, global_pool, num_classes=1)
    if global_pool is not None:
        raise ValueError(
            f"expected module__global_pool with a backbone of timm, got {global_pool!r} with "
            f"{backbone}; leave it out"
        )
    models = torchvision_models()
    names = models.list_models(module=models)
    if backbone not in names:
        raise ValueError(
            "expected module__backbone to be a classification network of torchvision, or 'timm:' "
            f"and a name of timm, got {backbone!r}; {_near(backbone, names)}"
        )
    options: dict[str, Any] = dict(AUXILIARY_OPTIONS) if backbone in AUXILIARY else {}
    for begin, argument in SIZE_ARGUMENTS.items():
        if image_size is not None and backbone.startswith(begin):
            options |= argument(image_size)
    return models.get_model(backbone, weights=None, num_classes=1, **options)


def make_timm_network(
    backbone: str, image_size: int | None, global_pool: str | None, **options: Any
) -> nn.Module:
    """Return a whole network of timm.

    Parameters
    ----------
    backbone, image_size, global_pool
        As for `make_backbone`.
    **options
        More arguments of ``timm.create_model``.

    Raises
    ------
    ValueError
        The name is unknown.
    ImportError
        timm is not installed.
    """
    timm, name = _timm(), backbone.removeprefix(TIMM)
    if not timm.is_model(name):
        raise ValueError(
            f"expected module__backbone to be 'timm:' and a name of timm, got {backbone!r}; "
            f"{_near(_timm_name(backbone), timm.list_models(), TIMM)}"
        )
    tag, tags = name.partition(".")[2], timm_tags(backbone)
    if tag and tag not in tags:
        raise ValueError(
            f"expected a tag of {TIMM}{_timm_name(backbone)} ({', '.join(tags) or 'it has none'}), "
            f"got {tag!r}; take one of them, or none"
        )
    sized = {"img_size": image_size} if image_size and fixed_size(backbone) else {}
    try:
        network = timm.create_model(name, **options, **sized)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        network = timm.create_model(name, **options)  # its size is fixed, and no argument
    if global_pool is not None:
        try:
            # As an argument of create_model it may move a norm, and published weights with it.
            network.reset_classifier(network.num_classes, global_pool)
        except (AssertionError, RuntimeError, ValueError, TypeError, KeyError) as error:
            raise ValueError(
                f"expected a way of pooling that {backbone} has as module__global_pool, got "
                f"{global_pool!r} ({error}); pass 'avg', or leave it out"
            ) from error
    return network


@lru_cache(maxsize=256)
def _takes(backbone, image_size, global_pool):
    """Return whether a backbone takes views of a size; only shapes are computed."""
    try:
        network = _build_empty(backbone, image_size, global_pool)
        with torch.no_grad():
            features = network(torch.empty(2, 3, image_size, image_size, device="meta"))
    except ImportError:
        raise
    except (RuntimeError, ValueError, AssertionError, TypeError, IndexError, ZeroDivisionError):
        return False
    return features.ndim == 2 and features.shape[0] == 2


def _build_empty(backbone, image_size, global_pool):
    """Return a network without its head and without memory for its weights, in eval mode."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of initialization that does not happen
        try:
            with torch.device("meta"):
                return make_backbone(backbone, image_size, global_pool).network.eval()
        except NotImplementedError:  # it computes with tensors while it is built
            return make_backbone(backbone, image_size, global_pool).network.eval().to("meta")


def _densenets():
    return ("densenet121", "densenet161", "densenet169", "densenet201")


def _timm():
    try:
        import timm
    except ImportError as error:
        raise ImportError(
            "expected timm to be installed, since module__backbone begins with 'timm:'; run: "
            "pip install 'mura-skorch[timm]'"
        ) from error
    return timm


def _timm_name(backbone):
    """Return the name of a network of timm without the tag of its weights."""
    return backbone.removeprefix(TIMM).partition(".")[0]


def _near(name, names, prefix=""):
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(prefix + one for one in near)}?"
    return "torchvision.models.list_models and timm.list_models list them"


def _name_of(backbone):
    if isinstance(backbone, str):
        return backbone
    return getattr(backbone, "__qualname__", None) or repr(backbone)
