"""Draw the pictures of the pages, from phantoms, records and runs: ten minutes on two cores.

python docs/pictures/draw.py                    # all that need no browser
python docs/pictures/draw.py front dicom        # some
python docs/pictures/draw.py --browser chromium # screenshots too

What the commands make is kept in docs/_build/pictures and made once.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

from mura_skorch import Augment, MuraClassifier, PatientSplit, read_studies, write_phantoms
from mura_skorch.data import read_view
from mura_skorch.inspection.overlay import map_limit, overlay_map
from mura_skorch.metrics import study_scores
from mura_skorch.phantoms import NOTE
from mura_skorch.plots import TrainingDisplay
from mura_skorch.plots.style import BLUE, GREEN, GREY, LINE_GREY, ORANGE, VERMILLION
from mura_skorch.report import read_report

ROOT = Path(__file__).parents[2]
WORK = ROOT / "docs" / "_build" / "pictures"
OUT = ROOT / "docs" / "_static"
RECORDS = ROOT / "experiments" / "records"
N_COLOURS = 128  # of a screenshot, to keep the repository small
SIZE = (1280, 800)  # pixels of a screenshot
PORT = 5317
MACHINE = "224 px, two cores of an AMD EPYC with AVX-512 bf16"
FLAGS = """--headless --no-sandbox --disable-gpu --hide-scrollbars --disable-background-networking
--virtual-time-budget=8000"""


# What the pictures are made from -----------------------------------------------------------------


def run(out, *command):
    """Run a script in the working folder, unless its results are there."""
    if not (WORK / out).exists():
        alone = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, ROOT / "experiments" / command[0], *command[1:]]
        subprocess.run([*map(str, command), "--out", out], cwd=WORK, env=alone, check=True)
    return WORK / out


def demo():
    """Return the report of `make demo`."""
    return run("demo", "per_body_part.py")


@cache
def wrists():
    """Return phantom wrists, train and valid, and a classifier of them with maps of 7 x 7 cells."""
    if not (WORK / "wrists").exists():
        write_phantoms(WORK / "wrists", n_train=80, n_valid=60, n_test=0, study_types=["XR_WRIST"])
    studies = read_studies(WORK / "wrists")
    train, valid = studies[studies.split == "train"], studies[studies.split == "valid"]
    if not (WORK / "wrist_model").exists():
        MuraClassifier(
            module__weights=None,
            max_epochs=3,
            lr=3e-4,
            train_split=PatientSplit(0.2),
            random_state=1,
            callbacks__mlflow=None,
        ).fit(train).save(WORK / "wrist_model")
    return train, valid, MuraClassifier.load(WORK / "wrist_model")


def lesion_boxes(folder):
    """Return the boxes of the lesions by view."""
    table = pd.read_csv(folder / "lesions.csv")
    return table.assign(view=[str(folder.parent / view) for view in table["view"]]).set_index(
        "view"
    )


def record_table(name, column):
    """Return the table of a record whose header has a column of that name."""
    tables = re.split(r"\n\s*\n", (RECORDS / name / "README.md").read_text())
    lines = next(t for t in tables if t.startswith("|") and column in t.splitlines()[0])
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines.splitlines()]
    return pd.DataFrame([row[: len(rows[0])] for row in rows[2:]], columns=rows[0])


# Helpers of the figures --------------------------------------------------------------------------


def new_figure(width=9.0, height=3.6, **settings):
    """Return a figure and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, figure.subplots(**settings)


def save(figure, name, note=NOTE):
    """Write a figure, with its note, as PNG."""
    if note:
        figure.suptitle(note, color=VERMILLION, fontsize=9, fontweight="bold", x=0.01, ha="left")
    path = OUT / f"{name}.png"
    figure.savefig(path, dpi=130)
    shrink(path)


def shrink(path):
    """Reduce the colours of a PNG file."""
    Image.open(path).convert("RGB").quantize(N_COLOURS).save(path, optimize=True)


def show(ax, picture, title=""):
    """Draw a picture without axes."""
    ax.imshow(picture, cmap="gray", vmin=0, vmax=255)
    ax.set_title(title, fontsize=9)
    ax.set_axis_off()


def plain(ax):
    """Leave only the lower and the left edge of a chart."""
    ax.spines[["top", "right"]].set_visible(False)


