"""Score another hospital's studies, and recalibrate a model on them.

mura-skorch external --model RUN --data GRAZPEDWRI-DX --own-data MURA-v1.1
mura-skorch external --model DIR --data FracAtlas --reference results/valid/report
mura-skorch external --model DIR --data clinic --labels labels.csv --by site
mura-skorch external --model DIR --data "LERA Dataset" --study-facts study.toml

--data is a folder in the published layout of GRAZPEDWRI-DX, FracAtlas or LERA, in MURA's layout,
or of DICOM files; the layout is found by its files. Only labelled studies are scored.

The report shows the case mix beside the training data, the change of kappa and AUROC from the
model's own hospital with its interval, and what recalibration by slope and intercept gains from
more and more local studies. Figures of the own hospital come from --own-data, whose split
--own-split is predicted, or from --reference, predictions of the same model on studies that it was
not trained on. With --own-data, shared patients are counted if its train split is what the model
was fitted on.
"""

import argparse
from functools import partial
from pathlib import Path

from mura_skorch.cli.options import add_option, folder_or_address

__all__ = ["add_arguments", "run"]

# As in mura_skorch.studies.public_datasets, which imports pandas.
LAYOUTS = ("grazpedwri", "fracatlas", "lera")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser)
    add("--model", required=True, help="folder of a saved model or ensemble, or an MLflow run's id")
    add_shared("--data", required=True, type=Path, help="folder of the other hospital's data")
    add("--layout", choices=[*LAYOUTS, "mura", "dicom"], help="default: found by the files")
    add("--on-missing", choices=["raise", "skip"], default="raise",
        help="public layouts: what to do with rows without an image")  # fmt: skip
    add("--on-bad-view", choices=["raise", "skip"], default="raise",
        help="what to do with images that cannot be read")  # fmt: skip
    add("--split", help="MURA's layout: train, valid or test (default: all)")
    add("--labels", type=Path, metavar="CSV", help="columns study, label, and any others")
    add("--own-data", type=folder_or_address, metavar="DIR",
        help="the model's own hospital, with the train split that it was trained on")  # fmt: skip
    add("--own-split", default="valid", help="split of --own-data that is predicted")
    add("--reference", metavar="SOURCE",
        help="folder of a report, predictions.csv or run with predictions of the same model on "
        "studies of its own hospital, instead of those of --own-data")  # fmt: skip
    add("--by", nargs="+", default=[], metavar="COLUMN", help="sex, side, site ... of the studies")
    add("--draws", type=int, default=200, help="draws of patients for the recalibration")
    add("--n-resamples", type=int, default=2000, help="resamples of the bootstrap")
    add("--notes", nargs="+", default=[], metavar="TEXT", help="sentences for the model card")
    add_shared("--study-facts")
    add_shared("--cases")
    add_shared("--device", default=None)
    add_shared("--random-state")
    add_shared("--experiment", default="external")
    add_shared("--out")


def run(args: argparse.Namespace) -> int:
    """Predict, compare, recalibrate and report."""
    from mura_skorch.commands import external

    return external.main(args)
