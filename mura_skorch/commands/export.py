"""What ``mura-skorch export`` does: write a saved model as an ONNX graph."""

from argparse import Namespace

from mura_skorch.commands import CommandError
from mura_skorch.ensemble import load_model
from mura_skorch.inference import export_classifier
from mura_skorch.utils.text import printable

__all__ = ["main"]


def main(args: Namespace) -> int:
    """Export a model, and print what was written; return 0."""
    try:
        about = export_classifier(load_model(args.source), args.folder)
    except (ImportError, OSError, TypeError, ValueError) as error:
        raise CommandError(error) from error
    parity = ", ".join(f"{name} {value:.1g}" for name, value in about["parity"].items())
    print(
        f"{printable(args.folder)}: {about['backbone']}; largest differences from torch: {parity}"
    )
    return 0
