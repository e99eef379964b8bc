"""Make a folder of MURA v1.1's structure and size, without its radiographs."""

import os
from itertools import product

import numpy as np

from mura_skorch.evaluation.published import STUDY_COUNTS
from mura_skorch.evaluation.published.counts import IMAGE_COUNTS, PATIENT_COUNTS, VIEW_COUNTS
from mura_skorch.metrics import OVERALL

LABELS = ("negative", "positive")


def full_size_studies():
    """Return {study folder: number of views} with all published counts of MURA v1.1."""
    studies = {}
    for number, split in enumerate(STUDY_COUNTS):
        first = 1 + 20_000 * number
        owners = patients_of_types(split, first)
        views = views_of_cells(split)
        for study_type, labels in STUDY_COUNTS[split].items():
            own, n_studies = owners[study_type], sum(labels)
            # Every patient has one study; the first ones have the rest, up to four.
            patients = (own * 4)[:n_studies]
            label = np.repeat([0, 1], labels)
            np.random.default_rng(0).shuffle(label)
            drawn = {value: iter(views[study_type, value]) for value in (0, 1)}
            seen = {}
            for patient, value in zip(patients, label.tolist(), strict=True):
                seen[patient] = seen.get(patient, 0) + 1
                folder = f"{split}/{study_type}/patient{patient:05d}"
                studies[f"{folder}/study{seen[patient]}_{LABELS[value]}"] = next(drawn[value])
    return studies


def patients_of_types(split, first):
    """Return {study type: its patients}, so that types share as many as the totals need."""
    room = {name: n for name, n in PATIENT_COUNTS[split].items() if name != OVERALL}
    n_patients = PATIENT_COUNTS[split][OVERALL]
    extra = sum(room.values()) - n_patients
    owners = {name: [] for name in room}
    for i in range(n_patients):
        # The first have three types, then two, then one: 13 % of train span types, 32 % of valid.
        n_spanning = round({"train": 0.13, "valid": 0.32}[split] * n_patients)
        n_types = 1 + (i < n_spanning) + (i < extra - n_spanning)
        for name in sorted(room, key=room.get, reverse=True)[:n_types]:
            owners[name].append(first + i)
            room[name] -= 1
    return owners


def views_of_cells(split):
    """Return {(study type, label): views of its studies} that give images and distribution."""
    cells = list(product(STUDY_COUNTS[split], (0, 1)))
    pool = np.repeat(list(VIEW_COUNTS[split]), list(VIEW_COUNTS[split].values()))
    np.random.default_rng(0).shuffle(pool)
    sizes = [STUDY_COUNTS[split][name][label] for name, label in cells]
    parts = [part.tolist() for part in np.split(pool, np.cumsum(sizes)[:-1])]
    wanted = [IMAGE_COUNTS[split][name][label] for name, label in cells]
    while surplus := [i for i, part in enumerate(parts) if sum(part) > wanted[i]]:
        # Studies change places until each cell has its images; one image a swap.
        rich = surplus[0]
        poor = next(i for i, part in enumerate(parts) if sum(part) < wanted[i])
        n = next(n for n in parts[rich] if n - 1 in parts[poor])
        i, j = parts[rich].index(n), parts[poor].index(n - 1)
        parts[rich][i], parts[poor][j] = n - 1, n
    return dict(zip(cells, parts, strict=True))


def write_full_size(root, picture):
    """Write the folder and its CSV files; every image is a copy of one picture."""
    data = picture.read_bytes()
    lines = {}
    for study, n_views in full_size_studies().items():
        folder, split = os.path.join(root, study), study.split("/")[0]
        os.makedirs(folder)
        label = int(study.endswith("positive"))
        listed = f"MURA-v1.1/{study}/"
        lines.setdefault(f"{split}_labeled_studies.csv", []).append(f"{listed},{label}\n")
        for i in range(1, n_views + 1):
            with open(os.path.join(folder, f"image{i}.png"), "wb") as image:
                image.write(data)
            lines.setdefault(f"{split}_image_paths.csv", []).append(f"{listed}image{i}.png\n")
    for name, rows in lines.items():
        (root / name).write_text("".join(rows))
    return root