def boxes(name, texts, arrows, width=9.0, height=2.6):
    """Draw boxes with text, at positions of a grid, and arrows between them."""
    figure, ax = new_figure(width, height)
    for key, (x, y, text, colour) in texts.items():
        patch = FancyBboxPatch(
            (x - 0.42, y - 0.3), 0.84, 0.6, boxstyle="round,pad=0.04", fc="white", ec=colour, lw=1.6
        )
        ax.add_patch(patch).set_gid(key)
        ax.text(x, y, text, ha="center", va="center", fontsize=8.5)
    for start, end, words in arrows:
        (x0, y0, *_), (x1, y1, *_) = texts[start], texts[end]
        dx = 0.47 * np.sign(x1 - x0)
        dy = 0.35 * np.sign(y1 - y0) if x0 == x1 else 0
        style = {"arrowstyle": "->", "color": GREY, "lw": 1.2}
        ax.annotate("", (x1 - dx, y1 - dy), (x0 + dx, y0 + dy), arrowprops=style)
        ax.text((x0 + x1) / 2, (y0 + y1) / 2 + 0.07, words, ha="center", fontsize=7.5, color=GREY)
    xs, ys = zip(*[(x, y) for x, y, *_ in texts.values()], strict=True)
    ax.set(xlim=(min(xs) - 0.55, max(xs) + 0.55), ylim=(min(ys) - 0.45, max(ys) + 0.45))
    ax.set_axis_off()
    save(figure, name, note=None)


# One function a picture --------------------------------------------------------------------------


def front():
    """Draw a study with its map, beside the kappas of the demo."""
    _, valid, clf = wrists()
    lesions = lesion_boxes(WORK / "wrists")
    scores = clf.predict_proba(valid)[:, 1]
    known = [sum(path in lesions.index for path in views) > 1 for views in valid.views]
    study = valid.iloc[[np.where(known, scores, 0).argmax()]]
    path, cam = next(
        (path, cam)
        for path, cam in zip(study.views.iloc[0], clf.localize(study)[0], strict=True)
        if path in lesions.index
    )
    view, limit = read_view(path), map_limit(cam)
    figure, axes = new_figure(11, 4.0, ncols=3, width_ratios=[1, 1, 1.7])
    show(
        axes[0],
        view,
        f"a view of an abnormal wrist: {scores[valid.index.get_loc(study.index[0])]:.2f}",
    )
    show(axes[1], overlay_map(view, cam, limit), "its map: what raises the score")
    x0, y0, x1, y1 = lesions.loc[path]
    box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor="yellow", lw=1.5)
    axes[1].add_patch(box)
    table = read_report(demo())["inputs"].predictions
    table = study_scores(
        table.label.astype(int), table.score, study_type=table.study_type, groups=table.patient
    )
    forest(axes[2], table)
    save(figure, "front")


def forest(ax, table):
    """Draw kappas with intervals."""
    rows = np.arange(len(table))[::-1]
    ends = [table.kappa - table.kappa_low, table.kappa_high - table.kappa]
    ax.errorbar(table.kappa, rows, xerr=ends, fmt="o", color=BLUE, lw=2)
    ax.set_yticks(rows, [name.removeprefix("XR_").lower() for name in table.study_type])
    ax.set(xlim=(0, 1.02), xlabel="Cohen's kappa, 95 % interval over patients")
    ax.set_title("one model per body part, 40 studies each", fontsize=9)
    ax.grid(axis="x", color=LINE_GREY, lw=0.6)
    plain(ax)


def own_data():
    """Three studies of one, two and three views."""
    _, valid, _ = wrists()
    figure, axes = new_figure(8, 5.4, nrows=3, ncols=4, width_ratios=[1.3, 1, 1, 1])
    for row, n_views in zip(axes, (1, 2, 3), strict=True):
        study = valid[valid.views.map(len) == n_views].iloc[0]
        label = "abnormal" if study.label else "normal"
        words = (
            f"study_type {study.study_type}\npatient {study.patient}\nlabel {study.label} ({label})"
        )
        row[0].text(0, 0.5, words, va="center", fontsize=9, family="monospace")
        for ax in row:
            ax.set_axis_off()
        for ax, path in zip(row[1:], study.views, strict=False):
            show(ax, read_view(path))
    save(figure, "own_data")


