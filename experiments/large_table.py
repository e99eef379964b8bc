"""What do a million studies take? Measure time and memory of each step, by two processes.

python experiments/large_table.py --n-studies 10000
python experiments/large_table.py --n-studies 10000 100000 1000000 --out experiments/records/...

The studies have as many views as MURA's, each a small file; a million take 12 GB. A network of one
layer trains for one epoch from a filled cache, by two processes of torchrun, and is scored. Runs on
Linux only. No clinical meaning.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from load import SIZE, make_studies, one_layer
from matplotlib.figure import Figure

from mura_skorch import MuraClassifier, PatientSplit, study_scores
from mura_skorch.cli.options import add_option, make_parser
from mura_skorch.cli.scripts import write_record
from mura_skorch.data.dataset import base_of, studies_of
from mura_skorch.utils.provenance import conditions

BATCH_SIZE = 64  # studies of each process


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Any:
    """Add the seconds of a block, and say that it is over."""
    begin = time.perf_counter()
    yield
    seconds[name] = time.perf_counter() - begin
    print(f"{name}: {seconds[name]:.1f} s", file=sys.stderr, flush=True)


def peaks() -> dict[str, float]:
    """Return the most memory that each process of this job has had, in MB."""
    parent = os.getppid()
    pids = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    found = {}
    for rank, pid in enumerate(sorted(pids, key=lambda pid: int(pid) != os.getpid())):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        found[f"process {rank}"] = int(next(x for x in lines if "VmHWM" in x).split()[1]) / 1024
    return found


def measure(n_studies: int, folder: Path) -> dict[str, Any]:
    """Return the seconds of each step, and the peak memory of each process in MB."""
    seconds: dict[str, float] = {}
    with timed(seconds, "make files"):
        studies = make_studies(folder, n_studies)
    clf = MuraClassifier(
        module__backbone=one_layer,
        module__weights=None,
        module__augment=None,
        dataset__image_size=SIZE,
        dataset__cache=folder / "cache",
        batch_size=BATCH_SIZE,
        max_epochs=1,
        precision="float32",
        random_state=0,
        verbose=0,
        callbacks__mlflow=None,
    ).initialize()
    with timed(seconds, "check, fill the cache, split"):
        train, valid = clf.get_split_datasets(studies)
    with timed(seconds, "split"):
        PatientSplit(0.1)(base_of(train))
    with timed(seconds, "fit of one epoch"):
        clf.fit(studies)
    with timed(seconds, "predict the validation part"):
        proba = clf.predict_proba(studies_of(valid))[:, 1]
    table = studies_of(valid)
    with timed(seconds, "score it"):
        study_scores(table["label"], proba, study_type=table["study_type"], groups=table["patient"])
    epoch = clf.history[-1, "dur"]
    return {"studies": n_studies, "epoch": epoch} | seconds | {"MB": peaks()}


def draw(found: list[dict[str, Any]], file: Path) -> None:
    """Draw seconds and memory by the number of studies."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    n_studies = [row["studies"] for row in found]
    for name in [name for name in found[0] if name not in ("studies", "MB", "make files")]:
        left.loglog(n_studies, [row[name] for row in found], "o-", label=name)
    left.set(xlabel="studies", ylabel="seconds")
    figure.legend(loc="outside lower left", ncols=3, frameon=False, fontsize="small")
    for name in found[0]["MB"]:
        right.semilogx(n_studies, [row["MB"][name] for row in found], "o-", label=name)
    right.set(xlabel="studies", ylabel="peak MB", ylim=(0, None))
    right.legend(frameon=False, fontsize="small")
    figure.suptitle("Synthetic studies: no clinical meaning", fontsize="small")
    figure.savefig(file, dpi=120)


def main(argv: list[str] | None = None) -> int:
    """Measure each number of studies in processes of its own; print and draw; return 0."""
    parser = make_parser(__doc__)
    parser.add_argument("--n-studies", type=int, nargs="+", default=[10_000], metavar="N")
    add_option(parser, "--out", default=None)
    parser.add_argument("--here", type=Path, help="used by the script itself")
    args = parser.parse_args(argv)
    if args.here:
        print(json.dumps(measure(args.n_studies[0], args.here)))
        return 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    found = []
    for n_studies in args.n_studies:
        with tempfile.TemporaryDirectory() as folder:
            options = ["--here", folder, "--n-studies", str(n_studies)]
            done = subprocess.run(
                [sys.executable, *torchrun, "-m", "mura_skorch.distributed", __file__, *options],
                env=os.environ | {"OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        found.append(json.loads(done.stdout.strip().splitlines()[-1]))
    table = pd.DataFrame([row | row.pop("MB") for row in map(dict, found)]).T
    text = f"```\n{table.round(1).to_string(header=False)}\n```\n\n{conditions('seconds and MB')}"
    print(text)
    if args.out is not None:
        sizes = " ".join(map(str, args.n_studies))
        command = f"python experiments/large_table.py --n-studies {sizes} --out {args.out}"
        question = str(__doc__).splitlines()[0] + "\n\n![growth](growth.png)"
        write_record(args.out, "A million studies", question, command, text)
        draw(found, args.out / "growth.png")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
