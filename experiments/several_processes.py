"""What do two processes gain? Measure training by one and by two processes, and what they exchange.

python experiments/several_processes.py
python experiments/several_processes.py --backbone resnet18 --n-studies 40
python experiments/several_processes.py --out experiments/records/2026-11-29_several_processes

Phantoms from a filled cache, one epoch to warm up and one that is timed. The processes share the
cores of this machine: on GPUs each would have its own. No clinical meaning.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.distributed as dist

from mura_skorch import MuraClassifier, read_studies, write_phantoms
from mura_skorch.cli.options import add_option, make_parser
from mura_skorch.cli.scripts import write_record
from mura_skorch.distributed import count_processes
from mura_skorch.utils.provenance import conditions

SETTINGS = [(1, 1), (1, 2), (2, 1)]  # processes and threads of each
N_STUDIES = 8  # of a minibatch of each process
N_ROUNDS = 20


def measure(root: str, backbone: str, image_size: int) -> dict[str, Any]:
    """Return views per second of a timed epoch, and what exchanging costs these processes."""
    studies = read_studies(root).query("split == 'train'")
    clf = MuraClassifier(
        module__backbone=backbone,
        module__weights=None,
        dataset__image_size=image_size,
        dataset__cache=Path(root).parent / "cache",
        batch_size=N_STUDIES,
        train_split=None,
        max_epochs=2,
        random_state=0,
        precision="float32",
        verbose=0,
        callbacks__mlflow=None,
    ).fit(studies)
    found = {"views_per_second": studies["views"].map(len).sum() / clf.history[-1, "dur"]}
    n_parameters = sum(p.numel() for p in clf.module_.parameters())
    if (n_processes := count_processes()) > 1:
        found |= {"n_parameters": n_parameters, "n_processes": n_processes}
    return found


def exchanged(n_parameters: int) -> dict[str, float]:
    """Return the milliseconds of one sum of gradients and of one small message."""
    gradients, message = torch.zeros(n_parameters), torch.zeros(5)
    return {
        "all_reduce_ms": _milliseconds(lambda: dist.all_reduce(gradients)),
        "broadcast_ms": _milliseconds(lambda: dist.broadcast(gradients, 0)),
        "message_ms": _milliseconds(lambda: dist.all_reduce(message)),
    }


def _milliseconds(call):
    call()
    begin = time.perf_counter()
    for _ in range(N_ROUNDS):
        call()
    return 1000 * (time.perf_counter() - begin) / N_ROUNDS


def run_here(args: Any) -> int:
    """Measure in these processes, and print the result as a line of JSON."""
    if args.here == "exchange":
        dist.init_process_group("gloo")
        found = exchanged(args.n_parameters)
        if dist.get_rank() == 0:
            print(json.dumps(found))
        dist.destroy_process_group()
    else:
        print(json.dumps(measure(args.root, args.backbone, args.image_size)))
    return 0


def run_processes(n_processes: int, n_threads: int, arguments: list[str], *, shares: bool) -> Any:
    """Return what this script measures in other processes."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={n_processes}"]
    launcher = ["-m", "mura_skorch.distributed"] if shares else []
    done = subprocess.run(
        [sys.executable, *torchrun, *launcher, __file__, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": str(n_threads)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str] | None = None) -> int:
    """Measure, print two tables, write them where a folder is given; return 0."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="densenet169", help="default: densenet169")
    parser.add_argument("--image-size", type=int, default=64, help="pixels, default: 64")
    parser.add_argument("--n-studies", type=int, default=160, help="phantoms, default: 160")
    add_option(parser, "--out", default=None)
    for name in ("--here", "--root"):
        parser.add_argument(name, help="used by the script itself")
    parser.add_argument("--n-parameters", type=int, help="used by the script itself")
    args = parser.parse_args(argv)
    if args.here:
        return run_here(args)
    sizes = ["--backbone", args.backbone, "--image-size", str(args.image_size)]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        root = f"{folder}/phantoms"
        write_phantoms(root, n_train=args.n_studies, n_valid=0, n_test=0)
        for n_processes, n_threads in SETTINGS:
            arguments = ["--here", "fit", "--root", root, *sizes]
            found = run_processes(n_processes, n_threads, arguments, shares=True)
            speed = found["views_per_second"]
            rows.append(
                {"processes": n_processes, "threads of each": n_threads, "views a second": speed}
            )
            print(rows[-1], flush=True)
        n_parameters = str(found["n_parameters"])
        arguments = ["--here", "exchange", "--n-parameters", n_parameters]
        costs = run_processes(2, 1, arguments, shares=False)
    table = pd.DataFrame(rows)
    table["efficiency"] = table["views a second"] / (
        table["views a second"].iloc[0] * table["processes"] * table["threads of each"]
    )
    text = "\n".join(
        [
            "```",
            table.round(2).to_string(index=False),
            "```",
            "",
            f"Two processes over loopback: a sum of {found['n_parameters']:,} gradients takes "
            f"{costs['all_reduce_ms']:.1f} ms, a copy of as many weights "
            f"{costs['broadcast_ms']:.1f} ms, a small message {costs['message_ms']:.2f} ms.",
            "",
            conditions("seconds of an epoch"),
        ]
    )
    print(text)
    if args.out is not None:
        command = f"python experiments/several_processes.py --out {args.out}"
        question = (__doc__ or "").splitlines()[0]
        write_record(args.out, "Several processes", question, command, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
