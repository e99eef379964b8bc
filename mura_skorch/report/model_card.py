"""Model card: what a model is, how it scored, and what to know before using it."""

import os
from pathlib import Path
from typing import Any

from sklearn.frozen import FrozenEstimator

from mura_skorch.metrics import MEAN_OF_TYPES, OVERALL
from mura_skorch.utils.text import interval_text

__all__ = [
    "describe_model",
    "members_of",
    "model_card",
    "recalibration",
    "to_markdown",
    "triage_sentences",
]

INTENDED = [
    "Research on classifying studies of radiographs as normal or abnormal, by people who know both "
    "the data and the method.",
    "Not a medical device: not cleared by any authority, not for diagnosis, triage or any decision "
    "about a patient.",
    "Out of scope: body parts, projections, age groups, scanners and countries other than those of "
    "the training data; single findings; anything but the complete study.",
]
LABELS = [
    "A label belongs to a study, not to a view: a view of an abnormal study may look normal.",
    "The report's table of shortcuts shows how well the number of views and other by-products of "
    "the examination predict the label in this data.",
]
# Numbers: Rajpurkar et al. (arXiv:1712.06957) and an outside review of the released images.
LABELS_OF_MURA = [
    "MURA's labels were taken from clinical reports. About half of its abnormal studies show "
    "plates, casts or marks. Some 240 studies with hardware are labelled normal. An outside review "
    "put the sensitivity of the labels for degenerative joint disease at 60 %.",
    "In MURA the number of views alone predicts the label to some extent (AUROC .58 on the public "
    "valid split), since more images are taken of suspicious findings.",
]
UNKNOWN_LABELS = (
    "The source of these labels is not stated. The author of the report can add it (notes of "
    "write_report)."
)
LIMITS = [
    "Figures hold for the studies they were measured on. Before use elsewhere, score the model on "
    "local labelled studies and choose its operating point there.",
    "Probabilities equal the share of abnormal studies only after recalibration (a slope and an "
    "intercept) on labelled studies of the place of use. Class weights in the loss, which the "
    "default loss has, shift probabilities towards the rarer class. The reliability curve shows "
    "the calibration on the studies of this report.",
    "Intervals describe the sampling of patients, not the training: another random seed gives "
    "another model.",
]
MAPS = (
    "Activation maps show which regions raised or lowered the network's output. They neither "
    "outline findings nor explain a decision."
)
PHANTOMS = (
    "Trained or scored on phantoms, which are drawings. The figures show that the software works; "
    "they say nothing about radiographs."
)
POOLED = {
    "mean": "A study's probability is the mean of its views' probabilities.",
    "attention": "A study's probability is the mean of its views' probabilities, weighted by "
    "learned attention.",
    "attention_additive": "A study's logit is the mean of its views' logits, weighted by learned "
    "attention.",
    "max": "A study's probability is the largest of its views' probabilities, which grows with "
    "their number.",
}
RECALIBRATED = "Recalibrated after training: "


def describe_model(clf: Any) -> list[str]:
    """Describe a model for the card: network, pooling, loss, study types and recalibration.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.

    Returns
    -------
    list of str
        Sentences. A network or a loss is described by the name of its class and the first
        paragraph of its docstring.
    """
    members = members_of(clf)
    found = [f"The mean probability of {len(members)} models."] if len(members) > 1 else []
    for net in members:
        module, loss = net.module_, net.criterion_
        n_parameters = sum(parameter.numel() for parameter in module.parameters())
        settings = [
            f"{name.removeprefix('criterion__')} {value}"
            for name, value in sorted(net.get_params(deep=False).items())
            if name.startswith("criterion__") and isinstance(value, bool | int | float | str)
        ]
        found += [
            f"Network: {_describe_class(module)}",
            f"Its backbone is {_backbone_text(module)}; {n_parameters:,} parameters, training "
            f"began with {_weights_text(net)}.",
            *_describe_pooling(module),
            f"Loss: {_describe_class(loss)}"
            + (f" Settings: {', '.join(settings)}." if settings else ""),
            f"Trained on the study types {', '.join(map(str, net.study_types_))}.",
            *_describe_calibration(net),
        ]
    if clf is not members[0]:  # an ensemble, which has a calibration of its own
        found += _describe_calibration(clf)
    if clf.triage_ is not None:  # an ensemble does not use those of its members
        found += clf.triage_.describe()
    return list(dict.fromkeys(found))


def _backbone_text(module):
    """Return the name of a backbone."""
    name = getattr(module, "backbone", None)
    return (
        name if isinstance(name, str) else f"a {type(getattr(module, 'network', module)).__name__}"
    )


def members_of(clf: Any) -> list[Any]:
    """Return the classifiers that an ensemble averages, or the classifier itself."""
    members = getattr(clf, "estimators_", [clf])
    return [m.estimator if isinstance(m, FrozenEstimator) else m for m in members]


