"""Build the answer for each study of a request, ready for JSON."""

import base64
import io

import numpy as np
from PIL import Image

from mura_skorch.calibration.triage import CAVEAT, view_disagreement
from mura_skorch.inspection.activation_maps import resize_map
from mura_skorch.models.study_network import StudyNetwork
from mura_skorch.serving.deadlines import check_deadline

__all__ = ["answer", "compute", "image_sizes", "map_layer", "stop_between_batches"]

# Pixels on the longer side of a map image. A map has about 7 cells a side: more would show nothing.
LONGEST_SIDE = 1024


def image_sizes(model):
    """Return the image sizes, in pixels, of a model or of an ensemble's members."""
    return {net.get_params_for("dataset")["image_size"] for net in _members(model)}


def stop_between_batches(model):
    """Make a model check the deadline of the request before each part of a batch."""
    for net in _members(model):
        if isinstance(net.module_, StudyNetwork):
            net.module_.before_part = check_deadline
        else:
            net.module_.register_forward_pre_hook(_check_deadline)


def _check_deadline(network, inputs):
    check_deadline()


def compute(model, studies, *, activation_maps=False):
    """Run studies through the network, which only one request may use at a time.

    Parameters
    ----------
    model : MuraClassifier or MuraEnsemble
        Fitted.
    studies : DecodedStudies
        As `decode_studies` returns them.
    activation_maps : bool, default=False
        Compute activation maps too, in a second pass.

    Returns
    -------
    proba : ndarray of shape (n_studies,), float32
        If the model is recalibrated, float64.
    view_proba : list of ndarray of shape (n_views,)
        One array per study, of the same type.
    cams : list of ndarray of shape (n_views, h, w), float32, or None
        Activation maps in logits; None if not asked for.
    percentiles : ndarray of shape (n_studies,), float64, or None
        How unlike the training studies each study is, in percent; None if the model has not
        measured them.

    Raises
    ------
    FloatingPointError
        A probability is NaN: the weights are damaged.
    """
    proba, view_proba = model.predict_with_views(studies)
    if not np.isfinite(proba).all():  # NaN is not above the threshold: it would be called normal
        raise FloatingPointError(f"expected finite probabilities, got {proba[:, 1].tolist()}")
    cams = model.localize(studies) if activation_maps else None
    percentiles = None
    if getattr(model, "training_distance_", None) is not None:
        percentiles = model.training_percentile(studies)
    return proba[:, 1], view_proba, cams, percentiles


def answer(model, studies, proba, view_proba, cams=None, percentiles=None):
    """Return the answer for each study.

    Parameters
    ----------
    model : MuraClassifier or MuraEnsemble
        Fitted.
    studies : DecodedStudies
    proba, view_proba, cams, percentiles
        As `compute` returns them.

    Returns
    -------
    list of dict
        For each study ``probability`` of abnormality; ``decision``, "abnormal" strictly above
        ``threshold`` and else "normal"; ``view_probabilities`` in the order of the images;
        ``engine``, what computed them, such as "torch, float32"; ``note``, a caveat or None. With
        maps also ``activation_maps``, base64 PNGs as of `map_layer`, and ``activation_map_limit``,
        the end of their colour scale in logits. From a model with limits for it also ``triage``,
        see `_triages`.
    """
    threshold, engine = float(model.threshold_), model.describe_engine()
    rows = [
        {
            "probability": float(p),
            "decision": "abnormal" if float(p) > threshold else "normal",
            "threshold": threshold,
            "view_probabilities": views.tolist(),
            "engine": engine,
            "note": note,
        }
        for p, views, note in zip(
            proba, view_proba, _notes(model, studies, percentiles), strict=True
        )
    ]
    if model.triage_ is not None:
        for row, triage in zip(
            rows, _triages(model, studies, proba, view_proba, percentiles), strict=True
        ):
            row["triage"] = triage
    if cams is not None:
        shapes = iter(studies.shapes)
        for row, maps in zip(rows, cams, strict=True):
            row.update(_encoded_maps(maps, shapes))
    return rows


def map_layer(cam, shape, limit):
    """Return an activation map as a transparent layer over its view, in the report's colours.

    Parameters
    ----------
    cam : ndarray of shape (h, w), float32
        A map in logits.
    shape : tuple of int
        Height and width of the view, in pixels.
    limit : float
        End of the colour scale in logits, above 0.

    Returns
    -------
    ndarray of shape (H, W, 4), uint8
        RGBA. Vermillion adds to the logit of abnormality, sky blue subtracts from it; opacity
        grows with the absolute value, from 0 to 191 of 255. If a side of the view is longer than
        `LONGEST_SIDE`, the layer is smaller, in the same proportions.

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


def _encoded_maps(cams, shapes):
    """Return the maps of one study, all on one colour scale."""
    from mura_skorch.inspection.overlay import map_limit

    limit = map_limit(*cams)
    maps = [_png(map_layer(cam, next(shapes), limit)) for cam in cams]
    return {"activation_maps": maps, "activation_map_limit": limit}


def _png(picture):
    check_deadline()
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _triages(model, studies, proba, view_proba, percentiles):
    """Yield the triage of each study, its promise, and the signs of doubt."""
    types = studies.studies["study_type"].tolist()
    answers = model.triage_.decide(proba, types)
    disagreement = view_disagreement(view_proba)
    if percentiles is None:
        percentiles = np.full(len(types), np.nan)
    for answer, study_type, spread, percentile in zip(
        answers, types, disagreement, percentiles, strict=True
    ):
        yield {
            "answer": answer,
            "reason": model.triage_.reason(answer, study_type),
            "error_rate": model.triage_.error_rate,
            "view_disagreement": None if np.isnan(spread) else float(spread),
            "training_percentile": None if np.isnan(percentile) else float(percentile),
            "caveat": CAVEAT,
        }


def _members(model):
    return getattr(model, "estimators_", None) or [model]


def _notes(model, studies, percentiles):
    """Yield the note of each study: caveats of the model, the study and the images."""
    from mura_skorch.inspection import UNLIKE_PERCENTILE

    seen = {name for net in _members(model) for name in net.study_types_}
    is_unlike = [False] * len(studies.notes)
    if percentiles is not None:
        is_unlike = (percentiles > UNLIKE_PERCENTILE).tolist()
    for study_type, image_notes, unlike in zip(
        studies.studies["study_type"], studies.notes, is_unlike, strict=True
    ):
        notes = []
        if model.note_:
            notes.append(model.note_)
        if study_type and study_type not in seen:
            notes.append(f"training never saw {study_type[:60]}: the quality is unknown")
        if unlike:
            notes.append(
                f"unlike the training studies: beyond the {UNLIKE_PERCENTILE:.0f}th percentile of "
                "their distance"
            )
        notes.extend(image_notes)
        yield "; ".join(notes) if notes else None
