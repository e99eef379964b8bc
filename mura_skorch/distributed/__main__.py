"""Run a program whose fits and predictions are shared by all processes of torchrun.

torchrun --standalone --nproc-per-node 8 -m mura_skorch.distributed SCRIPT [ARGUMENTS]
torchrun --standalone --nproc-per-node 8 -m mura_skorch.distributed mura-skorch train

Without torchrun the program runs alone.
"""

import argparse
import os
import runpy
import sys

import torch.distributed as dist

from mura_skorch.distributed.helper import QUIT, help_out
from mura_skorch.distributed.processes import Processes, use_processes

COMMAND = "mura-skorch"


def main() -> None:
    """Join the other processes, then run the program or help it."""
    parser = argparse.ArgumentParser(
        prog="python -m mura_skorch.distributed",
        description=str(__doc__).splitlines()[0],
        epilog="Start it by torchrun, see docs/several_processes.md.",
    )
    parser.add_argument(
        "--sync-batch-norm",
        action="store_true",
        help="on GPUs: batch norm over the views of all processes, not of each",
    )
    parser.add_argument("script", help="a Python program or mura-skorch, and its arguments")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.script != COMMAND and not os.path.isfile(args.script):
        parser.error(f"expected the path of a program, got {args.script!r}, which is no file")
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        run_program(args.script, args.arguments)
        return
    processes = Processes(sync_batch_norm=args.sync_batch_norm)
    use_processes(processes)
    try:
        if processes.rank:
            help_out(processes)
        else:
            run_program(args.script, args.arguments)
    finally:
        if processes.rank == 0:
            processes.stop()
            if processes.is_whole:
                processes.tell(QUIT)
        dist.destroy_process_group()


def run_program(script: str, arguments: list[str]) -> None:
    """Run a program as ``python SCRIPT ARGUMENTS`` does, or ``mura-skorch ARGUMENTS``."""
    sys.argv = [script, *arguments]
    if script == COMMAND:
        runpy.run_module("mura_skorch", run_name="__main__")
        return
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
