"""Compare the peaks of a network's maps with the lesion boxes of phantoms.

mura-skorch pointing-game                                # trains on phantom wrists
mura-skorch pointing-game --data phantoms --model RUN    # a saved model
"""

import argparse
from functools import partial

from mura_skorch.cli.options import add_option

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser)
    add_shared("--data", help="folder of phantoms (default: wrists are drawn)")
    add("--model", help="folder of a saved model or an MLflow run (default: train one)")
    add_shared("--study-types")
    add_shared("--weights", default="none", help="torchvision name, path, or none")
    add_shared("--image-size", default=160, help="32 pixels per cell of the map")
    add_shared("--max-epochs", default=3)
    add_shared("--lr", default=5e-4)
    add_shared("--device")
    add_shared("--threads", default_text="one per core")
    add_shared("--random-state")
    add_shared("--experiment", default="pointing_game")
    add_shared("--out", help="folder of tables and figure")


def run(args: argparse.Namespace) -> int:
    """Train or load a model, and run the pointing game."""
    from mura_skorch.commands import pointing_game

    return pointing_game.main(args)
