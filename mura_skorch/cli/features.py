"""Fit regressions on frozen features of more and more patients, and draw the learning curve.

mura-skorch features                                   # phantoms, random weights
mura-skorch features --data MURA-v1.1 --cache cache    # ImageNet's weights
mura-skorch features --data MURA-v1.1 --cache cache --run RUN   # beside a trained model
mura-skorch features --data clinic --model RUN         # features of a trained network
mura-skorch features --data clinic --dask tcp://head:8786   # regressions on a cluster

A logistic regression is fitted on the features of growing numbers of patients of the train split,
its penalty chosen by folds of these patients. It is scored on the valid split, which no choice
sees. Intervals are of a bootstrap over the patients of the valid split; the range over draws shows
how much it matters which patients were labelled.
"""

import argparse
from functools import partial

from mura_skorch.cli.options import add_option
from mura_skorch.commands.defaults import FEATURES

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser, defaults=FEATURES)
    add_shared("--data")
    add_shared("--study-types")
    add("--backbone", default="densenet169", help="torchvision name, or timm: and a name of timm")
    add_shared("--weights")
    add_shared("--image-size")
    add("--model", help="folder or MLflow run of a trained network, instead of a backbone")
    add("--run", help="folder or MLflow run of a trained model to compare with")
    add("--draws", type=int, default=3, help="draws of the patients for each size")
    add_shared("--device")
    add_shared("--threads", default_text="one per core")
    add_shared("--cache", help="folder for features, so that each view is computed once")
    add_shared("--dask", help="fit the regressions on a Dask cluster, local or tcp://HOST:8786")
    add_shared("--random-state")
    add_shared("--study-facts")
    add_shared("--prevalence")
    add_shared("--experiment", default="features")
    add_shared("--out")


def run(args: argparse.Namespace) -> int:
    """Embed, fit, score and report."""
    from mura_skorch.commands import features

    return features.main(args)