def dicom():
    """Draw the same file by its stored values, and as a viewer shows it."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    _, valid, _ = wrists()
    drawn = read_view(valid.views.iloc[0][0]).astype(np.uint16)
    stored = 4095 - (drawn * 6 + 1200)  # MONOCHROME1: high values are dark
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = "1.2.3.4"
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = meta.MediaStorageSOPClassUID, "1.2.3.4"
    file.Rows, file.Columns = stored.shape
    file.BitsAllocated, file.BitsStored, file.HighBit = 16, 12, 11
    file.SamplesPerPixel, file.PixelRepresentation = 1, 0
    file.PhotometricInterpretation = "MONOCHROME1"
    file.WindowCenter, file.WindowWidth = 2130, 1500
    file.PixelData = stored.astype("<u2").tobytes()
    with tempfile.TemporaryDirectory() as folder:
        file.save_as(Path(folder) / "view.dcm", enforce_file_format=True)
        shown = read_view(Path(folder) / "view.dcm")
    figure, axes = new_figure(7, 3.6, ncols=2)
    show(axes[0], stored / 16, "stored values, 12 bits, MONOCHROME1")
    show(axes[1], shown, "what the network reads: window, inverted")
    save(figure, "dicom")


def remote_data():
    """Where views are read from."""
    texts = {
        "store": (0, 0, "s3://, gs://\nor https://", BLUE),
        "cache": (1.6, 0, "cache folder\nprepared views", GREEN),
        "fit": (3.2, 0, "fit, folds,\nsearches", ORANGE),
    }
    boxes(
        "remote_data",
        texts,
        [("store", "cache", "each view, once"), ("cache", "fit", "every epoch")],
        height=1.6,
    )


def scikit_learn():
    """Folds that keep patients together, and folds that do not."""
    from sklearn.model_selection import GroupKFold, KFold

    patients = np.repeat(np.arange(8), [3, 1, 2, 4, 1, 2, 3, 2])
    X = np.zeros((len(patients), 1))
    figure, axes = new_figure(9, 2.9, ncols=2, sharey=True)
    for ax, cv, title in (
        (axes[0], KFold(4), "cv=4; x: the patient is trained on, too"),
        (axes[1], GroupKFold(4), "GroupKFold(4), groups=patient"),
    ):
        for fold, (_, test) in enumerate(cv.split(X, groups=patients)):
            colours = [BLUE if i in set(test) else LINE_GREY for i in range(len(X))]
            ax.scatter(range(len(X)), [fold] * len(X), c=colours, marker="s", s=80)
            cut = set(patients[test]) & set(np.delete(patients, test))
            for i in test:
                if patients[i] in cut:
                    ax.text(i, fold, "x", ha="center", va="center", color="white", fontsize=8)
        for edge in np.flatnonzero(np.diff(patients)) + 0.5:
            ax.axvline(edge, color=GREY, lw=0.5)
        ax.set(yticks=range(4), yticklabels=[f"fold {k + 1}" for k in range(4)])
        ax.set(xlabel="studies; lines separate patients; blue: scored", xticks=[])
        ax.set_title(title, fontsize=9)
        ax.spines[:].set_visible(False)
    save(figure, "scikit_learn", note=None)


def change_a_part():
    """Training curves of two backbones."""
    train, _, _ = wrists()
    rows = []
    for backbone in ("densenet169", "resnet18"):
        clf = MuraClassifier(
            module__backbone=backbone,
            module__weights=None,
            dataset__image_size=96,
            max_epochs=6,
            lr=3e-4,
            train_split=PatientSplit(0.2),
            random_state=0,
            callbacks__mlflow=None,
        ).fit(train)
        rows.append(pd.DataFrame(clf.history.to_list()).assign(name=backbone))
    figure = TrainingDisplay(pd.concat(rows), note=NOTE).plot().figure_
    figure.savefig(OUT / "change_a_part.png", dpi=110)
    shrink(OUT / "change_a_part.png")


def bars(name, labels, values, xlabel, title="", colours=BLUE, note=None):
    """Draw horizontal bars with their numbers."""
    figure, ax = new_figure(8, 0.6 + 0.32 * len(labels))
    found = ax.barh(labels, values, color=colours)
    ax.bar_label(found, fmt="%.3g", padding=3, fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel(xlabel)
    ax.set_title(title, fontsize=9)
    ax.tick_params(labelsize=9)
    plain(ax)
    save(figure, name, note=note)


def backbones():
    """Draw views a second, in training."""
    table = record_table("2026-11-29_backbones", "backbone")
    column = next(i for i, name in enumerate(table.columns) if "train" in name)
    views_per_second = table.iloc[:, column].astype(float)
    bars("backbones", table.iloc[:, 0], views_per_second, "training, views a second", MACHINE)


def recipe():
    """Draw what augmentations make of a view."""
    import torch

    _, valid, _ = wrists()
    view = np.asarray(Image.fromarray(read_view(valid.views.iloc[1][0])).resize((224, 224)))
    batch = torch.tensor(view, dtype=torch.float32)[None, None] / 255
    kinds = {
        "a view": None,
        "flip, ±10°: the default": Augment(),
        "±30°: the paper's v4": Augment(degrees=30),
        "scale .8 to 1.25": Augment(degrees=0, flip=0, scale=(0.8, 1.25)),
    }
    figure, axes = new_figure(10, 3, ncols=4)
    for ax, (title, augment) in zip(axes, kinds.items(), strict=True):
        torch.manual_seed(11)
        picture = batch if augment is None else augment(batch)
        show(ax, (picture[0, 0] * 255).numpy(), title)
    save(figure, "recipe")


def features():
    """Kappa by number of labels."""
    table = record_table("2026-11-29_frozen_features", "kappa")
    n = table.iloc[:, 1].astype(int)
    kappa, low, high = (
        table["kappa"].str.extract(r"([\d.]+) \(([\d.]+), ([\d.]+)\)").astype(float).T.values
    )
    figure, ax = new_figure(7, 3)
    ax.errorbar(n, kappa, yerr=[kappa - low, high - kappa], fmt="o-", color=BLUE, capsize=2)
    ax.set(xlabel="labelled training studies", ylabel="Cohen's kappa, 95 % interval", ylim=(0.4, 1))
    plain(ax)
    save(figure, "features")


def resume():
    """Epochs of a fit that is killed and resumed."""
    figure, ax = new_figure(9, 1.5)
    for epoch in range(10):
        ax.add_patch(Rectangle((epoch, 0), 0.94, 0.5, color=BLUE if epoch < 6 else GREEN))
        ax.text(epoch + 0.47, 0.25, f"{epoch + 1}", ha="center", va="center", color="white")
    ax.add_patch(Rectangle((6, 0.6), 0.5, 0.22, color=LINE_GREY))
    ax.text(6.55, 0.71, "killed here: this part is computed again", va="center", fontsize=8.5)
    ax.text(0, 0.71, "first call", va="center", fontsize=8.5, color=BLUE)
    ax.text(
        10,
        -0.2,
        "the same lines again, in the same MLflow run",
        ha="right",
        va="center",
        fontsize=8.5,
        color=GREEN,
    )
    ax.set(xlim=(-0.1, 10.1), ylim=(-0.35, 0.95))
    ax.set_axis_off()
    save(figure, "resume", note=None)


def clusters():
    """Who does what on a Dask cluster."""
    texts = {
        "you": (0, 0.5, "per_body_part.py\n--dask tcp://head:8786", BLUE),
        "head": (1.7, 0.5, "scheduler", GREY),
        "one": (3.3, 1, "worker: XR_ELBOW", GREEN),
        "two": (3.3, 0, "worker: XR_HAND", GREEN),
        "mlflow": (5.0, 0.5, "MLflow server\none run per type", ORANGE),
    }
    arrows = [
        ("you", "head", "7 fits"),
        ("head", "one", ""),
        ("head", "two", ""),
        ("one", "mlflow", ""),
        ("two", "mlflow", ""),
    ]
    boxes("clusters", texts, arrows)


def several_processes():
    """Who does what in one fit of several processes."""
    texts = {
        "run": (0, 0.5, "torchrun\n--nproc-per-node 2", BLUE),
        "zero": (1.8, 1, "rank 0: half of\nevery batch", GREEN),
        "one": (1.8, 0, "rank 1: the other\nhalf", GREEN),
        "files": (3.6, 1, "MLflow run, checkpoint,\nreport", ORANGE),
    }
    arrows = [("run", "zero", ""), ("run", "one", ""), ("one", "zero", ""), ("zero", "files", "")]
    boxes("several_processes", texts, arrows)


def external_validation():
    """Take the recalibration curve of the report."""
    other = WORK / "other_hospital"
    if not other.exists():
        write_phantoms(
            other, n_train=10, n_valid=150, n_test=0, study_types=["XR_WRIST"], random_state=7
        )
    out = run(
        "external",
        "external.py",
        "--model",
        model_of_demo(),
        "--data",
        other,
        "--split",
        "valid",
        "--own-data",
        "phantoms",
        "--cases",
        0,
    )
    copy_figure(out, "external_recalibration.png", "external_validation")


def model_of_demo(study_type="XR_WRIST"):
    """Return the run of one of the demo's models."""
    demo()
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{WORK}/mlflow.db")
    found = mlflow.search_runs(
        search_all_experiments=True, filter_string=f"tags.study_type = '{study_type}'"
    )
    return found.sort_values("start_time")["run_id"].iloc[0]


