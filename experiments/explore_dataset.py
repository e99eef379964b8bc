"""What is in the dataset, and what would invalidate a result? Tables, a figure and a page.

python experiments/explore_dataset.py                          # phantoms, drawn if missing
python experiments/explore_dataset.py --data MURA-v1.1         # a minute or two: decodes all images
python experiments/explore_dataset.py --data MURA-v1.1 --no-images   # seconds

Exits with status 1 if it finds a problem: shared patients, copies across splits, unreadable files.
The same as mura-skorch explore.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("explore", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
