"""Phantoms with small pictures: decoding large ones takes most of the time of a small fit."""

import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mura_skorch import write_phantoms

SHRINK = 4  # sides of the drawn pictures, 512 pixels at most, are divided by it


def write_small_phantoms(root, **counts):
    """Call `write_phantoms`, then shrink its pictures and the boxes of its lesions."""
    root = write_phantoms(root, **counts)
    for path in root.rglob("*.png"):
        with Image.open(path) as image:
            texts = PngInfo()
            texts.add_text("Comment", image.text["Comment"])
            small = image.reduce(SHRINK)
        small.save(path, pnginfo=texts)
    boxes = pd.read_csv(root / "lesions.csv")
    boxes[["x0", "y0"]] //= SHRINK
    boxes[["x1", "y1"]] = -(-boxes[["x1", "y1"]] // SHRINK)  # rounded up, as the pictures' sides
    boxes.to_csv(root / "lesions.csv", index=False)
    return root