def copy_figure(folder, file, name):
    """Take a figure of a report."""
    picture = Image.open(folder / file).convert("RGB")
    picture.thumbnail((1200, 1200))
    picture.save(OUT / f"{name}.png")
    shrink(OUT / f"{name}.png")


def evidence():
    """Net benefit, of the demo's report."""
    copy_figure(demo(), "net_benefit.png", "evidence")


def triage():
    """Answers about new studies, by score and label."""
    folder = WORK / "fingers"
    if not folder.exists():
        write_phantoms(folder, n_train=1, n_valid=200, n_test=0, study_types=["XR_FINGER"])
    studies = read_studies(folder)
    studies = studies[studies.split == "valid"]
    clf = MuraClassifier.load(model_of_demo("XR_FINGER"))
    is_local = studies.patient.rank(method="dense") % 2 == 0
    careful = clf.triage(studies[is_local], error_rate=0.1)
    new = studies[~is_local]
    answers = careful.predict_triage(new)
    figure, ax = new_figure(8, 3)
    colours = {"normal": GREEN, "look yourself": ORANGE, "abnormal": VERMILLION}
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, len(new))
    for answer, colour in colours.items():
        own = (answers["triage"] == answer).to_numpy()
        y = (new.label.astype(int).to_numpy() + jitter)[own]
        ax.scatter(answers["probability"][own], y, color=colour, label=answer, s=22)
    ax.set(yticks=[0, 1], yticklabels=["label normal", "label abnormal"], xlabel="probability")
    ax.legend(fontsize=8, title="answer at an\nerror rate of 10 %", title_fontsize=8,
        loc="center left", bbox_to_anchor=(1, 0.5))  # fmt: skip
    plain(ax)
    save(figure, "triage")


