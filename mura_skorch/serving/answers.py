"""Answers: a model and studies in memory go in; one row for each study, fit for JSON, comes out."""

import base64
import io

import numpy as np
from PIL import Image

from mura_skorch.localization import resize_map

__all__ = ["FAILED", "answer", "image_sizes"]

FAILED = "the model failed on this request, and the reason is in the server's log"


def image_sizes(model):
    """Return the sizes to which a model, or an ensemble's members, bring their views."""
    return {net.get_params_for("dataset")["image_size"] for net in _members(model)}


def answer(model, studies, *, activation_maps=False):
    """Predict studies and say what a client needs to know of each.

    Parameters
    ----------
    model : MuraClassifier or MuraEnsemble
        Fitted.
    studies : DecodedStudies
        As `decode_studies` returns them.
    activation_maps : bool, default=False
        Add ``activation_maps`` and ``activation_map_limit``. Costs a second pass.

    Returns
    -------
    list of dict
        For each study ``probability`` of abnormality, ``decision``, "abnormal" strictly above
        ``threshold`` and else "normal", ``view_probabilities`` in the order of the images, and
        ``note``, a caveat or None. ``activation_maps`` are base64 PNGs, see `map_layer`, and
        ``activation_map_limit`` is where their colours end, in logits.

    Raises
    ------
    FloatingPointError
        A probability is NaN: the weights are damaged.
    """
    proba, of_views = model.predict_with_views(studies)
    if not np.isfinite(proba).all():  # NaN is not above the threshold: it would be called normal
        raise FloatingPointError(f"expected finite probabilities, got {proba[:, 1].tolist()}")
    threshold = float(model.threshold_)
    rows = [
        {
            "probability": float(p),
            "decision": "abnormal" if float(p) > threshold else "normal",
            "threshold": threshold,
            "view_probabilities": views.tolist(),
            "note": note,
        }
        for p, views, note in zip(proba[:, 1], of_views, _notes(model, studies), strict=True)
    ]
    if activation_maps:
        shapes = iter(studies.shapes)
        for row, cams in zip(rows, model.localize(studies), strict=True):
            row |= _drawn(cams, shapes)
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
        the strength, from 0 to 191 of 255.
    """
    from mura_skorch.plots.views import ABNORMAL, NORMAL, OPACITY

    strength = np.clip(resize_map(cam, shape) / limit, -1, 1)[:, :, None]
    colour = np.where(strength > 0, ABNORMAL, NORMAL)
    opacity = np.rint(255 * OPACITY * np.abs(strength))
    return np.concatenate([colour, opacity], axis=2).astype(np.uint8)


def _drawn(cams, shapes):
    """Return the maps of one study, all on one scale."""
    from mura_skorch.plots.views import map_limit

    limit = map_limit(*cams)
    layers = [map_layer(cam, next(shapes), limit) for cam in cams]
    return {"activation_maps": [_png(layer) for layer in layers], "activation_map_limit": limit}


def _png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _members(model):
    return getattr(model, "estimators_", None) or [model]


def _notes(model, studies):
    """Return the model's caveat for each study, and that its type was not in the training."""
    seen = {name for net in _members(model) for name in net.study_types_}
    for study_type in studies.studies["study_type"]:
        parts = [model.note_] if model.note_ else []
        if study_type and study_type not in seen:
            parts.append(f"training never saw {study_type[:60]}: nothing is known of the quality")
        yield "; ".join(parts) or None
