r"""Try many settings with Optuna, in one process or several that share a database.

mura-skorch sweep                                   # phantoms, minutes on two cores
mura-skorch sweep --data MURA-v1.1 --study-types XR_WRIST --study wrists \
    --storage sqlite:///sweep.db --trials 40 --prune median \
    --space lr=1e-5:1e-2:log batch_size=4,8,16 backbone=densenet169,resnet50

The same command in a second terminal, or on another machine, works on the same study. After a kill,
a crash or Ctrl-C, the same command continues, up to --trials in total; a trial goes on from its
checkpoint. All trials are scored on the same studies: a part of the train split's patients, or with
--folds 5 all of them. The valid split is not looked at, except with --re-estimate valid.
"""

import argparse
from functools import partial

from mura_skorch.cli.options import add_option
from mura_skorch.commands.defaults import SWEEP

__all__ = ["add_arguments", "run"]

# As in mura_skorch.commands.sweep_settings, which imports torch.
METRICS = ("valid_loss", "valid_kappa")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    add, add_shared = parser.add_argument, partial(add_option, parser, defaults=SWEEP)
    add_shared("--data", help="MURA's folder or one like it (default: phantom wrists are drawn)")
    add_shared("--study-types")
    add("--storage", default="sqlite:///sweep.db", metavar="URL", help="database of the trials")
    add("--study", default="study", help="name of the study in that database")
    add("--trials", type=int, default=40, help="in total, of all workers; retries do not count")
    add(
        "--space",
        nargs="+",
        default=["lr=1e-5:1e-2:log"],
        metavar="NAME=VALUES",
        help="low:high, low:high:log, low:high:step, or a,b,c",
    )
    add("--folds", type=int, default=0, help="0: one validation part; or folds by patient, as 5")
    add("--metric", choices=METRICS, default="valid_loss", help="of the best epoch")
    add("--prune", choices=["none", "median"], default="none", help="end bad trials early")
    add("--n-random", type=int, default=10, help="first trials: drawn at random, never pruned")
    add("--set", default="defaults", help="other parameters: a preset, a file, or key=value,...")
    add(
        "--re-estimate", choices=["folds", "valid"], help="train the best setting again, at the end"
    )
    add_shared("--weights")
    add_shared("--module")
    add_shared("--image-size")
    add_shared("--max-epochs")
    add_shared("--batch-size")
    add_shared("--lr")
    add_shared("--device")
    add_shared("--valid-share")
    add_shared(
        "--threads",
        default_text="one per core, phantoms: 1",
        help="CPU threads of this worker; changes the rounding",
    )
    add_shared("--cache")
    add_shared("--random-state")
    add("--retries", type=int, default=2, help="of a trial whose process was killed")
    add(
        "--heartbeat",
        type=int,
        default=10,
        metavar="SECONDS",
        help="a worker that is silent for six times as long counts as killed",
    )
    add_shared("--experiment", default="sweep")
    add_shared(
        "--out", default=None, help="folder that all workers share (default: results/sweep_STUDY)"
    )


def run(args: argparse.Namespace) -> int:
    """Run trials, and report on them."""
    from mura_skorch.commands import sweep

    return sweep.main(args)
