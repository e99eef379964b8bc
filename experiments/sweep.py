r"""Which setting is best? Try many with Optuna, in one process or several that share a database.

python experiments/sweep.py                                   # phantoms, minutes on two cores
python experiments/sweep.py --data MURA-v1.1 --study-types XR_WRIST --study wrists \
    --storage sqlite:///sweep.db --trials 40 --prune median \
    --space lr=1e-5:1e-2:log batch_size=4,8,16 backbone=densenet169,resnet50

The same command in a second terminal, or on another machine, works on the same study. After a kill,
a crash or Ctrl-C, the same command continues, up to --trials in total; a trial goes on from its
checkpoint. All trials are scored on the same studies: a part of the train split's patients, or with
--folds 5 all of them. The valid split is not looked at, except with --re-estimate valid.

The same as mura-skorch sweep.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("sweep", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
