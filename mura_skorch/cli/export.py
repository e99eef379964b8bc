"""Write a saved model as an ONNX graph, with a program that predicts without torch.

mura-skorch export wrist-model wrist-onnx           # a folder written by save
mura-skorch export 3f1c...e2 wrist-onnx             # an MLflow run
mura-skorch export models:/mura@champion mura-onnx  # a registered model

FOLDER gets model.onnx, export.json, predict.py and README.md. The program needs onnxruntime, Pillow
and NumPy alone: python FOLDER/predict.py STUDIES. Needs pip install 'mura-skorch[export]'.
"""

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder written by save, the id of an MLflow run, or a runs:/ or models:/ address",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is missing")


def run(args: argparse.Namespace) -> int:
    """Export a model, and print what was written."""
    from mura_skorch.commands import export

    return export.main(args)
