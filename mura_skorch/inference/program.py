"""Print how likely studies are abnormal: python predict.py FOLDER [STUDY_TYPE]."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

VIEWS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".jp2", ".pgm", ".dcm")


def prepare(path, size):
    """Return a PNG or JPEG of 8 bits as grey values of shape (1, size, size), uint8."""
    Image.open(path, formats=("PNG", "JPEG")).verify()  # checksums of a PNG
    file = Image.open(path, formats=("PNG", "JPEG"))
    is_deep = file.format == "PNG" and Path(path).read_bytes()[24] > 8  # bits of a sample
    if is_deep or file.mode not in ("1", "L", "LA", "P", "RGB", "RGBA"):
        raise ValueError(f"expected 8 bits of grey or RGB, got more or {file.mode}; convert it")
    image = ImageOps.exif_transpose(file).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    grey = image.convert("RGB").convert("L")
    return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR))[np.newaxis]


def pool(pooling, logit, score):
    """Return the logit of a study from one logit and one score for each view."""
    if pooling == "max":
        return logit.max()
    log_weight = score - np.logaddexp.reduce(score)
    if pooling == "attention_additive":
        return np.exp(log_weight) @ logit
    abnormal = np.logaddexp.reduce(log_weight - np.logaddexp(0, -logit))
    return abnormal - np.logaddexp.reduce(log_weight - np.logaddexp(0, logit))


def predict(session, about, views, study_type):
    """Return the probabilities of a study and of its views, uint8 of shape (n, 1, size, size)."""
    sides = [views, views[..., ::-1]] if about["flip_average"] else [views]
    names = [output.name for output in session.get_outputs()]
    found = dict(zip(names, session.run(names, {"views": np.concatenate(sides)}), strict=True))
    logit = found["logit"].reshape(len(sides), -1).astype(float)
    score = found.get("score", np.zeros(logit.size)).reshape(logit.shape).astype(float)
    if about["pooling"] == "mean":
        logit, score = logit.mean(axis=0, keepdims=True), score[:1]
    study = np.mean([pool(about["pooling"], *side) for side in zip(logit, score, strict=True)])
    line = about["calibration"]
    shift = line["prior_shift"].get(study_type, line["prior_shift_of_other_types"])
    logit = line["slope"] * (np.append(logit.mean(axis=0), study) - shift) + line["intercept"]
    *of_views, of_study = np.exp(-np.logaddexp(0, -logit))
    return of_study, of_views


def main(folder, study_type=None):
    """Print a line for each study: each folder of images, at any depth, is one."""
    here = Path(__file__).parent
    about = json.loads((here / "export.json").read_text(encoding="utf-8"))
    print(about["caveat"], file=sys.stderr)
    known = ", ".join(about["study_types"])
    if study_type is None and about["calibration"]["prior_shift"]:
        sys.exit(f"expected FOLDER and STUDY_TYPE, on which the result depends; known: {known}")
    if study_type not in (None, *about["study_types"]):
        print(f"training never saw {study_type}, but {known}", file=sys.stderr)
    studies: dict[str, list[str]] = {}
    for parent, _, names in os.walk(folder):
        for name in sorted(names):
            if name.lower().endswith(VIEWS) and not name.startswith("."):
                studies.setdefault(parent, []).append(name)
    if not studies:
        sys.exit(f"expected a folder of images, got {folder}")
    onnxruntime.set_default_logger_severity(3)  # errors alone
    session = onnxruntime.InferenceSession(here / "model.onnx", providers=["CPUExecutionProvider"])
    for parent, names in sorted(studies.items()):
        views = []
        for name in names:
            try:
                views.append(prepare(Path(parent, name), about["preparation"]["image_size"]))
            except Exception as error:
                sys.exit(f"{Path(parent, name)}: {error}")
        study, of_views = predict(session, about, np.stack(views), study_type)
        decision = "abnormal" if study > about["threshold"] else "normal"
        texts = [f"{name} {p:.6f}" for name, p in zip(names, of_views, strict=True)]
        print(parent, f"{study:.6f}", decision, *texts, sep="\t")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
