"""Trade time for memory in training: compute the blocks of a network again for the gradient."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

__all__ = ["checkpoint_blocks", "find_blocks"]

CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def checkpoint_blocks(network: nn.Module) -> None:
    """Let a network store only what goes between its blocks, for the gradient.

    Parameters
    ----------
    network : Module
        Changed in place; the names of its tensors stay. Its blocks are found: the
        items of its containers, such as DenseNet's dense layers, ResNet's bottlenecks and the
        layers of a transformer.

    Notes
    -----
    A block is computed twice, so that its batch norms are updated twice on one batch. Each
    update mixes a share m of the batch's statistics s into the running ones: r <- (1 - m) r + m s.
    With 1 - sqrt(1 - m) instead of m, two updates equal the one that is needed.
    """
    blocks = find_blocks(network) or [part for part in network.children() if any(part.children())]
    for block in blocks:
        block.forward = partial(_checkpointed, block.forward)
        for layer in block.modules():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.momentum is not None:
                layer.momentum = 1 - math.sqrt(1 - layer.momentum)


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the blocks in a module, in the order in which they were made."""
    found = []
    for child in module.children():
        inner = find_blocks(child)
        is_item = isinstance(module, CONTAINERS) and not isinstance(child, CONTAINERS)
        if is_item and any(child.children()) and len(inner) < 2:
            found.append(child)
        else:
            found += inner
    return found


def _checkpointed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a block; in training store only its input."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    # DenseNet appends to the list that it passes, until the block is computed again.
    args = tuple(list(arg) if isinstance(arg, list) else arg for arg in args)
    with set_checkpoint_early_stop(False):  # the last batch norm is to be updated twice, too
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)
