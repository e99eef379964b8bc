"""The study network: a backbone that reads each view, pooled over each study."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from inspect import signature
from itertools import chain
from numbers import Integral
from typing import Any, Literal, Protocol, Self

import torch
from torch import nn

from mura_skorch.models.backbones import Builder, check_image_size, make_backbone, statistics_of
from mura_skorch.models.checkpointing import checkpoint_blocks
from mura_skorch.models.exact_maps import exact_maps
from mura_skorch.models.pooling import (
    POOLINGS,
    GatedAttention,
    Pooling,
    additive_logit,
    attend_views,
    max_views_logit,
    pool_views,
    view_weights,
)
from mura_skorch.models.pretrained import load_weights

__all__ = ["StudyNetwork", "ViewReader", "subsample_views"]

WHOLE = 0.9  # share of the parameters of a part that is divided further
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
CONTAINERS = ("features", "blocks", "stages", "layers")  # names of parts that always are


class ViewReader(Protocol):
    """What reads views of shape (N, H, W), uint8, in the place of a network of torch.

    Attributes
    ----------
    has_maps : bool
        Whether it computes activation maps.
    """

    has_maps: bool

    def features(self, views: torch.Tensor) -> torch.Tensor:
        """Return what the network's last layer reads, of shape (N, n_features), float32."""

    def maps(self, views: torch.Tensor) -> torch.Tensor:
        """Return the activation maps of the views, of shape (N, h, w), float32."""


