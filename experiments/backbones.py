"""How fast is each backbone? Measure its speed, its size and the error of its activation maps.

python experiments/backbones.py
python experiments/backbones.py --backbones resnet50 timm:convnext_atto --rounds 5
python experiments/backbones.py --out experiments/records/2026-11-29_backbones

Random views of 224 pixels and random weights: speed depends on neither. Reading and decoding images
is not part of it. In each round the backbones take turns, so that other work on the machine slows
all of them; a figure is the median of the rounds. No clinical meaning.
"""

import gc
import statistics
import sys
import time
from typing import Any

import pandas as pd
import torch

from mura_skorch import MuraClassifier
from mura_skorch.cli.options import add_option, make_parser
from mura_skorch.cli.scripts import write_record
from mura_skorch.utils.provenance import conditions

BACKBONES = [
    "densenet169",
    "densenet121",
    "resnet18",
    "resnet50",
    "regnet_y_400mf",
    "efficientnet_b0",
    "mobilenet_v2",
    "convnext_tiny",
    "swin_t",
    "timm:vit_small_patch16_224",
]
N_STUDIES, N_VIEWS = 8, 2  # of a batch, and of each study: MURA's default batch has 22 views
LARGEST_LOGIT = 3.0  # of a view: errors of maps are of this size


def make_classifier(backbone: str, image_size: int, **params: Any) -> MuraClassifier:
    """Return a classifier with random weights, off the record."""
    if backbone.startswith("timm:vit"):
        params["module__global_pool"] = "avg"  # with a class token it has no maps
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


def make_batch(image_size: int) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Return studies of random views, and their labels."""
    generator = torch.Generator().manual_seed(0)
    size = (N_STUDIES, N_VIEWS, image_size, image_size)
    inputs = {
        "views": torch.randint(0, 256, size, generator=generator, dtype=torch.uint8),
        "view_mask": torch.ones(N_STUDIES, N_VIEWS, dtype=torch.bool),
        "study_type": torch.zeros(N_STUDIES, dtype=torch.int64),
    }
    return inputs, (torch.arange(N_STUDIES) % 2).float()


@torch.no_grad()
def map_error(clf: MuraClassifier, inputs: dict[str, torch.Tensor]) -> float | None:
    """Return the largest difference of a map's mean plus bias from its view's logit, or None."""
    net = clf.module_.eval()
    views = inputs["views"][:1], inputs["view_mask"][:1]
    features = net.view_features(*views)
    weight = torch.randn(features.shape[1], generator=torch.Generator().manual_seed(0))
    net.head.weight[0] = LARGEST_LOGIT * weight / (features.cpu() @ weight).abs().max()
    try:
        maps = net.activation_maps(*views)
    except TypeError:
        return None
    logit = net(*views)[1]
    return float((maps.mean(dim=(1, 2)) + net.head.bias - logit).abs().max())


def views_per_second(step: Any, batch: Any) -> float:
    """Return how many views a step computes in a second."""
    begin = time.perf_counter()
    step(batch)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return N_STUDIES * N_VIEWS / (time.perf_counter() - begin)


def measure(backbones: list[str], image_size: int, rounds: int, **params: Any) -> pd.DataFrame:
    """Return a row per backbone: size, error of maps, views per second."""
    batch = make_batch(image_size)
    rows, classifiers = {}, {}
    for name in backbones:
        float32 = make_classifier(name, image_size, **params | {"precision": "float32"})
        inputs = {key: value.to(float32.where_) for key, value in batch[0].items()}
        n_parameters = sum(value.numel() for value in float32.module_.parameters())
        rows[name] = {
            "parameters (millions)": n_parameters / 1e6,
            "features": float32.module_.head.in_features,
            "map error": map_error(float32, inputs),
        }
        classifiers[name] = make_classifier(name, image_size, **params)
    speeds: dict[tuple[str, str], list[float]] = {}
    for number in range(rounds + 1):
        for name, clf in classifiers.items():
            for kind, step in (("predict", clf.evaluation_step), ("train", clf.train_step)):
                speed = views_per_second(step, batch)
                if number:  # the first round compiles kernels and fills memory
                    speeds.setdefault((name, kind), []).append(speed)
            gc.collect()
        print(f"round {number} of {rounds}", file=sys.stderr, flush=True)
    for name, row in rows.items():
        for kind in ("predict", "train"):
            found = speeds[name, kind]
            row[f"{kind}, views/s"] = statistics.median(found)
            row[f"{kind}, lowest to highest"] = f"{min(found):.1f} to {max(found):.1f}"
    precision = next(iter(classifiers.values())).precision_
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"backbone, {precision}")


def as_markdown(table: pd.DataFrame) -> str:
    """Return the table with numbers as readers want them."""
    formats = {
        "parameters (millions)": "{:.1f}",
        "map error": "{:.0e}",
        "predict, views/s": "{:.1f}",
        "train, views/s": "{:.1f}",
    }
    text = table.copy().astype(object)
    for name, form in formats.items():
        text[name] = ["none" if pd.isna(v) else form.format(v) for v in table[name]]
    header = [str(table.index.name), *map(str, table.columns)]
    rows = [[str(name), *map(str, row)] for name, row in zip(text.index, text.values, strict=True)]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(argv=None):
    """Measure, print the table, write it to a folder if one is given; return 0."""
    parser = make_parser(__doc__)
    parser.add_argument("--backbones", nargs="+", default=BACKBONES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bfloat16"])
    add_option(parser, "--image-size", default=224)
    add_option(parser, "--device")
    add_option(parser, "--threads")
    add_option(parser, "--out", default=None, help="folder for README.md")
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    table = measure(
        args.backbones,
        args.image_size,
        args.rounds,
        device=args.device,
        precision=args.precision,
    )
    details = (
        f"batches of {N_STUDIES} studies of {N_VIEWS} views of {args.image_size} pixels, median of "
        f"{args.rounds} rounds in turn after a warm-up"
    )
    text = f"{as_markdown(table)}\n\n{conditions(details)}"
    print(text)
    if args.out is not None:
        command = f"python experiments/backbones.py --out {args.out} --rounds {args.rounds}"
        question = (__doc__ or "").splitlines()[0]
        write_record(args.out, "Backbones", question, command, text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
