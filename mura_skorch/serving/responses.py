"""Answers: a model and studies in memory go in; one row for each study, fit for JSON, comes out."""

import base64
import io

import numpy as np
from PIL import Image

from mura_skorch.inspection.activation_maps import resize_map
from mura_skorch.serving.deadlines import check_waiting

__all__ = ["FAILED", "answer", "compute", "give_up_between_parts", "image_sizes", "map_layer"]

FAILED = "the model failed on this request, and the reason is in the server's log"
# Pixels of the longer side of a map; it has about 7 cells a side, so that more show nothing.
LONGEST_SIDE = 1024


def image_sizes(model):
    """Return the sizes to which a model, or an ensemble's members, bring their views."""
    return {net.get_params_for("dataset")["image_size"] for net in _members(model)}


def give_up_between_parts(model):
    """Let a model, before each part of a batch, ask whether its answer is still waited for."""
    for net in _members(model):
        network = getattr(net.module_, "network", net.module_)
        network.register_forward_pre_hook(_ask)


def _ask(network, inputs):
    check_waiting()


def compute(model, studies, *, activation_maps=False):
    """Run studies through the network, all of an answer for which there is but one.

    Parameters
    ----------
    model : MuraClassifier or MuraEnsemble
        Fitted.
    studies : DecodedStudies
        As `decode_studies` returns them.
    activation_maps : bool, default=False
        Compute them, too. Costs a second pass.

    Returns
    -------
    proba : ndarray of shape (n_studies,), float32
    view_proba : list of ndarray of shape (n_views,), float32
        Both float64 of a recalibrated model.
    cams : list of ndarray of shape (n_views, h, w), float32, or None

    Raises
    ------
    FloatingPointError
        A probability is NaN: the weights are damaged.
    """
    proba, of_views = model.predict_with_views(studies)
    if not np.isfinite(proba).all():  # NaN is not above the threshold: it would be called normal
        raise FloatingPointError(f"expected finite probabilities, got {proba[:, 1].tolist()}")
    return proba[:, 1], of_views, model.localize(studies) if activation_maps else None


def answer(model, studies, proba, of_views, cams=None):
    """Say what a client needs to know of each study.

    Parameters
    ----------
    model : MuraClassifier or MuraEnsemble
        Fitted.
    studies : DecodedStudies
    proba, of_views, cams
        As `compute` returns them.

    Returns
    -------
    list of dict
        For each study ``probability`` of abnormality, ``decision``, "abnormal" strictly above
        ``threshold`` and else "normal", ``view_probabilities`` in the order of the images, and
        ``note``, a caveat or None. With maps also ``activation_maps``, base64 PNGs, see
        `map_layer`, and ``activation_map_limit``, where their colours end, in logits.
    """
    threshold = float(model.threshold_)
    rows = [
        {
            "probability": float(p),
            "decision": "abnormal" if float(p) > threshold else "normal",
            "threshold": threshold,
            "view_probabilities": views.tolist(),
            "note": note,
        }
        for p, views, note in zip(proba, of_views, _notes(model, studies), strict=True)
    ]
    if cams is not None:
        shapes = iter(studies.shapes)
        for row, maps in zip(rows, cams, strict=True):
            row |= _drawn(maps, shapes)
    return rows


def map_layer(cam, shape, limit):
    """Return a map as a see-through layer, in the colours of the report, to lay over its view.

    Parameters
    ----------
    cam : ndarray of shape (h, w), float32
        A map in logits.
    shape : tuple of int
        Height and width of the view, in pixels.
    limit : float
        Where the colours end, in logits, above 0.

    Returns
    -------
    ndarray of shape (H, W, 4), uint8
        Vermillion adds to the logit of abnormality, sky blue takes from it; opacity grows with
        the strength, from 0 to 191 of 255. Of a view with a side above `LONGEST_SIDE` it is
        smaller, in the same proportions.

    Examples
    --------
    >>> map_layer(np.array([[-1.0, 0.5]]), (1, 2), limit=1.0).tolist()
    [[[86, 180, 233, 191], [213, 94, 0, 96]]]
    >>> map_layer(np.eye(2), (3000, 1500), limit=1.0).shape
    (1024, 512, 4)
    """
    from mura_skorch.inspection.overlay import ABNORMAL, NORMAL, OPACITY

    scale = min(1.0, LONGEST_SIDE / max(shape))
    resized = resize_map(cam, [max(1, round(side * scale)) for side in shape])
    most = int(255 * OPACITY)
    level = np.rint((resized * (255 * OPACITY / limit)).clip(-most, most)).astype(np.int16)
    table = np.array([(*NORMAL, -v) if v < 0 else (*ABNORMAL, v) for v in range(-most, most + 1)])
    return table.astype(np.uint8)[level + most]


def _drawn(cams, shapes):
    """Return the maps of one study, all on one scale."""
    from mura_skorch.inspection.overlay import map_limit

    limit = map_limit(*cams)
    maps = [_png(map_layer(cam, next(shapes), limit)) for cam in cams]
    return {"activation_maps": maps, "activation_map_limit": limit}


def _png(picture):
    check_waiting()
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _members(model):
    return getattr(model, "estimators_", None) or [model]


def _notes(model, studies):
    """Return the caveats for each study: the model's, of its type and of its images."""
    seen = {name for net in _members(model) for name in net.study_types_}
    for study_type, of_images in zip(studies.studies["study_type"], studies.notes, strict=True):
        parts = [model.note_] if model.note_ else []
        if study_type and study_type not in seen:
            parts.append(f"training never saw {study_type[:60]}: nothing is known of the quality")
        yield "; ".join([*parts, *of_images]) or None
