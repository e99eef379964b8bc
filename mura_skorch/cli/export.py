"""Write a saved model as an ONNX graph, with a program that predicts without torch.

mura-skorch export wrist-model wrist-onnx           # a folder written by save
mura-skorch export 3f1c...e2 wrist-onnx             # an MLflow run
mura-skorch export models:/mura@champion mura-onnx  # a registered model

FOLDER gets model.onnx, export.json, predict.py and README.md. The program needs onnxruntime, Pillow
and NumPy alone: python FOLDER/predict.py STUDIES. Needs pip install 'mura-skorch[export]'.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from mura_skorch.utils.text import printable

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the subcommand ``export``."""
    parser = subparsers.add_parser(
        "export",
        help="write a model as an ONNX graph, with a program that needs no torch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder written by save, the id of an MLflow run, or a runs:/ or models:/ address",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is missing")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Export a model, and print what was written; return 2 if that is not possible."""
    from mura_skorch.ensemble import load_model  # seconds to import
    from mura_skorch.inference import export_classifier

    try:
        about = export_classifier(load_model(args.source), args.folder)
    except (ImportError, OSError, TypeError, ValueError) as error:
        print(f"mura-skorch export: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        return 2
    parity = ", ".join(f"{name} {value:.1g}" for name, value in about["parity"].items())
    print(
        f"{printable(args.folder)}: {about['backbone']}; largest differences from torch: {parity}"
    )
    return 0
