"""Do small changes of the pictures change what a saved model says? Compare them, in pairs.

python experiments/robustness.py --model RUN --data MURA-v1.1 --split valid
python experiments/robustness.py --model DIR --data clinic --labels labels.csv --out robustness

Rotation, shift, contrast, noise, JPEG, half resolution, inversion, one view dropped, each view
alone: kappa and AUROC of the same studies with and without the change, with paired intervals over
patients. The same section is in the report of experiments/predict.py --robustness.

The same as mura-skorch robustness.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("robustness", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
