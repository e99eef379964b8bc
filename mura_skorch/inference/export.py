"""Write a fitted classifier as an ONNX graph, with a program that needs no torch."""

import hashlib
import json
import os
from copy import deepcopy
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from mura_skorch._version import __version__
from mura_skorch.data.collate import StudyCollate
from mura_skorch.data.dataset import StudyDataset
from mura_skorch.inference.graph import (
    FEATURES,
    INPUT,
    LOGIT,
    MAP,
    SCORE,
    ViewGraph,
    backbone_name,
    check_packages,
    export_graph,
)
from mura_skorch.models.pooling import mean_logits
from mura_skorch.models.serialization import check_model_folder, log_replaced
from mura_skorch.models.study_network import StudyNetwork
from mura_skorch.utils.atomic import make_folder, write_text, write_whole
from mura_skorch.utils.text import json_value, printable

__all__ = ["export_classifier"]

GRAPH_FILE, ABOUT_FILE, PROGRAM_FILE, README_FILE = (
    "model.onnx",
    "export.json",
    "predict.py",
    "README.md",
)
FILES = (GRAPH_FILE, ABOUT_FILE, PROGRAM_FILE, README_FILE)
PROGRAM = Path(__file__).with_name("program.py")
NEEDED = ("onnx", "onnxscript", "onnxruntime")
# Increase it when programs written before cannot read what this version writes.
FORMAT = 1
CLASSES = ("normal", "abnormal")
# Methods whose arithmetic the graph repeats.
REPEATED = ("forward", "view_features", "activation_maps")
# float32 holds 7 digits, and libraries add in different orders. The differences grow with the
# numbers: this is the largest one allowed between logits up to 1, and per unit above.
TOLERANCE = 1e-4
N_VIEWS = (1, 2, 5)  # of the studies on which both are compared
CAVEAT = (
    "Research software, not a medical device: not for diagnosis, triage or any decision about a "
    "patient."
)
PREPARATION = [
    "Decode the file; turn it upright by its EXIF orientation.",
    "Lay transparent pixels over black. Colour becomes grey by ITU-R 601 luma.",
    "Resize to image_size x image_size with Pillow's BILINEAR, ignoring the aspect ratio.",
    "Pass grey values from 0 to 255 as uint8. The graph scales and normalises them.",
]
MEANINGS = {
    LOGIT: "logit of each view, before calibration",
    FEATURES: "what the last layer reads of each view",
    MAP: "activation map of each view, in logits; its mean plus head_bias is the view's logit",
    SCORE: "attention's score of each view; a softmax over the study's views gives their weights",
}
README = Template("""\
# Exported classifier of radiographs

Returns the probability that a study, all radiographs of one body part from one visit, is
abnormal. $caveat

## Use

```
pip install onnxruntime pillow numpy
python predict.py FOLDER [STUDY_TYPE]
```

Each folder of images at or below FOLDER is one study. The program prints a line for each: its
folder, the probability, the decision, and the probability of each view, between tabs. STUDY_TYPE
is the body part, as training named it$shifted.

| file | holds |
|---|---|
| `model.onnx` | the network: from `views`, uint8 ($size), to $outputs |
| `export.json` | pooling, threshold, calibration, preparation, names and shapes |
| `predict.py` | the program below |

## The model

$facts

## What the program does not do

- It reads PNG and JPEG files of 8 bits, grey or RGB, with or without an EXIF orientation. Any other
  image ends it with a message: deeper ones, CMYK, TIFF, DICOM. Files without the suffix of an image
  are ignored.
- It computes no activation maps and notices no unusual images. `export.json` lists the other
  outputs of the graph.
- It computes in float32. Largest differences from PyTorch at export: $parity.

## The program

```python
$program```
""")