class StudyNetwork(nn.Module):
    """A network that reads each view of a study and pools them.

    Parameters
    ----------
    weights : str, path or None, default=None
        Initial weights: a name of the backbone's published weights ("IMAGENET1K_V1" of
        torchvision, a tag of timm), the path of a state dict (.pth or .safetensors), the folder of
        a model saved by `MuraClassifier.save`, or None for random weights. See
        `mura_skorch.models.load_weights`.
    backbone : str or callable, default="densenet169"
        A classification network of torchvision, or "timm:" and a name of timm. Or a function that
        returns a network with one output, whose last layer is linear.
    image_size : int, optional
        Height and width of a prepared view in pixels, for backbones that need it when they are
        built. `MuraClassifier` passes ``dataset__image_size``.
    global_pool : str, optional
        How a backbone of timm pools its last features. None means its own way. "avg" gives vision
        transformers exact activation maps.
    pooling : {"mean", "attention", "attention_additive", "max"}, default="mean"
        How the views of a study become one logit. "mean" averages their probabilities, as the
        paper does. "attention" weights them by gated attention [2]_, and starts as the mean.
        "attention_additive" weights their logits, so that activation maps add up to the study's
        logit. "max" takes the largest, which grows with the number of views. Attention can learn to
        act like it: ``docs/how_to/change_a_part.md`` has an experiment.
    freeze : int or "backbone", optional
        Parts that are not trained: the first so many of `stages`, or "backbone" for all of
        `network`. They stay in eval mode: batch norm keeps its statistics, dropout is off. No
        gradient of them is computed or stored. None trains everything.
    augment : callable, optional
        Augments training views, float of shape (N, 1, H, W). Not applied in eval mode.
    max_views : int or None, default=64
        Most views that are computed at a time in eval mode, which bounds the memory and changes
        nothing else, and most views of one study in training, see `subsample_views`. None sets no
        limit.
    memory_efficient : bool, default=False
        Gradient checkpointing: the blocks of the network are computed again for the gradient
        instead of being stored. Slower, with a fraction of the memory; results are equal up to
        rounding.
    compile : bool, default=False
        Compile the backbone when it is first used, which takes minutes for DenseNet-169 and needs
        a C++ compiler. Names of tensors do not change. Copies and unpickled networks are not
        compiled. Results differ by rounding. It excludes `memory_efficient`.

    Attributes
    ----------
    network : Module
        The backbone without its last layer: features of each view.
    head : Linear
        The last layer: one logit per view.
    attention : GatedAttention or None
        Scores of the views, with one of the two attention poolings.
    before_part : callable or None
        Called without arguments before each part of a batch is computed. It may raise, to stop.
    training_format, prediction_format : {"contiguous", "channels_last"}
        Memory format of the backbone's input in training and in eval mode: it changes the speed,
        and results only by rounding. `MuraClassifier` chooses it for the machine.
    loaded : str or None
        How many tensors were loaded, and whether the last layer is a new one.

    References
    ----------
    .. [1] Rajpurkar et al., "MURA: Large Dataset for Abnormality Detection in Musculoskeletal
       Radiographs", arXiv:1712.06957.
    .. [2] Ilse, Tomczak and Welling, "Attention-based Deep Multiple Instance Learning", ICML 2018.
    """

    mean: torch.Tensor
    std: torch.Tensor
    before_part: Callable[[], None] | None = None
    training_format: Literal["contiguous", "channels_last"] = "contiguous"
    prediction_format: Literal["contiguous", "channels_last"] = "contiguous"

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        backbone: str | Builder = "densenet169",
        image_size: int | None = None,
        global_pool: str | None = None,
        pooling: Pooling = "mean",
        freeze: int | Literal["backbone"] | None = None,
        augment: Callable[[torch.Tensor], torch.Tensor] | None = None,
        max_views: int | None = 64,
        memory_efficient: bool = False,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if max_views is not None and (not isinstance(max_views, Integral) or max_views < 1):
            raise ValueError(f"expected max_views to be 1 or more, or None, got {max_views!r}")
        if pooling not in POOLINGS:
            names = ", ".join(map(repr, POOLINGS))
            raise ValueError(f"expected pooling to be one of {names}, got {pooling!r}")
        if compile and memory_efficient:
            raise ValueError(
                "expected compile or memory_efficient, got both: blocks that are computed again "
                "are not compiled; leave one out"
            )
        self.augment = augment
        self.max_views = max_views
        self.pooling = pooling
        self.backbone, self.image_size, self.global_pool = backbone, image_size, global_pool
        parts = make_backbone(backbone, image_size, global_pool)
        self.network, self.head, self.head_name = parts.network, parts.head, parts.head_name
        self.attention = (
            GatedAttention(self.head.in_features) if pooling.startswith("attention") else None
        )
        if memory_efficient:
            checkpoint_blocks(self.network)
        mean, std = statistics_of(self.network, backbone, weights)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self._frozen: list[nn.Module] = []
        self.freeze(freeze)
        self.loaded = load_weights(self, weights)
        self._is_compiled = compile
        if compile:
            # In place: `torch.compile(module)` would put "_orig_mod." before the names of all
            # tensors. The choice of the real views, whose number no compiler knows, stays outside.
            self.network.compile(dynamic=True)

    @classmethod
    def check_image_size(
        cls, image_size: int, backbone: str | Builder | None = None, global_pool: str | None = None
    ) -> None:
        """Raise ValueError if a backbone does not take views of a size.

        Parameters
        ----------
        image_size : int
            Height and width of a prepared view in pixels.
        backbone : str or callable, optional
            The network. None means the default of this class.
        global_pool : str, optional
            How it pools its last features.
        """
        if backbone is None:
            backbone = signature(cls).parameters["backbone"].default
        check_image_size(backbone, image_size, global_pool)

    @property
    def stages(self) -> list[str]:
        """Names of the backbone's parts, in the order in which a view passes them.

        A part without matrices, such as a norm, belongs to the part before it. Tokens and position
        embeddings of transformers belong to the first.
        """
        return [name for name, _ in self._stages()]

    def _stages(self) -> list[tuple[str, list[nn.Module]]]:
        """Return the names of the stages and the modules of each."""
        n_all = _size(self.network)

        def parts_of(name: str, module: nn.Module) -> list[tuple[str, nn.Module]]:
            is_container = name.rpartition(".")[2] in CONTAINERS or _size(module) > WHOLE * n_all
            children = _with_tensors(module)
            if not is_container or not children:
                return [(name, module)]
            return [
                part for child, inner in children for part in parts_of(f"{name}.{child}", inner)
            ]

        stages: list[tuple[str, list[nn.Module]]] = []
        for child, module in _with_tensors(self.network):
            for name, part in parts_of(child, module):
                if stages and all(parameter.ndim < 2 for parameter in part.parameters()):
                    stages[-1][1].append(part)
                else:
                    stages.append((name, [part]))
        return stages

    def freeze(self, freeze: int | Literal["backbone"] | None) -> None:
        """Freeze the first stages, or the backbone, and let everything else be trained.

        Parameters
        ----------
        freeze : int, "backbone" or None
            Number of `stages`; "backbone" freezes all of `network`, None nothing.

        Raises
        ------
        ValueError
            The backbone has fewer stages.
        """
        stages = self._stages()
        is_number = isinstance(freeze, Integral) and not isinstance(freeze, bool)
        if freeze == "backbone":
            frozen: list[nn.Module] = [self.network]
        elif freeze is None or (is_number and 0 <= int(freeze) <= len(stages)):
            frozen = [part for _, parts in stages[: int(freeze or 0)] for part in parts]
        else:
            raise ValueError(
                f"expected freeze to be 'backbone', None or a number of the {len(stages)} stages "
                f"of the backbone ({', '.join(self.stages)}), got {freeze!r}"
            )
        self.requires_grad_(True)
        for part in frozen:
            part.requires_grad_(False)
        if frozen:
            in_stages = {
                parameter
                for _, parts in stages
                for part in parts
                for parameter in part.parameters()
            }
            for parameter in set(self.network.parameters()) - in_stages:
                parameter.requires_grad_(False)  # tokens, which the first stage reads
        self._frozen = frozen
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; frozen parts stay in eval mode."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        return self

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load tensors, also those of a file, which holds no versions of the layers."""
        if not hasattr(state_dict, "_metadata"):
            # torch has no public name for these versions, and MNASNet loads nothing without.
            versions = self.state_dict()._metadata  # type: ignore[attr-defined]
            state_dict = OrderedDict(state_dict)
            state_dict._metadata = versions  # type: ignore[attr-defined]
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    def forward(
        self,
        views: torch.Tensor,
        view_mask: torch.Tensor,
        study_type: torch.Tensor | None = None,
        view_index: torch.Tensor | None = None,
        engine: ViewReader | None = None,
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
        view_index : Tensor of shape (N,), int64, optional
            Positions of the real views in ``views.flatten(0, 1)``. None finds them in the mask,
            which makes the host wait for a GPU.
        engine : ViewReader, optional
            Reads the views in the place of `network`. For predictions: it has no gradients.

        Returns
        -------
        study_logit : Tensor of shape (B,), float32
            Logit of each study, pooled over its views.
        view_logit : Tensor of shape (N,), float32
            One logit per real view of the batch, in order.
        """
        features = self.view_features(views, view_mask, study_type, view_index, engine)
        view_logit = self._logits_of(features)
        if self.pooling == "max":
            return max_views_logit(view_logit, view_mask), view_logit
        score = self._scores_of(features)
        if score is None:
            return pool_views(view_logit, view_mask), view_logit
        log_weight = attend_views(score, view_mask)
        pool = additive_logit if self.pooling == "attention_additive" else pool_views
        return pool(view_logit, view_mask, log_weight), view_logit

    def view_features(
        self,
        views: torch.Tensor,
        view_mask: torch.Tensor,
        study_type: torch.Tensor | None = None,
        view_index: torch.Tensor | None = None,
        engine: ViewReader | None = None,
    ) -> torch.Tensor:
        """Return what the last layer reads of each real view.

        Parameters
        ----------
        views, view_mask, study_type, view_index, engine
            As for `forward`.

        Returns
        -------
        Tensor of shape (N, n_features), float32
            `head` makes the views' logits of them.
        """
        compute = self._features if engine is None else engine.features
        real = views[view_mask] if view_index is None else views.flatten(0, 1)[view_index]
        return self._in_parts(compute, real)

    def view_weights(
        self,
        views: torch.Tensor,
        view_mask: torch.Tensor,
        study_type: torch.Tensor | None = None,
        engine: ViewReader | None = None,
    ) -> torch.Tensor:
        """Return how much each real view counts in its study.

        Parameters
        ----------
        views, view_mask, study_type, engine
            As for `forward`.

        Returns
        -------
        Tensor of shape (N,), float32
            The weights of a study sum to 1.
        """
        features = self.view_features(views, view_mask, engine=engine)
        logit, score = self._logits_of(features), self._scores_of(features)
        return view_weights(self.pooling, logit, score, view_mask)

    def activation_maps(
        self,
        views: torch.Tensor,
        view_mask: torch.Tensor,
        study_type: torch.Tensor | None = None,
        engine: ViewReader | None = None,
    ) -> torch.Tensor:
        """Return the class activation map of each real view of a batch.

        Call it in eval mode and without gradients.

        Parameters
        ----------
        views, view_mask, study_type, engine
            As for `forward`.

        Returns
        -------
        Tensor of shape (N, h, w), float32
            One map per real view, in order, in logits. Its mean plus the bias of `head` is the
            view's logit, see `mura_skorch.models.exact_maps`. h and w are the size of the last
            feature maps.

        Raises
        ------
        TypeError
            The last layer reads something else than an average of feature maps.
        """
        compute = engine.maps if engine is not None and engine.has_maps else self._maps
        return self._in_parts(compute, views[view_mask])

    def _in_parts(self, compute, views):
        """Compute views of shape (N, H, W), at most `max_views` at a time in eval mode."""
        if self.training or self.max_views is None:
            return self._in_one(compute, views)
        return torch.cat([self._in_one(compute, part) for part in views.split(self.max_views)])

    def _in_one(self, compute, views):
        if self.before_part is not None:
            self.before_part()
        return compute(views)

    def _features(self, views):
        """Return the features of views of shape (N, H, W), uint8."""
        images = self._normalise(views)
        if self._is_compiled:
            # Only the number of views varies, which is compiled in less time to faster code. torch
            # has no public name for it.
            torch._dynamo.mark_static(images, [1, 2, 3])
        try:
            return self.network(images).float()
        except (ValueError, RuntimeError) as error:  # a compiler makes the second of the first
            if "more than 1 value per channel" not in str(error):
                raise
            raise ValueError(
                "expected two views or more in a training batch of small views, for batch norm, "
                f"got one of {views.shape[1]} pixels; raise image_size, or change batch_size so "
                "that no single study is left over"
            ) from error

    def _maps(self, views):
        """Return the maps of views of shape (N, H, W), uint8."""
        # `forward` itself: what is compiled cannot be watched.
        return exact_maps(self.network.forward, self.head, self._normalise(views))

    def _logits_of(self, features):
        """Return the logits of features, in float32 whatever the network's precision is."""
        with torch.autocast(features.device.type, enabled=False):
            return self.head(features).squeeze(1)

    def _scores_of(self, features):
        """Return the attention's scores of features, or None without attention."""
        if self.attention is None:
            return None
        with torch.autocast(features.device.type, enabled=False):
            return self.attention(features)

    def _normalise(self, views):
        """Return views of shape (N, H, W), uint8, as the network's input, augmented in training."""
        views = views.unsqueeze(1).float() / 255
        if self.training and self.augment is not None:
            views = self.augment(views)
        views = (views - self.mean) / self.std
        layout = self.training_format if self.training else self.prediction_format
        # Convolutions hand the format on. Which is faster depends on the machine.
        return views.contiguous(memory_format=LAYOUTS[layout])


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


def _with_tensors(module):
    """Return the named children of a module that have parameters or buffers."""
    return [
        (name, part)
        for name, part in module.named_children()
        if any(True for _ in chain(part.parameters(), part.buffers()))
    ]


def _size(module):
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
