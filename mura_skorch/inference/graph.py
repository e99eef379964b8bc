"""Export the part of a study network that reads single views as an ONNX graph."""

from importlib.util import find_spec
from itertools import chain
from typing import Any

import torch
from torch import nn

from mura_skorch.models.exact_maps import features_with_maps, has_layer_norm
from mura_skorch.models.study_network import StudyNetwork
from mura_skorch.utils.text import short_reason

__all__ = [
    "FEATURES",
    "INPUT",
    "LOGIT",
    "MAP",
    "SCORE",
    "ViewGraph",
    "backbone_name",
    "check_packages",
    "export_graph",
]

# Names of the graph's input and of its outputs, one row per view each.
INPUT, LOGIT, FEATURES, MAP, SCORE = "views", "logit", "features", "map", "score"


class ViewGraph(nn.Module):
    """What a study network makes of single views, with normalisation and without pooling.

    Parameters
    ----------
    net : StudyNetwork
        Put in eval mode.
    image_size : int
        Height and width of a view in pixels.

    Attributes
    ----------
    outputs : list of str
        Names of what `forward` returns: "logit" and "features"; "map" if the network has exact
        activation maps; "score" if it has attention.
    """

    def __init__(self, net: StudyNetwork, image_size: int) -> None:
        super().__init__()
        self.net = net
        self.eval()
        self.has_norm: bool | None = None  # without maps
        image = torch.rand(1, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                self.has_norm = has_layer_norm(net.network, image.to(net.mean.device))
        except TypeError:
            pass
        self.outputs = [LOGIT, FEATURES]
        if self.has_norm is not None:
            self.outputs.append(MAP)
        if net.attention is not None:
            self.outputs.append(SCORE)

    def forward(self, views: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return what is computed of views.

        Parameters
        ----------
        views : Tensor of shape (N, 1, H, W), uint8

        Returns
        -------
        tuple of Tensor
            As many as `outputs`: logits (N,), features (N, n_features), maps (N, h, w), scores of
            the attention (N,), float32.
        """
        net = self.net
        images = (views.float() / 255 - net.mean) / net.std
        maps = []
        if self.has_norm is None:
            features = net.network(images)
        else:
            features, cam = features_with_maps(
                net.network, net.head, images, has_norm=self.has_norm
            )
            maps = [cam]
        scores = [] if net.attention is None else [net.attention(features)]
        return net.head(features).squeeze(1), features, *maps, *scores


def export_graph(graph: ViewGraph, image_size: int) -> Any:
    """Return the ONNX model of a graph, for any number of views.

    Parameters
    ----------
    graph : ViewGraph
        On the CPU, in eval mode.
    image_size : int
        Height and width of a view in pixels.

    Returns
    -------
    onnx.ModelProto

    Raises
    ------
    ImportError
        The packages of the extra ``[export]`` are not installed.
    ValueError
        The network has an operation that ONNX lacks.
    """
    check_packages("onnx", "onnxscript", extra="export")
    views = torch.zeros(2, 1, image_size, image_size, dtype=torch.uint8)
    try:
        program = torch.onnx.export(
            graph,
            (views,),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("n_views")},),
            input_names=[INPUT],
            output_names=graph.outputs,
            optimize=False,
            verbose=False,
        )
    except Exception as error:  # torch raises those of all its stages
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        lines = str(cause).strip().splitlines() or [type(cause).__name__]
        raise ValueError(
            f"expected a network that ONNX can express, got {backbone_name(graph.net)}, of which "
            f"torch.onnx.export says: {short_reason(lines[0])}; take another backbone, see "
            "docs/how_to/export.md"
        ) from error
    model: Any = program.model_proto  # type: ignore[union-attr]  # the older exporter gives None
    # The exporter notes code and paths of this machine.
    parts = (model.graph.node, model.graph.input, model.graph.output, model.graph.value_info)
    for part in [model, model.graph, *chain(*parts, model.graph.initializer)]:
        part.ClearField("metadata_props")
    return model


def backbone_name(net: StudyNetwork) -> str:
    """Return the name of a network's backbone, or of the function that builds it."""
    name = net.backbone
    return name if isinstance(name, str) else getattr(name, "__name__", type(name).__name__)


def check_packages(*names: str, extra: str, otherwise: str = "") -> None:
    """Raise ImportError if packages are not installed.

    Parameters
    ----------
    *names : str
    extra : str
        The extra of this package that installs them.
    otherwise : str
        What else can be done, for the end of the message.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise ImportError(
            f"expected {', '.join(names)} to be installed, got no {', '.join(missing)}: pip "
            f"install 'mura-skorch[{extra}]'{otherwise}"
        )