def recalibration(model):
    """Return the sentences of `describe_model` about recalibration."""
    return [sentence for sentence in model if sentence.startswith(RECALIBRATED)]


def triage_sentences(model):
    """Return the sentences of `describe_model` about a triage."""
    return [sentence for sentence in model if sentence.startswith("Triage")]


def _describe_pooling(module):
    """Return a sentence on how views are pooled, if the network is one of ours."""
    pooling = getattr(module, "pooling", None)
    return [POOLED[pooling]] if isinstance(pooling, str) and pooling in POOLED else []


def _describe_calibration(clf):
    """Return a sentence if the probabilities are not those of the network's own logits."""
    changes = []
    if clf.prior_correction_:
        changes.append("corrected for the class weights of the loss")
    if (clf.slope_, clf.intercept_) != (1, 0):
        changes.append(
            f"slope {clf.slope_:.3g} and intercept {clf.intercept_:.3g} on the logit, fitted on "
            "labelled studies"
        )
    return [f"{RECALIBRATED}{'; '.join(changes)}."] if changes else []


def model_card(scores, *, model=(), notes=(), about=None, note=None, is_mura=False, has_maps=False):
    """Return the sections of the card.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.evaluation.score_predictions` returns.
    model : sequence of str, default=()
        What `describe_model` returns.
    notes : sequence of str, default=()
        The author's sentences on data, labels and use.
    about : dict of str to str, optional
        What was run on which data.
    note : str, optional
        A caveat of the data, such as "phantoms: no clinical meaning".
    is_mura : bool, default=False
        Whether the scored studies are MURA's.
    has_maps : bool, default=False
        Whether the report shows activation maps.

    Returns
    -------
    dict of str to list of str
        Heading to paragraphs.
    """
    rows = scores.set_index("study_type")
    overall = rows.loc[OVERALL]
    labels = list(LABELS)
    if is_mura:
        labels += LABELS_OF_MURA
    elif not notes:
        labels.append(UNKNOWN_LABELS)
    about_model = list(model) or ["The report was written without a description of the model."]
    if "phantoms" in (note or ""):
        about_model.append(PHANTOMS)
    card = {
        "Model": about_model,
        "Intended use": INTENDED,
        "Data and training": [f"{name}: {value}" for name, value in (about or {}).items()],
        "Labels": labels,
        "Notes of the authors": list(notes),
        "Figures": [
            f"{int(overall['n'])} studies scored, {int(overall['n_abnormal'])} of them abnormal: "
            f"kappa {_interval(overall, 'kappa')}, AUROC {_interval(overall, 'auroc')}, "
            f"sensitivity {_interval(overall, 'sensitivity')}, specificity "
            f"{_interval(overall, 'specificity')}; 95 % intervals in brackets.",
            *_cautions(rows),
            *([f"Caveat: {note}."] if note else []),
        ],
        "Limits": LIMITS + ([MAPS] if has_maps else []),
    }
    return {heading: paragraphs for heading, paragraphs in card.items() if paragraphs}


def _cautions(rows):
    """Return the reservations about the overall figures."""
    overall, cautions = rows.loc[OVERALL], []
    if MEAN_OF_TYPES in rows.index:
        mean = rows.loc[MEAN_OF_TYPES]
        cautions.append(
            f"The AUROC over all studies pools the scores of {overall['n_models']:.0f} models, "
            f"each on its own scale. Means over the study types: AUROC "
            f"{_interval(mean, 'auroc')}, kappa {_interval(mean, 'kappa')}."
        )
    if overall.get("caution"):
        cautions.append(
            f"{overall['caution'].capitalize()}: the intervals are likely to be too narrow."
        )
    return cautions


def _describe_class(part):
    """Return the name of an object's class and the first paragraph of its docstring."""
    cls = type(part)
    words = " ".join((cls.__doc__ or "").strip().split("\n\n")[0].split())
    return f"{cls.__name__}. {words}" if words else f"{cls.__name__}, which has no description."


def _weights_text(net):
    """Name the weights that training started from, without their folder."""
    weights = getattr(net, "module__weights", None)
    if weights is None:
        return "random weights"
    return f"the weights {Path(os.fspath(weights)).name}"


def to_markdown(card, title):
    """Return the card as Markdown; texts are escaped and stay on one line each."""
    parts = [f"# Model card: {_line(title)}"]
    for heading, paragraphs in card.items():
        parts += [f"## {heading}", "\n".join(f"- {_line(text)}" for text in paragraphs)]
    return "\n\n".join(parts) + "\n"


def _line(text):
    """Return a text on one line, without HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


def _interval(row, metric):
    return interval_text(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])
