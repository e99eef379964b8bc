"""Write phantoms to disk in MURA's folder layout, with a CSV file of the lesions' boxes."""

import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mura_skorch.phantoms.anatomy import SITES
from mura_skorch.phantoms.drawing import draw_view
from mura_skorch.phantoms.tubes import LESION_WEIGHTS, LESIONS, Lesion
from mura_skorch.utils.progress import map_in_threads

MURA_TYPES = tuple(sorted(SITES))
NOTE = "phantoms: no clinical meaning"

ABNORMAL = 0.45  # share of the studies
# MURA has 1 to 13 views per study, 2.7 on average. Phantoms have fewer, for speed, and their number
# does not depend on the label.
N_VIEWS, N_VIEWS_WEIGHTS = (1, 2, 3, 4, 5), (0.26, 0.40, 0.24, 0.07, 0.03)
N_STUDIES, N_STUDIES_WEIGHTS = (1, 2, 3), (0.72, 0.2, 0.08)  # studies of a patient
HIDDEN = 0.12  # share of fractures that one of three or more views does not show

_NOTE_TEXT = f"""{NOTE}

These pictures were drawn by a program. They are no radiographs and show no patient. They serve to
test software: figures measured on them say nothing about radiographs.
"""


# Fast settings of Pillow with small files for grainy pictures; 3 is zlib's run-length strategy.
_PNG: dict[str, dict[str, Any]] = {"L": {"compress_type": 3}, "RGB": {"compress_level": 2}}


class _Study(NamedTuple):
    """A study to draw: its folder and its seed."""

    folder: str
    study_type: str
    label: int
    seed: tuple[int, ...]


def write_phantoms(
    root: str | os.PathLike[str],
    *,
    n_train: int = 100,
    n_valid: int = 40,
    n_test: int = 5,
    study_types: Sequence[str] = MURA_TYPES,
    random_state: int = 0,
) -> Path:
    """Write a miniature of MURA v1.1 with drawn radiographs.

    Parameters
    ----------
    root : str or path-like
        A new or empty folder.
    n_train, n_valid, n_test : int, default=100, 40, 5
        Studies per study type in each split; `n_train` at least 1, the others may be 0.
    study_types : sequence of str, default=MURA_TYPES
        Which of MURA's seven types to draw.
    random_state : int, default=0
        Seed. The same value gives the same files, byte for byte, with the same versions of NumPy
        and Pillow.

    Returns
    -------
    root : Path
        The complete folder. An interrupted call leaves nothing behind.

    Raises
    ------
    FileExistsError
        If `root` is a file or a folder that is not empty.
    ValueError
        If a count, a study type or `random_state` is out of range.

    Notes
    -----
    About 45 % of the studies are abnormal, with a fracture line, a displaced fragment or hardware.
    If a type has two or more studies in a split, both classes occur; a single study is normal.

    The folder contains ``train`` and ``valid`` with their CSV files as in v1.1, and an unlabelled
    ``test`` whose study folders are named ``study1``. ``NOTE.txt`` and the text chunk ``Comment``
    of each PNG say that the pictures have no clinical meaning. ``lesions.csv``
    (``view,x0,y0,x1,y1``) has a box in pixels, x1 and y1 exclusive, for each view that shows a
    lesion, in all splits. The number of views, the size, the side marker, and the mean and spread
    of the intensity do not depend on the label.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent:
    ...     root = write_phantoms(
    ...         Path(parent, "phantoms"), n_train=2, n_valid=1, n_test=0, study_types=["XR_HAND"]
    ...     )
    ...     sorted(path.name for path in root.iterdir())  # doctest: +NORMALIZE_WHITESPACE
    ['NOTE.txt', 'lesions.csv', 'train', 'train_image_paths.csv', 'train_labeled_studies.csv',
     'valid', 'valid_image_paths.csv', 'valid_labeled_studies.csv']
    """
    counts = {"train": n_train, "valid": n_valid, "test": n_test}
    types = _check_arguments(counts, study_types, random_state)
    target = Path(root).expanduser().resolve()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise FileExistsError(
            f"{target}: expected a new or an empty folder, got one with files, or a file. "
            "Pass another path, or delete it first."
        )
    plan = _plan(counts, types, int(random_state))
    draft = target.parent / f".{target.name}-{uuid.uuid4().hex[:8]}"
    draft.mkdir(parents=True)
    try:
        _write(draft, target.name, plan, int(random_state))
        if target.exists():
            target.rmdir()
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Path(root)


# ------------------------------------------------------------------ what to draw


def _check_arguments(counts: dict[str, Any], study_types: Any, random_state: Any) -> list[str]:
    """Return the study types, sorted."""
    for split, n in counts.items():
        least = 1 if split == "train" else 0
        if not isinstance(n, Integral) or isinstance(n, bool) or n < least:
            raise ValueError(f"expected n_{split} to be an int of at least {least}, got {n!r}")
    types = list(study_types) if np.iterable(study_types) else [study_types]
    if isinstance(study_types, str) or not all(isinstance(t, str) for t in types):
        raise ValueError(
            f"expected study_types to be a list of str, got {study_types!r}. "
            'Pass ["XR_WRIST"] for one type.'
        )
    if not types or len(set(types)) < len(types) or not set(types) <= set(MURA_TYPES):
        raise ValueError(
            f"expected study_types to be different ones of {', '.join(MURA_TYPES)}, got {types!r}"
        )
    if not isinstance(random_state, Integral) or random_state < 0:
        raise ValueError(f"expected random_state to be an int of at least 0, got {random_state!r}")
    return sorted(types)


