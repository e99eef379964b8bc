"""Does a change help? Train two settings with several seeds and compare them by patient.

python experiments/ablate.py defaults callbacks__ema__decay=0.999          # phantoms, minutes
python experiments/ablate.py defaults "module__augment=Augment(scale=(0.8, 1.25))" --data MURA-v1.1
python experiments/ablate.py defaults beyond_paper --seeds 5 --data MURA-v1.1   # a preset
python experiments/ablate.py small.txt large.txt --jobs 2 --threads 1      # a key=value a line
python experiments/ablate.py --resume results/20261129-101500              # after a crash

A and B are parameters of MuraClassifier: "defaults" for none, the name of a preset, a file, or
key=value,key=value. All else is the same: data, seeds, validation patients, and the options below,
unless a setting replaces them. Each model is trained on the train split and tested on the valid
split, which no choice sees. Differences, B minus A, are means over the seeds, with 95 % intervals
of a bootstrap over the test patients.

The same as mura-skorch ablate.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("ablate", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
