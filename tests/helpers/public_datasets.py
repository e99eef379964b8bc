"""Draw folders in the published layouts of GRAZPEDWRI-DX, FracAtlas and LERA."""

from pathlib import Path

import numpy as np
from PIL import Image


def draw(path, seed=0):
    """Write a small grey image; patients differ, so that no file is a copy of another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 20), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_grazpedwri(folder, rows):
    """Draw GRAZPEDWRI-DX: rows of name without ending and of fracture_visible, 1 or empty."""
    folder = Path(folder)
    lines = ["filestem,patient_id,study_number,fracture_visible,cast"]
    for seed, (stem, fracture) in enumerate(rows):
        patient, _, number, *_ = stem.split("_")
        lines.append(f"{stem},{int(patient)},{int(number)},{fracture},")
        draw(folder / f"images_part{1 + seed % 2}" / f"{stem}.png", seed)
    (folder / "dataset.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_fracatlas(folder, rows):
    """Draw FracAtlas: rows of image number, names of the flags that are 1, and fractured."""
    folder = Path(folder)
    flags = ("hand", "leg", "hip", "shoulder", "mixed", "hardware", "multiscan")
    lines = [",".join(["image_id", *flags, "fractured", "fracture_count", "frontal", "lateral"])]
    for number, given, fractured in rows:
        name = f"IMG{number:07d}.jpg"
        cells = [str(int(flag in given)) for flag in flags]
        lines.append(",".join([name, *cells, str(fractured), str(fractured), "1", "0"]))
        kind = "Fractured" if fractured else "Non_fractured"
        draw(folder / "images" / kind / name, number)
    (folder / "dataset.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_lera(folder, rows):
    """Draw LERA: rows of patient, type such as "XR FOOT", label and number of views."""
    folder = Path(folder)
    lines = []
    for patient, kind, label, n_views in rows:
        lines.append(f"{patient},{kind},{label}")
        for view in range(1, n_views + 1):
            draw(folder / str(patient) / "ST-1" / f"image{view}.png", 10 * patient + view)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder
