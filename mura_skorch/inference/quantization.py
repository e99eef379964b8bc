"""Quantize a network to 8-bit integers, and count the decisions that this changes."""

import logging
import tempfile
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skorch.dataset import unpack_data

from mura_skorch.inference.engines import Quantized, openvino_core
from mura_skorch.inference.graph import ViewGraph, check_packages, export_graph
from mura_skorch.metrics.kappa import kappa_score

__all__ = ["MAX_CHANGED", "MAX_VIEWS", "quantize"]

_log = logging.getLogger(__name__)

MAX_VIEWS = 300  # training views that the ranges of the integers are found on
MAX_CHANGED = 0.02  # share of decisions


def quantize(
    clf: Any, train: pd.DataFrame, valid: pd.DataFrame, *, force: bool = False
) -> Quantized:
    """Return a classifier's network in 8-bit integers, judged on labelled studies.

    Parameters
    ----------
    clf : MuraClassifier
        Fitted or loaded, on the CPU.
    train : DataFrame
        A study table. A random choice of at most `MAX_VIEWS` of its views calibrates.
    valid : DataFrame
        Labelled studies of other patients, on which decisions are compared.
    force : bool, default=False
        Whether to accept any number of changed decisions.

    Returns
    -------
    Quantized

    Raises
    ------
    ImportError
        nncf or openvino is not installed.
    ValueError
        More than `MAX_CHANGED` of the decisions change, or the network cannot be exported.
    """
    views = _sample_views(clf, train)
    structure, weights = _quantize(clf, views)
    made = Quantized(structure, weights, n_views=len(views))
    plain, small = deepcopy(clf), deepcopy(clf)
    plain.set_params(engine="torch", precision="float32")
    small.set_params(engine="openvino", precision="int8")
    small.quantized_ = made
    label = valid["label"].to_numpy(dtype=int)
    before, after = plain.predict(valid), small.predict(valid)
    made = replace(
        made,
        n_studies=len(valid),
        n_changed=int((before != after).sum()),
        kappa_before=kappa_score(label, before),
        kappa_after=kappa_score(label, after),
    )
    text = (
        f"{made.n_changed:,} of {made.n_studies:,} decisions change; kappa is "
        f"{made.kappa_after:.3f} instead of {made.kappa_before:.3f}"
    )
    if made.n_changed > MAX_CHANGED * made.n_studies and not force:
        raise ValueError(
            f"expected at most {MAX_CHANGED:.0%} changed decisions on the validation part, got "
            f"more: {text}; keep another precision, or pass force=True"
        )
    _log.info("in 8-bit integers %s", text)
    return made


def _sample_views(clf, studies):
    """Return prepared views of shape (N, 1, H, W), uint8, of a random choice of studies."""
    order = np.random.default_rng(0).permutation(len(studies))
    n_before = np.cumsum(studies["views"].map(len).to_numpy()[order]) - 1
    chosen = studies.iloc[order[: np.searchsorted(n_before, MAX_VIEWS)]]
    parts = []
    for batch in clf.get_iterator(clf.get_dataset(chosen), training=False):
        inputs, _ = unpack_data(batch)
        parts.append(inputs["views"][inputs["view_mask"]].unsqueeze(1).numpy())
    return np.concatenate(parts)[:MAX_VIEWS]


def _quantize(clf, views):
    """Return the quantized network as OpenVINO's two files."""
    check_packages("nncf", "openvino", extra="fast")
    import nncf
    import openvino

    image_size = views.shape[-1]
    network = deepcopy(clf.module_).cpu()
    graph = export_graph(ViewGraph(network, image_size), image_size).SerializeToString()
    model = nncf.quantize(
        openvino_core().read_model(graph),
        nncf.Dataset([views[i : i + 1] for i in range(len(views))]),
        subset_size=len(views),
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.xml"
        openvino.save_model(model, file, compress_to_fp16=False)
        return file.read_bytes(), file.with_suffix(".bin").read_bytes()
