"""Which labels are wrong? Rank suspects, let a reader judge them, and measure what that changes.

python experiments/review_labels.py --data MURA-v1.1 --cache cache       # frozen features
python experiments/review_labels.py --data MURA-v1.1 --fine-tune         # a network for each fold
python experiments/review_labels.py --data MURA-v1.1 --cache cache --verdicts verdicts.csv
python experiments/review_labels.py --flip 0.05       # phantom wrists: how many are found?

The labels of the train split are ranked by out-of-fold predictions: of models that saw no study of
the patient. review.html shows the first 100 with fields for verdicts, and exports them as
verdicts.csv. With --verdicts, a copy of the table gets the corrected labels, models are fitted on
both, and their kappas on the valid split are compared, whose labels stay as they are. Needs the
extra [labels].

The same as mura-skorch review-labels.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("review-labels", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
