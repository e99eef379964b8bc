"""What does a compiled backbone gain? Measure its compilation and the speed of its steps.

python experiments/compile_backbone.py
python experiments/compile_backbone.py --backbone resnet18 --image-size 64 --rounds 3
python experiments/compile_backbone.py --out experiments/records/2026-11-29_compile

Two processes measure one after the other: the first compiles with an empty cache, the second finds
all that the first has compiled. In each, a compiled and a plain network take turns on the same
minibatches of random views, so that other work on the machine slows both. Reading images is not
part of it. No clinical meaning.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch

from mura_skorch import MuraClassifier
from mura_skorch.cli.options import add_option, make_parser
from mura_skorch.cli.scripts import write_record
from mura_skorch.utils.provenance import conditions

# Views of the minibatches of 8 studies: MURA's have 22 on average.
MINIBATCHES = (22, 18, 27, 20)
N_STUDIES = 8
TRAINING_VIEWS = 36_808  # of MURA's training part, which an epoch computes
PHASES = ("train", "predict")


def make_classifier(backbone: str, image_size: int, **params: Any) -> MuraClassifier:
    """Return a classifier with random weights, off the record."""
    return MuraClassifier(
        module__backbone=backbone,
        module__weights=None,
        dataset__image_size=image_size,
        criterion=torch.nn.BCEWithLogitsLoss,  # needs no class weights
        random_state=0,
        verbose=0,
        callbacks__mlflow=None,
        **params,
    ).initialize()


def make_batch(n_views: int, image_size: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return studies of random views, and their labels."""
    generator = torch.Generator().manual_seed(n_views)
    most = -(-n_views // N_STUDIES)
    counts = torch.full((N_STUDIES,), n_views // N_STUDIES)
    counts[: n_views % N_STUDIES] += 1
    size = (N_STUDIES, most, image_size, image_size)
    inputs = {
        "views": torch.randint(0, 256, size, generator=generator, dtype=torch.uint8),
        "view_mask": torch.arange(most) < counts[:, None],
        "study_type": torch.zeros(N_STUDIES, dtype=torch.int64),
    }
    return inputs, (torch.arange(N_STUDIES) % 2).float()


def seconds_of(step: Callable[[Any], Any], batch: Any) -> float:
    """Return how long a step takes."""
    begin = time.perf_counter()
    step(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def measure(args: Any) -> dict[str, Any]:
    """Return the seconds of first steps and of the rounds, by phase."""
    params = {"device": args.device, "precision": args.precision}
    nets = {
        is_compiled: make_classifier(
            args.backbone, args.image_size, module__compile=is_compiled, **params
        )
        for is_compiled in (False, True)
    }
    batches = [make_batch(n_views, args.image_size) for n_views in MINIBATCHES]

    def step(phase: str, *, is_compiled: bool) -> Callable[[Any], Any]:
        net = nets[is_compiled]
        return net.train_step if phase == "train" else net.evaluation_step

    found: dict[str, Any] = {"precision": nets[True].precision_, "threads": nets[True].threads_}
    for phase in PHASES:
        plain, compiled = (step(phase, is_compiled=is_compiled) for is_compiled in (False, True))
        first = seconds_of(compiled, batches[0])
        again = [seconds_of(compiled, batch) for batch in batches]  # oneDNN's own kernels
        for batch in batches:
            plain(batch)
        found[f"{phase} first"] = first - again[0]
        found[f"{phase} ratios"], found[f"{phase} gains"] = [], []
        for _ in range(args.rounds):
            pairs = [(seconds_of(plain, b), seconds_of(compiled, b)) for b in batches]
            of_plain, of_compiled = (sum(column) for column in zip(*pairs, strict=True))
            found[f"{phase} ratios"].append(of_plain / of_compiled)
            found[f"{phase} gains"].append((of_plain - of_compiled) / sum(MINIBATCHES))
    return found


def measure_elsewhere(args: Any, cache: str) -> dict[str, Any]:
    """Return what a process of its own measures that keeps compiled code in a folder."""
    command = [sys.executable, __file__, "--here", "--backbone", args.backbone]
    command += ["--image-size", str(args.image_size), "--rounds", str(args.rounds)]
    command += ["--device", args.device, "--precision", args.precision]
    if args.threads:
        command += ["--threads", str(args.threads)]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def report(args: Any, cold: dict[str, Any], warm: dict[str, Any]) -> str:
    """Return a table, and after how many epochs the compilation has paid."""
    lines = ["| | cold | warm |", "| --- | --- | --- |"]
    for phase in PHASES:
        row = [f"{found[f'{phase} first']:.0f} s" for found in (cold, warm)]
        lines.append(f"| first step of {phase}, beyond a usual one | {' | '.join(row)} |")
    for phase in PHASES:
        row = []
        for found in (cold, warm):
            ratios = found[f"{phase} ratios"]
            row.append(f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
        lines.append(f"| plain by compiled, {phase} | {' | '.join(row)} |")
    gain = TRAINING_VIEWS * statistics.median(cold["train gains"] + warm["train gains"])
    cells = [
        f"{sum(found[f'{phase} first'] for phase in PHASES) / gain:.2f}" if gain > 0 else "never"
        for found in (cold, warm)
    ]
    lines.append(f"| epochs of MURA until it has paid | {' | '.join(cells)} |")
    details = (
        f"{args.backbone} at {args.image_size} pixels in {cold['precision']} on {cold['threads']} "
        f"threads, minibatches of {N_STUDIES} studies with {', '.join(map(str, MINIBATCHES))} "
        f"views, median of {args.rounds} rounds in turn; an epoch of MURA has {TRAINING_VIEWS:,} "
        "views"
    )
    return "\n".join([*lines, "", conditions(details)])


def main(argv=None):
    """Measure, print the table, write it to a folder if one is given; return 0."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbone", default="densenet169")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    parser.add_argument("--here", action="store_true", help="measure once, in this process")
    add_option(parser, "--image-size", default=224)
    add_option(parser, "--device")
    add_option(parser, "--threads")
    add_option(parser, "--out", default=None, help="folder for README.md")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.here:
        print(json.dumps(measure(args)))
        return 0
    with tempfile.TemporaryDirectory() as cache:
        cold = measure_elsewhere(args, cache)
        print(f"cold: {json.dumps(cold)}", file=sys.stderr, flush=True)
        warm = measure_elsewhere(args, cache)
    text = report(args, cold, warm)
    print(text)
    if args.out is not None:
        command = f"python experiments/compile_backbone.py --out {args.out} --rounds {args.rounds}"
        question = (__doc__ or "").splitlines()[0]
        write_record(args.out, "A compiled backbone", question, command, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