def checklists():
    """How much of each checklist the report fills."""
    rows = {}
    for name, title in (
        ("claim", "CLAIM 2024"),
        ("tripod_ai", "TRIPOD+AI"),
        ("stard_ai", "STARD-AI"),
    ):
        table = pd.read_csv(demo() / f"{name}.csv")
        filled = table.filter(regex="filled|section|where").iloc[:, 0].fillna("").astype(str)
        by_report = ~filled.str.contains("authors", case=False) & (filled != "")
        rows[title] = by_report.sum(), len(table)
    figure, ax = new_figure(7, 1.9)
    for row, (filled, total) in enumerate(rows.values()):
        ax.barh(row, filled, color=BLUE, label="from the report" if not row else None)
        ax.barh(
            row,
            total - filled,
            left=filled,
            color=LINE_GREY,
            label="by the authors, in whole or in part" if not row else None,
        )
    ax.set_yticks(range(3), list(rows))
    ax.invert_yaxis()
    ax.set_xlabel("lines of the checklist")
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    plain(ax)
    save(figure, "checklists")


def serving():
    """From a request to an answer."""
    texts = {
        "program": (0, 0, "your program:\nviews as base64", BLUE),
        "server": (1.8, 0, "mura-skorch serve", GREEN),
        "answer": (3.6, 0, "probability, decision,\ntriage, maps", ORANGE),
    }
    boxes(
        "serving",
        texts,
        [("program", "server", "POST /invocations"), ("server", "answer", "JSON")],
        height=1.6,
    )


