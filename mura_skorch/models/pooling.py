"""Pool the views of a study into one logit."""

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

__all__ = [
    "POOLINGS",
    "GatedAttention",
    "Pooling",
    "attend_views",
    "mean_logits",
    "pool_views",
    "view_weights",
]

Pooling = Literal["mean", "attention", "attention_additive", "max"]
POOLINGS = get_args(Pooling)
HIDDEN = 128  # units of the attention, as in its paper


class GatedAttention(nn.Module):
    """Score how much each view of a study counts.

    Parameters
    ----------
    n_features : int
        Length of a view's features.
    n_hidden : int, default=128
        Length of the hidden layer.

    Notes
    -----
    The last layer starts at zero, so that all views of a study count alike at first.

    References
    ----------
    .. [1] Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018.
    """

    def __init__(self, n_features: int, n_hidden: int = HIDDEN) -> None:
        super().__init__()
        self.value = nn.Linear(n_features, n_hidden)
        self.gate = nn.Linear(n_features, n_hidden)
        self.score = nn.Linear(n_hidden, 1, bias=False)
        nn.init.zeros_(self.score.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return a score per view, of shape (N,), for features of shape (N, n_features)."""
        hidden = torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features))
        return self.score(hidden).squeeze(1)


def pool_views(
    view_logit: torch.Tensor, view_mask: torch.Tensor, log_weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Return the logit of the mean probability over the views of each study.

    Parameters
    ----------
    view_logit : Tensor of shape (N,), float32
        Logits of the real views, in order.
    view_mask : Tensor of shape (B, V), bool
        N entries are True, at least one in each row.
    log_weight : Tensor of shape (B, V), float32, optional
        Logarithms of weights that sum to 1 in each row, for a weighted mean.

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
    abnormal = _spread(functional.logsigmoid(view_logit), view_mask)
    normal = _spread(functional.logsigmoid(-view_logit), view_mask)
    if log_weight is not None:
        abnormal, normal = abnormal + log_weight, normal + log_weight
    return abnormal.logsumexp(dim=1) - normal.logsumexp(dim=1)


def attend_views(score: torch.Tensor, view_mask: torch.Tensor) -> torch.Tensor:
    """Return the logarithms of the views' weights: a softmax over each study.

    Parameters
    ----------
    score : Tensor of shape (N,), float32
        One score per real view, in order.
    view_mask : Tensor of shape (B, V), bool
        N entries are True, at least one in each row.

    Returns
    -------
    Tensor of shape (B, V), float32
        Zero for padding, where nothing is added to it.
    """
    log_weight = _spread(score, view_mask).log_softmax(dim=1)
    return log_weight.masked_fill(~view_mask, 0.0)


def view_weights(
    pooling: Pooling, view_logit: torch.Tensor, score: torch.Tensor | None, view_mask: torch.Tensor
) -> torch.Tensor:
    """Return how much each real view counts in its study.

    Parameters
    ----------
    pooling : {"mean", "attention", "attention_additive", "max"}
        How views are pooled.
    view_logit : Tensor of shape (N,), float32
        Logits of the real views, in order.
    score : Tensor of shape (N,), float32, or None
        Scores of `GatedAttention`.
    view_mask : Tensor of shape (B, V), bool
        N entries are True, at least one in each row.

    Returns
    -------
    Tensor of shape (N,), float32
        The weights of a study sum to 1.
    """
    if score is not None:
        weight = attend_views(score, view_mask).exp()
    elif pooling == "max":
        largest = _spread(view_logit, view_mask).argmax(dim=1)
        weight = functional.one_hot(largest, view_mask.shape[1]).float()
    else:
        weight = view_mask / view_mask.sum(dim=1, keepdim=True)
    return weight[view_mask]


def mean_logits(
    own: tuple[torch.Tensor, torch.Tensor],
    mirrored: tuple[torch.Tensor, torch.Tensor],
    view_mask: torch.Tensor,
    pooling: str | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the means of the logits of views and of their mirror images.

    Parameters
    ----------
    own, mirrored : pair of Tensor
        Logits of the studies, of shape (B,), and of the real views, of shape (N,).
    view_mask : Tensor of shape (B, V), bool
        N entries are True, at least one in each row.
    pooling : str or None
        How views are pooled. With "mean", the study's logit is pooled from the means of its views;
        else it is the mean of the two.

    Returns
    -------
    study_logit : Tensor of shape (B,)
    view_logit : Tensor of shape (N,)
    """
    study_logit, view_logit = ((a + b) / 2 for a, b in zip(own, mirrored, strict=True))
    if pooling == "mean":
        study_logit = pool_views(view_logit, view_mask)
    return study_logit, view_logit


def max_views_logit(view_logit: torch.Tensor, view_mask: torch.Tensor) -> torch.Tensor:
    """Return the largest logit of each study, of shape (B,)."""
    return _spread(view_logit, view_mask).amax(dim=1)


def additive_logit(
    view_logit: torch.Tensor, view_mask: torch.Tensor, log_weight: torch.Tensor
) -> torch.Tensor:
    """Return the weighted mean of the logits of each study, of shape (B,)."""
    logit = _spread(view_logit, view_mask, padding=0.0)
    return (log_weight.exp() * logit).sum(dim=1)


def _spread(values, view_mask, padding=-torch.inf):
    """Return values of real views as (B, V), with another value for padding.

    A gather by positions: the gradient of `masked_scatter` makes the host wait for a GPU.
    """
    position = view_mask.flatten().cumsum(0).sub(1).clamp(min=0)
    return values[position].view(view_mask.shape).masked_fill(~view_mask, padding)
