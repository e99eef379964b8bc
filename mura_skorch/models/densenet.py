"""The study network: a DenseNet on every view, pooled over each study."""

import math
import os
from bisect import bisect_left
from collections.abc import Callable
from functools import lru_cache
from numbers import Integral

import torch
import torchvision
from torch import nn
from torch.nn import functional

from mura_skorch.models.pretrained import load_weights

__all__ = ["StudyDenseNet", "pool_views", "subsample_views"]

# ImageNet statistics that torchvision's weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# DenseNet halves a view five times. Below this size the last feature map is a single pixel.
SMALLEST = 64
# From this size on, every DenseNet of torchvision has at least one pixel left.
HALVED = 32


class StudyDenseNet(nn.Module):
    """DenseNet-169 that reads each view of a study and averages their probabilities.

    Parameters
    ----------
    weights : str, path or None, default=None
        Initial weights: a torchvision name ("IMAGENET1K_V1"), the path of a DenseNet-169 state
        dict with torchvision's key names, the folder of a model saved by `MuraClassifier.save`, or
        None for random weights.
    augment : callable, optional
        Augments training views, float of shape (N, 1, H, W). Not applied in eval mode.
    max_views : int or None, default=64
        Most views that are computed at a time in eval mode, which bounds the memory and changes
        nothing else, and most views of one study in training, see `subsample_views`. None sets no
        limit.
    memory_efficient : bool, default=False
        Use torchvision's gradient checkpointing: parts of the network are computed again for the
        gradient instead of being stored. Slower, with a fraction of the memory; results are equal
        up to rounding.

    References
    ----------
    .. [1] Rajpurkar et al., "MURA: Large Dataset for Abnormality Detection in Musculoskeletal
       Radiographs", arXiv:1712.06957.
    .. [2] Huang et al., "Densely Connected Convolutional Networks", CVPR 2017.
    """

    # A subclass may use another DenseNet of torchvision.
    build_network = staticmethod(torchvision.models.densenet169)

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        max_views: int | None = 64,
        memory_efficient: bool = False,
    ) -> None:
        super().__init__()
        if max_views is not None and (not isinstance(max_views, Integral) or max_views < 1):
            raise ValueError(f"expected max_views to be 1 or more, or None, got {max_views!r}")
        options = {"memory_efficient": True} if memory_efficient else {}
        self.augment = augment
        self.max_views = max_views
        self.network = self.build_network(num_classes=1, **options)
        if memory_efficient:
            _halve_momentum(self.network)
        load_weights(self.network, weights)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @classmethod
    def check_image_size(cls, image_size: int) -> None:
        """Raise ValueError if views are too small for the network.

        Parameters
        ----------
        image_size : int
            Height and width of a prepared view in pixels.
        """
        if image_size >= HALVED or _takes(cls.build_network, image_size):
            return
        least = bisect_left(
            range(SMALLEST), True, lo=image_size, key=lambda size: _takes(cls.build_network, size)
        )
        raise ValueError(
            f"expected dataset__image_size of {least} pixels or more, the smallest that "
            f"{cls.__name__} takes, got {image_size}; raise it"
        )

    def forward(
        self, views: torch.Tensor, view_mask: torch.Tensor, study_type: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of a batch.

        Parameters
        ----------
        views : Tensor of shape (B, V, H, W), uint8
            Greyscale views, padded to the longest study.
        view_mask : Tensor of shape (B, V), bool
            True for real views, at least one in each row. Padding is not computed.
        study_type : Tensor of shape (B,), int64, optional
            Ignored: only the loss uses the study type.

        Returns
        -------
        study_logit : Tensor of shape (B,), float32
            Logit of the mean probability of the study's views.
        view_logit : Tensor of shape (N,), float32
            One logit per real view of the batch, in order.
        """
        real = views[view_mask]
        if self.training and len(real) == 1 and min(real.shape[1:]) < SMALLEST:
            raise ValueError(
                f"expected two views or more in a training batch of views under {SMALLEST} "
                f"pixels, for batch norm, got one of {real.shape[1]}; raise image_size, or change "
                "batch_size so that no single study is left over"
            )
        view_logit = self._in_parts(self._view_logits, real)
        return pool_views(view_logit, view_mask), view_logit

    def activation_maps(
        self, views: torch.Tensor, view_mask: torch.Tensor, study_type: torch.Tensor | None = None
    ) -> torch.Tensor:
        r"""Return the class activation map of each real view of a batch.

        Call it in eval mode and without gradients.

        Parameters
        ----------
        views : Tensor of shape (B, V, H, W), uint8
            Greyscale views, padded to the longest study.
        view_mask : Tensor of shape (B, V), bool
            True for real views.
        study_type : Tensor of shape (B,), int64, optional
            Ignored.

        Returns
        -------
        Tensor of shape (N, h, w), float32
            One map per real view, in order, in logits. Its mean plus the bias of the last layer is
            the view's logit. h and w are the size of the last feature maps.

        Raises
        ------
        TypeError
            The network is not one of torchvision's DenseNets with one output.

        Notes
        -----
        A DenseNet averages its last feature maps :math:`f_k` over their pixels and weights them:

        .. math:: z = b + \sum_k w_k \frac{1}{hw} \sum_{xy} \max(f_k(x, y), 0)
                    = b + \frac{1}{hw} \sum_{xy} M(x, y), \quad
                  M(x, y) = \sum_k w_k \max(f_k(x, y), 0).

        M is the map [1]_. It is exact up to rounding.

        References
        ----------
        .. [1] Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016.
        """
        network = self.network
        if not isinstance(network, torchvision.models.DenseNet) or (
            network.classifier.out_features != 1
        ):
            raise TypeError(
                "expected a network of torchvision's DenseNets with one output, whose features and "
                f"classifier a class activation map needs, got {type(network).__name__}; localise "
                "with StudyDenseNet"
            )
        return self._in_parts(self._view_maps, views[view_mask])

    def _in_parts(self, compute, views):
        """Compute views of shape (N, H, W), at most `max_views` at a time in eval mode."""
        if self.training or self.max_views is None:
            return compute(views)
        return torch.cat([compute(part) for part in views.split(self.max_views)])

    def _view_logits(self, views):
        """Return the logits of views of shape (N, H, W), uint8."""
        return self.network(self._normalise(views)).squeeze(1).float()

    def _view_maps(self, views):
        """Return the maps of views of shape (N, H, W), uint8."""
        # The features end with batch norm; DenseNet's own ReLU comes after them.
        features = self.network.features(self._normalise(views)).float().relu()
        weight = self.network.classifier.weight[0, :, None, None].float()
        return (features * weight).sum(dim=1)

    def _normalise(self, views):
        """Return views of shape (N, H, W), uint8, as the network's input, augmented in training."""
        views = views.unsqueeze(1).float() / 255
        if self.training and self.augment is not None:
            views = self.augment(views)
        views = (views - self.mean) / self.std
        if not self.training and views.device.type == "cpu":
            # A quarter faster in float32; training is not.
            views = views.contiguous(memory_format=torch.channels_last)
        return views


def subsample_views(
    batch: dict[str, torch.Tensor],
    max_views: int | None,
    generator: torch.Generator | None = None,
) -> dict[str, torch.Tensor]:
    """Return a batch in which no study has more views than allowed, a random choice of its own.

    Parameters
    ----------
    batch : dict
        ``views`` of shape (B, V, H, W), ``view_mask`` of shape (B, V), and anything else.
    max_views : int or None
        None returns the batch as it is.
    generator : torch.Generator, optional
        On the CPU. None draws from torch's global random state.

    Returns
    -------
    dict
        The same keys; views keep their order.

    Examples
    --------
    >>> views = torch.arange(5).view(1, 5, 1, 1)
    >>> batch = {"views": views, "view_mask": torch.tensor([[True] * 4 + [False]])}
    >>> subsample_views(batch, 2)["view_mask"]
    tensor([[True, True]])
    """
    mask = batch["view_mask"]
    if max_views is None or mask.shape[1] <= max_views:
        return batch
    # Padding ranks behind every view; the chosen ones are put back into their order.
    rank = torch.rand(mask.shape, generator=generator).masked_fill(~mask.cpu(), 2.0)
    chosen = rank.argsort(dim=1)[:, :max_views].sort(dim=1).values.to(mask.device)
    rows = torch.arange(len(mask), device=mask.device)[:, None]
    kept = {"views": batch["views"][rows, chosen], "view_mask": mask[rows, chosen]}
    return {**batch, **kept}


def pool_views(view_logit: torch.Tensor, view_mask: torch.Tensor) -> torch.Tensor:
    """Return the logit of the mean probability over the views of each study.

    Parameters
    ----------
    view_logit : Tensor of shape (N,), float32
        Logits of the real views, in order.
    view_mask : Tensor of shape (B, V), bool
        N entries are True, at least one in each row.

    Returns
    -------
    Tensor of shape (B,), float32

    Notes
    -----
    With z the logits of a study's V views, p = mean(sigmoid(z)), and

        log(p / (1 - p)) = logsumexp(logsigmoid(z)) - logsumexp(logsigmoid(-z)),

    since 1 - p = mean(sigmoid(-z)) and the two 1/V cancel. It stays finite when all views are
    saturated; log(mean(sigmoid(z))) does not.

    Examples
    --------
    >>> import torch
    >>> mask = torch.tensor([[True, True], [True, False]])
    >>> pool_views(torch.tensor([0.0, 0.0, 200.0]), mask)
    tensor([  0., 200.])
    """
    absent = torch.full(view_mask.shape, -torch.inf, device=view_logit.device)
    abnormal = absent.masked_scatter(view_mask, functional.logsigmoid(view_logit))
    normal = absent.masked_scatter(view_mask, functional.logsigmoid(-view_logit))
    return abnormal.logsumexp(dim=1) - normal.logsumexp(dim=1)


@lru_cache(maxsize=128)
def _takes(build_network, image_size):
    """Return whether a network accepts views of a size; only shapes are computed."""
    with torch.device("meta"), torch.no_grad():
        try:
            build_network(num_classes=1).eval()(torch.empty(1, 3, image_size, image_size))
        except RuntimeError:
            return False
    return True


def _halve_momentum(network):
    """Make the two updates of a checkpointed batch norm equal to the single update it needs.

    Each forward pass mixes a share m of the batch's statistics s into the running ones:
    r <- (1 - m) r + m s. Checkpointed layers, the first norm of each dense layer, run twice on the
    same batch. With 1 - sqrt(1 - m) instead of m, two updates equal one.
    """
    for name, layer in network.named_modules():
        if name.endswith(".norm1"):
            layer.momentum = 1 - math.sqrt(1 - layer.momentum)
