"""Does the paper reproduce? Run its protocol, and add our kappas to its Table 2.

python experiments/reproduce_paper.py --data MURA-v1.1 --protocol v3   # one model: a GPU night
python experiments/reproduce_paper.py --data MURA-v1.1 --protocol v4   # ten models: a week-end
python experiments/reproduce_paper.py                                  # phantoms, minutes

The same command with the same --out resumes, after the last epoch: finished models are reused.

The same as mura-skorch reproduce-paper.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("reproduce-paper", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
