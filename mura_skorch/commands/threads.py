"""Set how many CPU threads a command uses."""

from argparse import Namespace

import torch

from mura_skorch.training.device import count_cores

__all__ = ["use_threads"]


def use_threads(args: Namespace) -> None:
    """Let torch use ``args.threads`` CPU threads; None becomes one per core."""
    if args.threads is None:
        args.threads = count_cores()
    torch.set_num_threads(args.threads)
