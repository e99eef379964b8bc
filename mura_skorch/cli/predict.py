"""Predict studies with a saved model, and score those that have labels.

mura-skorch predict --model RUN --data MURA-v1.1 --split valid
mura-skorch predict --model DIR --data clinic --labels labels.csv --readers anna ben
mura-skorch predict --model DIR --data clinic --refit-on clinic_2024 --threshold youden
mura-skorch predict --model DIR --data clinic --refit-on clinic_2024 --triage 0.05
mura-skorch predict --model DIR --data clinic --similar-from MURA-v1.1 --cache cache
MURA_SKORCH_SECRET=... mura-skorch predict --model DIR --data dicom --labels labels.csv

DICOM needs the extra [dicom]. The secret hashes its patient ids and study UIDs.
"""

import argparse
from functools import partial
from pathlib import Path

from mura_skorch.cli.options import add_option, folder_or_address

__all__ = ["add_arguments", "run"]

# As in mura_skorch.inference.engines, which imports torch.
ENGINES = ("torch", "auto", "onnxruntime", "openvino")
PRECISIONS = ("auto", "float32", "bfloat16", "int8")


def add_arguments(
    parser: argparse.ArgumentParser, *, required: bool = True, experiment: str = "predict"
) -> None:
    """Add the arguments of the command.

    Parameters
    ----------
    parser : ArgumentParser
    required : bool, default=True
        Whether a call must name a model and data.
    experiment : str, default="predict"
        Default of ``--experiment``.
    """
    add, add_shared = parser.add_argument, partial(add_option, parser)
    add(
        "--model",
        required=required,
        help="folder of a saved model or ensemble, or an MLflow run's id",
    )
    add_shared(
        "--data",
        required=required,
        help="MURA's folder or one like it, a table of studies (.csv, .parquet), or a folder of "
        "DICOM",
    )
    add("--split", help="train, valid or test (default: all but train)")
    add("--labels", type=Path, metavar="CSV", help="columns study, label, and any others")
    add("--readers", nargs="+", default=[], metavar="COLUMN",
        help="readers' labels, in --labels or the table")  # fmt: skip
    add("--gold", metavar="COLUMN", help="reference for the readers (default: each other)")
    add("--by", nargs="+", default=[], metavar="COLUMN",
        help="site, scanner, sex ..., in --labels or the table")  # fmt: skip
    add_shared("--prevalence")
    add("--robustness", action="store_true", help="predict again under small changes of the views")
    add("--study-type", action="append", type=study_type, default=[], metavar="NAME=TYPE",
        help="DICOM: study type of a body part; an empty TYPE leaves it out")  # fmt: skip
    add(
        "--modalities",
        nargs="+",
        metavar="NAME",
        help="DICOM: modalities to read (default: CR DX RF)",
    )
    add(
        "--on-bad-file",
        choices=["raise", "skip"],
        help="DICOM: what to do with bad headers (default: raise)",
    )
    add(
        "--threshold",
        type=threshold,
        help="a number, youden, or sensitivity=0.95 (default: the model's own)",
    )
    add(
        "--refit-on",
        type=folder_or_address,
        metavar="DATA",
        help="labelled studies to refit threshold and calibration",
    )
    add("--refit-split", help="their split, not used in training (default: all)")
    add("--refit-labels", type=Path, metavar="CSV", help="their labels")
    add("--triage", type=float, metavar="RATE", help="choose limits on --refit-on: outside of "
        "them a study is called at this error rate, between them 'look yourself'")  # fmt: skip
    add("--notes", nargs="+", default=[], metavar="TEXT",
        help="sentences for the model card, such as the source of the labels")  # fmt: skip
    add_shared("--study-facts")
    add_shared("--cases")
    add(
        "--similar-from",
        type=folder_or_address,
        metavar="DATA",
        help="training studies: the case review shows the most similar ones of the train split",
    )
    add_shared("--cache", help="folder for the features of --similar-from, computed once, and "
        "for views from s3:// or gs://, read once")  # fmt: skip
    add_shared("--device")
    add(
        "--engine",
        choices=ENGINES,
        default="torch",
        help="what reads the views on a CPU; auto takes the fastest (extra [fast])",
    )
    add(
        "--precision",
        choices=PRECISIONS,
        help="arithmetic; int8 of a model that quantize() has prepared (default: the model's own)",
    )
    add_shared("--experiment", default=experiment)
    add_shared("--out")
    add_shared("--json")


def threshold(text: str) -> float | str:
    """Parse a threshold: a number or a rule."""
    from mura_skorch.calibration import check_rule  # imports pandas

    try:
        value: float | str = float(text)
    except ValueError:
        value = text
    try:
        check_rule(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def study_type(text: str) -> tuple[str, str | None]:
    """Parse NAME=TYPE into body part and study type; None leaves the body part out."""
    part, sign, name = text.partition("=")
    if not sign:
        raise argparse.ArgumentTypeError(f"expected NAME=TYPE, such as HIP=XR_HIP, got {text!r}")
    return part, name or None


def run(args: argparse.Namespace) -> int:
    """Predict, and evaluate if there are labels."""
    from mura_skorch.commands import predict

    return predict.main(args)