def export_classifier(clf: Any, folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Write a fitted classifier as ``model.onnx``, with a program that predicts without torch.

    Parameters
    ----------
    clf : MuraClassifier
        Fitted or loaded, with a `StudyNetwork`.
    folder : path
        Made if it is missing. Files of an earlier export are replaced; one line in the log says
        so.

    Returns
    -------
    dict
        What ``export.json`` holds.

    Raises
    ------
    ImportError
        A package of the extra ``[export]`` is not installed.
    TypeError
        It is an ensemble, or has a network, a dataset or probabilities of the user's own.
    ValueError
        ONNX lacks an operation of the network, or the graph's results differ from torch's.
    FileExistsError
        `folder` is a file, or holds such files that are not of an export.

    Notes
    -----
    Before anything is written, ONNX Runtime computes random and smooth views, in studies of 1, 2
    and 5. Logits of views must equal those of torch in float32 within 1e-4, or within 1e-4 of the
    largest one if that is above 1; so must the maps. Probabilities of studies and views, by the
    written program, must equal those of the classifier within 1e-4.

    Examples
    --------
    >>> export_classifier(clf, "wrist-onnx")  # doctest: +SKIP
    """
    folder = Path(folder)
    _check_classifier(clf)
    _check_folder(folder)
    check_packages(*NEEDED, extra="export")
    net = deepcopy(clf.module_).cpu().float().to(memory_format=torch.contiguous_format)
    image_size = clf.get_params_for("dataset").get("image_size", 224)
    model = export_graph(ViewGraph(net, image_size), image_size)
    data = model.SerializeToString()
    about = {
        **_describe(clf, net, image_size),
        "opset": model.opset_import[0].version,
        "inputs": {value.name: _shape(value) for value in model.graph.input},
        "outputs": {
            value.name: {**_shape(value), "meaning": MEANINGS[value.name]}
            for value in model.graph.output
        },
        "head_bias": 0.0 if net.head.bias is None else net.head.bias.item(),
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    about["parity"] = _check_parity(clf, net, data, about)

    log_replaced(folder / ABOUT_FILE)
    make_folder(folder)
    program = PROGRAM.read_text(encoding="utf-8")
    write_whole(folder / GRAPH_FILE, lambda path: path.write_bytes(data), n_bytes=len(data))
    write_text(folder / PROGRAM_FILE, program)
    write_text(folder / README_FILE, _readme(about, program))
    write_text(folder / ABOUT_FILE, json.dumps(about, indent=2, default=json_value))
    return about


# --- what can be exported ----------------------------------------------------------------------


def _check_classifier(clf):
    """Raise TypeError if the written program would not repeat what a classifier does."""
    if hasattr(clf, "estimators"):
        raise TypeError(
            "expected one classifier, got an ensemble; export each member (member.export(folder) "
            "for each of estimators_), and average their probabilities"
        )
    clf.check_is_fitted()
    net = clf.module_
    if not isinstance(net, StudyNetwork):
        raise TypeError(
            f"expected a StudyNetwork, whose parts are known, got a {type(net).__name__}; pass "
            "your network as its module__backbone, or export it with torch.onnx.export"
        )
    own = [name for name in REPEATED if getattr(type(net), name) is not getattr(StudyNetwork, name)]
    if own:
        raise TypeError(
            f"expected the {own[0]} of StudyNetwork, which the graph repeats, got one of "
            f"{type(net).__name__}'s own; pass what it adds as module__backbone"
        )
    collate = clf.get_params_for("iterator_valid").get("collate_fn")
    for name, used, known in [
        ("dataset", clf.dataset, StudyDataset),
        ("iterator_valid__collate_fn", type(collate), StudyCollate),
    ]:
        if used is not known:
            raise TypeError(
                f"expected {name} to be {known.__name__}, whose preparation of views the program "
                f"repeats, got {getattr(used, '__name__', used)}"
            )
    if clf.predict_nonlinearity != "auto":
        raise TypeError(
            "expected probabilities by the logistic function (predict_nonlinearity='auto'), got "
            "a function, which JSON cannot store"
        )


def _check_folder(folder):
    """Raise FileExistsError if files that are not of an export would be replaced."""
    check_model_folder(folder)
    found = [name for name in FILES if (folder / name).exists()]
    if found and ABOUT_FILE not in found:
        raise FileExistsError(
            f"expected a new folder or the folder of an older export, got {printable(folder)} with "
            f"another {found[0]}; pass another folder"
        )


# --- what is written ---------------------------------------------------------------------------


def _describe(clf, net, image_size):
    """Return what the program and its reader need to know."""
    types = [str(name) for name in clf.study_types_]
    calibration = {
        "slope": float(clf.slope_),
        "intercept": float(clf.intercept_),
        "prior_shift": {},
        "prior_shift_of_other_types": 0.0,
    }
    if clf.prior_correction_:
        *shifts, other = clf.prior_shift([*types, None]).tolist()  # None: a type of no study
        calibration["prior_shift"] = dict(zip(types, shifts, strict=True))
        calibration["prior_shift_of_other_types"] = other
    return {
        "format": FORMAT,
        "mura_skorch": __version__,
        "caveat": CAVEAT if clf.note_ is None else f"{CAVEAT} Trained on {clf.note_}.",
        "backbone": backbone_name(net),
        "run_id": clf.run_id_,
        "classes": list(CLASSES),
        "study_types": types,
        "pooling": net.pooling,
        "flip_average": bool(clf.flip_average),
        "threshold": float(clf.threshold_),
        "decision": clf.describe_operating_point(),
        "calibration": calibration,
        "preparation": {"image_size": int(image_size), "steps": PREPARATION},
        "normalisation": {
            "in_graph": True,
            "mean": net.mean.flatten().tolist(),
            "std": net.std.flatten().tolist(),
        },
    }


def _shape(value):
    """Return dtype and shape of an input or output of an ONNX graph."""
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    return {"dtype": dtype, "shape": [d.dim_param or d.dim_value for d in tensor.shape.dim]}


def _readme(about, program):
    """Return the text of the folder's README."""
    calibration = about["calibration"]
    facts = [
        f"Backbone {about['backbone']}, pooling of the views: {about['pooling']}.",
        f"Decision: {about['decision']}.",
        f"Study types in training: {', '.join(about['study_types'])}.",
        f"Written by mura_skorch {__version__}"
        + (f" from the MLflow run {about['run_id']}." if about["run_id"] else "."),
    ]
    if about["flip_average"]:
        facts.append(
            "Logits are means over each view and its mirror image, which the program flips."
        )
    size = ", ".join(map(str, about["inputs"][INPUT]["shape"]))
    return README.substitute(
        caveat=about["caveat"],
        shifted=", and must be given" if calibration["prior_shift"] else "",
        size=size,
        outputs=", ".join(f"`{name}`" for name in about["outputs"]),
        facts="\n".join(f"- {printable(fact)}" for fact in facts),
        parity=", ".join(f"{name} {value:.1g}" for name, value in about["parity"].items()),
        program=program,
    )


# --- parity with torch -------------------------------------------------------------------------


def _check_parity(clf, net, data, about):
    """Return the largest differences between torch and ONNX Runtime, or raise ValueError."""
    import onnxruntime

    from mura_skorch.inference import program  # which imports onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone: it warns of what it does not optimise
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    types = [*about["study_types"][:2], "a type that training never saw"]
    differences: dict[str, float] = {}
    for number, views in enumerate(_views_to_compare(about["preparation"]["image_size"])):
        study_type = types[number % len(types)]
        expected = _of_torch(clf, net, views, study_type, MAP in about["outputs"])
        found = dict(zip(about["outputs"], session.run(None, {INPUT: views}), strict=True))
        study, of_views = program.predict(session, about, views, study_type)
        found["probability"] = np.array([study, *of_views])
        for name, value in expected.items():
            largest = np.abs(value).max()
            difference = np.abs(found[name] - value).max()
            differences[name] = max(differences.get(name, 0.0), float(difference))
            if not difference <= TOLERANCE * max(1.0, largest):  # NaN is no parity either
                raise ValueError(
                    f"expected equal results of torch and ONNX Runtime, got a difference of "
                    f"{difference:.2g} in a {name} (largest value {largest:.2g}) for a study of "
                    f"{len(views)} views; nothing was written. Take another backbone"
                )
    return differences


def _views_to_compare(image_size):
    """Yield studies of noise and of smooth views, uint8 of shape (n, 1, H, W)."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:image_size, :image_size] / image_size
    for n_views in N_VIEWS:
        views = rng.integers(0, 256, (n_views, 1, image_size, image_size), dtype=np.uint8)
        for view in views[::2]:
            wave = np.sin(2 * np.pi * (rng.uniform(0, 4, 2) @ [x.ravel(), y.ravel()]))
            view[0] = (127.5 * (1 + wave)).reshape(image_size, image_size).astype(np.uint8)
        yield views


def _of_torch(clf, net, views, study_type, has_maps):
    """Return the logits, the maps if the graph has any, and the probabilities of one study."""
    batch = torch.from_numpy(views).transpose(0, 1)
    mask = torch.ones(batch.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        study, of_views = net(batch, mask)
        found = {LOGIT: of_views.numpy()}
        if has_maps:
            found[MAP] = net.activation_maps(batch, mask).numpy()
        if clf.flip_average:
            mirrored = net(batch.flip(-1), mask)
            study, of_views = mean_logits((study, of_views), mirrored, mask, net.pooling)
    logit = torch.cat([study, of_views]).double().numpy()
    shift = clf.prior_shift([study_type]) if clf.prior_correction_ else 0.0
    return {**found, "probability": expit(clf.calibrate_logit(logit - shift))}
