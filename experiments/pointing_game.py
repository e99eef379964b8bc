"""Does the network look at the lesion? Compare the peaks of its maps with lesion boxes of phantoms.

python experiments/pointing_game.py                                # trains on phantom wrists
python experiments/pointing_game.py --data phantoms --model RUN    # a saved model

The same as mura-skorch pointing-game.
"""

import sys

from mura_skorch.cli.main import run_script


def main(argv=None):
    """Run the command; return its exit status."""
    return run_script("pointing-game", __file__, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
