"""Which body parts can the network read? One model per study type, compared in MLflow.

python experiments/per_body_part.py                             # phantoms, minutes on two cores
python experiments/per_body_part.py --data MURA-v1.1 --pooled   # hours on a GPU
python experiments/per_body_part.py --dask tcp://head:8786      # on a Dask cluster
python experiments/per_body_part.py --resume results/20261123-101500   # resume after a crash

The same as mura-skorch train.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("train", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
