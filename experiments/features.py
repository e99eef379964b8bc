"""How far do frozen features come? A learning curve over patients with labels.

python experiments/features.py                                   # phantoms, random weights
python experiments/features.py --data MURA-v1.1 --cache cache    # ImageNet's weights
python experiments/features.py --data MURA-v1.1 --cache cache --run RUN   # beside a trained model
python experiments/features.py --data clinic --model RUN         # features of a trained network
python experiments/features.py --data clinic --dask tcp://head:8786   # regressions on a cluster

A logistic regression is fitted on the features of growing numbers of patients of the train split,
its penalty chosen by folds of these patients. It is scored on the valid split, which no choice
sees. Intervals are of a bootstrap over the patients of the valid split; the range over draws shows
how much it matters which patients were labelled.

The same as mura-skorch features.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("features", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
