"""Study network: a batch of studies goes in, one logit per study and one per view comes out."""

import torch
import torchvision
from torch import nn
from torch.nn import functional

from mura_skorch.weights import load_weights

__all__ = ["StudyDenseNet", "pool_views"]

# torchvision's ImageNet statistics, which its DenseNet weights were trained with.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# DenseNet halves five times: below this the last map of one view is a single pixel.
SMALLEST = 64


class StudyDenseNet(nn.Module):
    """DenseNet-169 with one output that reads every view and pools the views of a study.

    Parameters
    ----------
    weights : str, path or None, default=None
        What the network starts from: a torchvision name ("IMAGENET1K_V1"), the path of a
        DenseNet-169 state dict with torchvision's key names, the folder of a model saved by
        `MuraClassifier.save`, or None for a random start.
    augment : callable, optional
        Varies training views: (N, 1, H, W) float to the same. Never applied in eval mode.

    References
    ----------
    .. [1] Rajpurkar et al., "MURA: Large Dataset for Abnormality Detection in Musculoskeletal
       Radiographs", arXiv:1712.06957.
    .. [2] Huang et al., "Densely Connected Convolutional Networks", CVPR 2017.
    """

    # A subclass may name another of torchvision's DenseNets.
    build_network = staticmethod(torchvision.models.densenet169)

    def __init__(self, weights=None, augment=None):
        super().__init__()
        self.augment = augment
        self.network = self.build_network(num_classes=1)
        load_weights(self.network, weights)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    def forward(self, views, view_mask, study_type=None):
        """Return the logits of a batch.

        Parameters
        ----------
        views : Tensor of shape (B, V, H, W), uint8
            Greyscale views, padded to the longest study.
        view_mask : Tensor of shape (B, V), bool
            True where a view is real; at least one in each row. Only real views are computed.
        study_type : Tensor of shape (B,), int64, optional
            Not read: the network is not told the type. The loss is.

        Returns
        -------
        study_logit : Tensor of shape (B,), float32
            Logit of the mean probability of the study's views.
        view_logit : Tensor of shape (N,), float32
            One logit for each real view of the batch, in order.
        """
        real = views[view_mask].unsqueeze(1).float() / 255
        if self.training and len(real) == 1 and min(real.shape[2:]) < SMALLEST:
            raise ValueError(
                f"expected two views or more in a training batch of views under {SMALLEST} "
                f"pixels, for batch norm, got one of {real.shape[2]}; raise image_size, or change "
                "batch_size so that no single study is left over"
            )
        if self.training and self.augment is not None:
            real = self.augment(real)
        view_logit = self.network((real - self.mean) / self.std).squeeze(1).float()
        return pool_views(view_logit, view_mask), view_logit


def pool_views(view_logit, view_mask):
    """Return the logit of the mean probability over the views of each study.

    Parameters
    ----------
    view_logit : Tensor of shape (N,), float32
        Logits of the real views, in order.
    view_mask : Tensor of shape (B, V), bool
        N of its entries are True, at least one in each row.

    Returns
    -------
    Tensor of shape (B,), float32

    Notes
    -----
    With z the logits of a study's V views, p = mean(sigmoid(z)), and

        log(p / (1 - p)) = logsumexp(logsigmoid(z)) - logsumexp(logsigmoid(-z)),

    since 1 - p = mean(sigmoid(-z)) and the two 1/V cancel. It stays finite where all views are
    saturated and log(mean(sigmoid(z))) does not.

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
