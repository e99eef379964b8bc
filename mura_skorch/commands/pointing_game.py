"""What ``mura-skorch pointing-game`` does: compare peaks of maps with lesion boxes."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mura_skorch import MuraClassifier, PatientSplit, read_studies
from mura_skorch.callbacks import EpochLine
from mura_skorch.commands import CommandError
from mura_skorch.commands.data import find_data, weights_or_none
from mura_skorch.commands.runs import runs_sentence
from mura_skorch.commands.threads import use_threads
from mura_skorch.data import read_view
from mura_skorch.evaluation import join_notes
from mura_skorch.inspection import LEGEND, peak_in_box, peak_of, pointing_scores
from mura_skorch.plots import MapDisplay
from mura_skorch.tracking import TrackedRun, use_experiment

__all__ = ["main"]

PHANTOMS = Path("phantoms_wrist")
N_DRAWN = {"n_train": 150, "n_valid": 120, "n_test": 0}  # studies
N_SHOWN = 3  # hits, and views without a hit, in the figure
TRAINING = ("weights", "image_size", "max_epochs", "lr", "random_state")  # unused with --model


def main(args: Namespace) -> int:
    """Train or load a model, run the pointing game, write the results; return 0."""
    use_threads(args)
    try:
        studies, lesions = read(args)
        experiment_id = use_experiment(args.experiment, note=join_notes(studies))
        clf = MuraClassifier.load(args.model, device=args.device) if args.model else None
    except (OSError, ValueError) as error:
        raise CommandError(error) from error
    note = join_notes(studies)
    used = vars(args)
    if clf is not None:
        used = {name: value for name, value in used.items() if name not in TRAINING}
    print(note or "", *(f"{name}={value}" for name, value in used.items()), flush=True)
    args.out.mkdir(parents=True, exist_ok=True)
    with TrackedRun(name="pointing_game", note=note) as run:
        if clf is None:
            clf = train(studies[studies.split == "train"], args, run)
        else:
            run.log_params({"model": args.model})
        valid = studies[(studies.split == "valid") & (studies.label == 1)]
        games, maps = play(clf, valid, lesions)
        cells = maps[0][-1].shape
        results = pointing_scores(games, cells)
        games.assign(note=note).to_csv(args.out / "views.csv", index=False)
        results.assign(note=note).to_csv(args.out / "results.csv", index=False)
        draw(games, maps, note).savefig(args.out / "maps.png", dpi=110, bbox_inches="tight")
        run.log_folder(args.out)
        overall = results.iloc[0].drop("views")
        run.log_metrics({f"pointing/{name}": value for name, value in overall.items()})
    print(f"\n{results.round(3).to_string(index=False)}\n{note or ''}\n")
    print(*(f"{name:>9}  {words}" for name, words in LEGEND.items()), sep="\n")
    print(f"Maps have {cells[0]} x {cells[1]} cells; those of larger images have more.")
    print(f"\nResults: {args.out}/")
    print(runs_sentence(experiment_id))
    return 0


def train(studies, args, run):
    """Fit a classifier, logged in the run."""
    clf = MuraClassifier(
        module__weights=weights_or_none(args.weights),
        dataset__image_size=args.image_size,
        max_epochs=args.max_epochs,
        lr=args.lr,
        train_split=PatientSplit(0.2),
        device=args.device,
        random_state=args.random_state,
        callbacks__mlflow__run_id=run,
        callbacks__print_log=EpochLine("training"),
    ).fit(studies)
    if clf.interrupted_:
        raise KeyboardInterrupt
    return clf


def play(clf, studies, lesions):
    """Return one row per view with a box, and the maps of these views."""
    rows, maps = [], []
    scores = clf.predict_view_proba(studies)
    for study, own, y_score in zip(
        studies.itertuples(), clf.localize(studies), scores, strict=True
    ):
        for number, (path, cam, score) in enumerate(zip(study.views, own, y_score, strict=True), 1):
            if path not in lesions.index:  # the lesion is not visible in this view
                continue
            box, size = lesions.loc[path].to_numpy(), read_view(path).shape
            x0, y0, x1, y1 = box / np.tile(size[::-1], 2)
            x, y = peak_of(cam, (1, 1))
            rows.append(
                {
                    "study": study.study,
                    "study_type": study.study_type,
                    "patient": study.patient,
                    "view": number,
                    "score": float(score),
                    "called": float(score) > clf.threshold_,
                    "hit": peak_in_box(cam, box, size),
                    # As fractions of the view's width and height.
                    "x": x,
                    "y": y,
                    "x0": x0,
                    "y0": y0,
                    "x1": x1,
                    "y1": y1,
                }
            )
            maps.append((path, box, cam))
    return pd.DataFrame(rows), maps


def draw(games, maps, note):
    """Return a figure of random hits, above random views without a hit."""
    found = {"hit": games.index[games.hit], "no hit": games.index[~games.hit]}
    rng = np.random.default_rng(0)
    found = {name: rng.permutation(some)[:N_SHOWN] for name, some in found.items() if len(some)}
    n_columns = max(map(len, found.values()))
    figure = Figure(figsize=(5 * n_columns, 3.2 * len(found)), layout="compressed")
    axes = figure.subplots(len(found), 2 * n_columns, squeeze=False)
    for row, (name, some) in zip(axes, found.items(), strict=True):
        for column in range(n_columns):
            pair = row[2 * column : 2 * column + 2]
            if column >= len(some):
                for ax in pair:
                    ax.set_axis_off()
                continue
            game, (path, box, cam) = games.loc[some[column]], maps[some[column]]
            title = f"{name}: {game.patient}, view {game['view']}\nscore {game.score:.2f}"
            MapDisplay(read_view(path), cam, box=box, title=title, note=note).plot(pair)
    return figure


def read(args):
    """Return the studies, and the lesion boxes by path of the view."""
    args.data = find_data(args.data, PHANTOMS, study_types=["XR_WRIST"], **N_DRAWN)
    root = Path(args.data).resolve()
    if not (root / "lesions.csv").is_file():
        raise FileNotFoundError(f"{root}: expected phantoms with a lesions.csv, got none")
    lesions = pd.read_csv(root / "lesions.csv")
    lesions.index = [str(root.parent / view) for view in lesions.pop("view")]
    studies = read_studies(root)
    if args.study_types:
        studies = studies[studies.study_type.isin(args.study_types)]
    if not {"train", "valid"} <= set(studies[studies.label == 1].split):
        raise ValueError(f"expected abnormal studies in train and valid of {root}, got none")
    played = studies[(studies.split == "valid") & (studies.label == 1)]
    if not played["views"].explode().isin(lesions.index).any():
        raise ValueError(
            f"expected a view with a lesion in the {len(played)} abnormal studies of {root}/valid, "
            "got none in lesions.csv; draw more studies, or pass other --study-types"
        )
    return studies, lesions