def _plan(
    counts: dict[str, int], study_types: Sequence[str], random_state: int
) -> dict[str, list[_Study]]:
    """Return the studies of each split, in random order, with their patients and labels."""
    plan: dict[str, list[_Study]] = {}
    patient = 0
    for at, (split, n) in enumerate(counts.items()):
        rng = np.random.default_rng([random_state, 0, at])
        slots: list[tuple[str, int, int]] = []
        for study_type in study_types:
            n_abnormal = round(ABNORMAL * n)
            if n >= 2:
                n_abnormal = min(max(n_abnormal, 1), n - 1)
            labels = rng.permutation(np.arange(n) < n_abnormal).astype(int)
            slots += [(study_type, k, int(label)) for k, label in enumerate(labels)]
        order = rng.permutation(len(slots))
        plan[split] = []
        while len(plan[split]) < len(slots):
            patient += 1
            numbers: dict[str, int] = {}
            done = len(plan[split])
            for slot in order[done : done + rng.choice(N_STUDIES, p=N_STUDIES_WEIGHTS)]:
                study_type, k, label = slots[slot]
                numbers[study_type] = numbers.get(study_type, 0) + 1
                suffix = "" if split == "test" else ("_negative", "_positive")[label]
                folder = (
                    f"{split}/{study_type}/patient{patient:05d}/study{numbers[study_type]}{suffix}"
                )
                seed = (random_state, 1, at, MURA_TYPES.index(study_type), k)
                plan[split].append(_Study(folder, study_type, label, seed))
    return plan


# ------------------------------------------------------------------ to disk


def _write(draft: Path, name: str, plan: dict[str, list[_Study]], random_state: int) -> None:
    """Draw all studies into the draft folder, then list them in the CSV files."""
    studies = [study for split in plan.values() for study in split]
    # Threads are enough because NumPy and Pillow release the interpreter lock. Each study has its
    # own seed, so the order does not matter.
    drawn = map_in_threads(
        lambda study: _draw_study(draft, study), studies, desc="phantoms", unit="study"
    )
    views = {study.folder: found for study, found in zip(studies, drawn, strict=True)}
    rng = np.random.default_rng([random_state, 2])
    for split in ("train", "valid"):
        if not plan[split]:
            continue
        order = [plan[split][k] for k in rng.permutation(len(plan[split]))]
        labels = [(f"{name}/{study.folder}/", study.label) for study in order]
        paths = [f"{name}/{view}" for study in order for view, _ in views[study.folder]]
        _to_csv(labels, draft / f"{split}_labeled_studies.csv")
        _to_csv([(path,) for path in paths], draft / f"{split}_image_paths.csv")
    boxes = [(f"{name}/{view}", *box) for found in drawn for view, box in found if box]
    _to_csv(boxes, draft / "lesions.csv", header=["view", "x0", "y0", "x1", "y1"])
    (draft / "NOTE.txt").write_text(_NOTE_TEXT, encoding="utf-8", newline="\n")


def _to_csv(rows: list[Any], path: Path, header: list[str] | None = None) -> None:
    table = pd.DataFrame(rows, columns=header)
    table.to_csv(path, index=False, header=header is not None, lineterminator="\n")


def _draw_study(draft: Path, study: _Study) -> list[tuple[str, tuple[int, ...] | None]]:
    """Write the views of a study; return their paths relative to the root, and lesion boxes."""
    (draft / study.folder).mkdir(parents=True)
    info = PngInfo()
    info.add_text("Comment", NOTE)
    found: list[tuple[str, tuple[int, ...] | None]] = []
    for number, (picture, box, mode) in enumerate(_views(study), start=1):
        view = f"{study.folder}/image{number}.png"
        image = Image.fromarray(picture).convert(mode)
        image.save(draft / view, pnginfo=info, **_PNG[mode])
        found.append((view, box))
    return found


def _views(study: _Study) -> Iterator[tuple[np.ndarray, tuple[int, ...] | None, str]]:
    """Yield the picture, the lesion's box and the file mode of each view."""
    # Two random streams: a lesion must not change anything else about the study.
    rng, ill = (np.random.default_rng([*study.seed, k]) for k in (0, 1))
    n_views = int(rng.choice(N_VIEWS, p=N_VIEWS_WEIGHTS))
    body, *seeds = (int(seed) for seed in rng.integers(0, 2**31, n_views + 1))
    modes = rng.choice(["L", "RGB"], n_views)
    bone, low, high = SITES[study.study_type][ill.integers(len(SITES[study.study_type]))]
    kind = str(ill.choice(LESIONS, p=LESION_WEIGHTS))
    lesion = Lesion(kind, bone, ill.uniform(low, high), int(ill.integers(2**31)))
    hides = kind in ("line", "fragment") and n_views > 2 and ill.random() < HIDDEN
    hidden = int(ill.integers(n_views)) if hides else -1
    for number, seed in enumerate(seeds):
        shown = lesion if study.label and number != hidden else None
        picture, box = draw_view(study.study_type, body, seed, number, shown)
        yield picture, box, str(modes[number])
