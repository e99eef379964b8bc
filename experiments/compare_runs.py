"""Is one model better than another? Compare two MLflow runs study by study.

python experiments/compare_runs.py RUN_A RUN_B
python experiments/compare_runs.py RUN_A RUN_B --table valid_predictions.csv --out comparison.csv

The same as mura-skorch compare.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("compare", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