def fast_prediction():
    """How much faster, by engine."""
    text = (ROOT / "docs" / "reference" / "speed.md").read_text()
    rows = re.findall(
        r"\| prediction by ([^|]+?)(?:, cache filled)? \| the blog's loop \| ([\d.]+)", text
    )
    names, values = zip(*rows, strict=True)
    labels, values = ["a loop of one study a step", *names], [1.0, *map(float, values)]
    colours = [LINE_GREY] + [BLUE] * len(names)
    bars("fast_prediction", labels, values, "studies a second, relative", MACHINE, colours)


def export():
    """Draw what a model needs where it is used."""
    bars(
        "export",
        ["with torch (general build)", "exported"],
        [6.0, 0.2],
        "GB that must be installed",
        colours=[LINE_GREY, BLUE],
    )


# Screenshots -------------------------------------------------------------------------------------


def shoot(browser, url, name, size=SIZE):
    """Take a picture of a page."""
    path = OUT / f"{name}.png"
    with tempfile.TemporaryDirectory() as profile:
        own = [f"--user-data-dir={profile}", f"--screenshot={path}"]
        command = [browser, *FLAGS.split(), *own, f"--window-size={size[0]},{size[1]}", url]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    shrink(path)


def report(browser):
    """Take the head of the demo's report."""
    shoot(browser, (demo() / "report.html").as_uri(), "report")


def notebooks(browser):
    """Take what a fitted model shows in a notebook."""
    train, _, _ = wrists()
    page = WORK / "notebook.html"
    clf = MuraClassifier(
        module__weights=None, dataset__image_size=96, max_epochs=4, lr=3e-4, random_state=0,
        train_split=PatientSplit(0.3), callbacks__mlflow=None,
    )  # fmt: skip
    page.write_text(f"<body style='font: 14px sans-serif'>{clf.fit(train)._repr_html_()}</body>")
    shoot(browser, page.as_uri(), "notebooks", size=(640, 280))


def label_review(browser):
    """Take the page of suspects."""
    data = wrists() and WORK / "wrists"
    out = run(
        "review",
        "review_labels.py",
        "--data",
        data,
        "--flip",
        0.05,
        "--image-size",
        224,
        "--weights",
        "none",
        "--cache",
        "cache",
    )
    shoot(browser, (out / "review.html").as_uri(), "label_review")


def sweeps(browser):
    """Take the page of a sweep."""
    out = run(
        "sweep",
        "sweep.py",
        "--trials",
        8,
        "--n-random",
        4,
        "--space",
        "lr=1e-5:1e-2:log",
        "batch_size=4,8",
        "--max-epochs",
        2,
    )
    shoot(browser, (out / "sweep.html").as_uri(), "sweeps")


def tracking(browser):
    """Take the runs of the demo in MLflow."""
    demo()
    mlflow = Path(sys.executable).with_name("mlflow")
    command = [
        mlflow,
        "ui",
        "--port",
        PORT,
        "--workers",
        1,
        "--backend-store-uri",
        f"sqlite:///{WORK}/mlflow.db",
    ]
    quiet = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(
        list(map(str, command)), cwd=WORK, env=quiet, stderr=subprocess.DEVNULL
    ) as server:
        try:
            base = f"http://127.0.0.1:{PORT}"
            for _ in range(60):
                time.sleep(1)
                try:
                    urllib.request.urlopen(f"{base}/health")
                    break
                except OSError:
                    continue
            order = "orderByKey=metrics.%60test%2Fkappa%60&orderByAsc=false"
            runs = f"{base}/#/experiments/1/runs?workflowType=machine_learning&{order}"
            shoot(browser, runs, "tracking")
        finally:
            server.terminate()


FIGURES = [
    front,
    own_data,
    dicom,
    remote_data,
    scikit_learn,
    change_a_part,
    backbones,
    recipe,
    features,
    resume,
    clusters,
    several_processes,
    external_validation,
    evidence,
    triage,
    checklists,
    serving,
    fast_prediction,
    export,
]
SCREENSHOTS = [report, notebooks, label_review, sweeps, tracking]


def main():
    """Draw what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="pictures (default: all)")
    parser.add_argument("--browser", help="chromium or chrome, for screenshots")
    args = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    OUT.mkdir(exist_ok=True)
    for draw in FIGURES:
        if not args.names or draw.__name__ in args.names:
            print(draw.__name__, flush=True)
            draw()
    for take in SCREENSHOTS if args.browser else []:
        if not args.names or take.__name__ in args.names:
            print(take.__name__, flush=True)
            take(args.browser)


if __name__ == "__main__":
    main()
