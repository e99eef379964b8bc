"""Run ``mura-skorch`` as ``python -m mura_skorch``."""

import sys

from mura_skorch.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
