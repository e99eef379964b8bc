"""Model card: what was trained and how it scored go in, what to know before using it comes out."""

import os
from pathlib import Path
from typing import Any

from sklearn.frozen import FrozenEstimator

from mura_skorch.metrics import MEAN_OF_TYPES, OVERALL
from mura_skorch.utils.text import interval_text

__all__ = ["describe_model", "model_card", "to_markdown"]

INTENDED = [
    "Research on the classification of studies of radiographs as normal or abnormal, by people who "
    "know both the data and the method.",
    "Not a medical device: not cleared by any authority, not for diagnosis, triage or any decision "
    "about a patient.",
    "Out of scope: body parts, projections, age groups, scanners and countries other than those of "
    "the training data; single findings; anything but the study as a whole.",
]
LABELS = [
    "A label belongs to a whole study, not to a view: a view of an abnormal study may look normal.",
    "The report's table of shortcuts shows how far the number of views and other by-products of "
    "the examination tell the label of this data.",
]
# Numbers: Rajpurkar et al. (arXiv:1712.06957) and an outside review of the released images.
LABELS_OF_MURA = [
    "MURA's labels were taken from clinical reports. About half of its abnormal studies show "
    "plates, casts or marks, some 240 studies with hardware are labelled normal, and the "
    "sensitivity of the labels for degenerative joint disease was put at 60 % by an outside "
    "review.",
    "In MURA the number of views alone tells something of the label (AUROC .58 on the public "
    "valid split), since more pictures are taken of what looks suspicious.",
]
UNKNOWN_LABELS = "How these labels came about is not stated here: write_report takes it as notes."
LIMITS = [
    "Figures hold for the studies they were measured on. Before use elsewhere, score the model on "
    "local, labelled studies and choose its operating point there.",
    "A loss that gives the rarer class the larger weight, as the default one does, shifts "
    "probabilities towards that class. They are the share of abnormal studies only after "
    "recalibration, by a slope and an intercept fitted on labelled studies of the place of use; "
    "see the reliability curve.",
    "Intervals describe the sampling of patients, not the training: another random seed gives "
    "another model.",
]
MAPS = (
    "Activation maps show which places raised or lowered the network's output. They are no "
    "outlines of findings and no explanation of a decision."
)
PHANTOMS = (
    "Trained or scored on phantoms, that is on drawings. The figures say that the software works, "
    "and nothing about radiographs."
)


def describe_model(clf: Any) -> list[str]:
    """Return what a card says of a model: its parts in their own words, and what it was trained on.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.

    Returns
    -------
    list of str
        Sentences. A network or a loss is described by its class's name and the first paragraph of
        its own docstring.
    """
    members = getattr(clf, "estimators_", [clf])
    found = [f"The mean probability of {len(members)} models."] if len(members) > 1 else []
    for member in members:
        net = member.estimator if isinstance(member, FrozenEstimator) else member
        module, loss = net.module_, net.criterion_
        network = getattr(module, "network", module)
        n_parameters = sum(parameter.numel() for parameter in module.parameters())
        of_loss = [
            f"{name.removeprefix('criterion__')} {value}"
            for name, value in sorted(net.get_params(deep=False).items())
            if name.startswith("criterion__") and isinstance(value, bool | int | float | str)
        ]
        found += [
            f"Network: {_own_words(module)}",
            f"Its backbone is a {type(network).__name__}; {n_parameters:,} parameters, training "
            f"began with {_weights_text(net)}.",
            f"Loss: {_own_words(loss)}" + (f" Settings: {', '.join(of_loss)}." if of_loss else ""),
            f"Trained on the study types {', '.join(map(str, net.study_types_))}.",
        ]
    return list(dict.fromkeys(found))


def model_card(scores, *, model=(), notes=(), about=None, note=None, is_mura=False, has_maps=False):
    """Return the sections of the card.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.evaluation.score_predictions` returns.
    model : sequence of str, default=()
        What `describe_model` returns.
    notes : sequence of str, default=()
        What the author knows of data, labels and use.
    about : dict of str to str, optional
        What was run on what.
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
    labels = LABELS + (LABELS_OF_MURA if is_mura else [] if notes else [UNKNOWN_LABELS])
    card = {
        "Model": [
            *(model or ["The report was made without a description of the model."]),
            *([PHANTOMS] if "phantoms" in (note or "") else []),
        ],
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
    """Return what keeps the overall figures from being taken at their word."""
    overall, cautions = rows.loc[OVERALL], []
    if MEAN_OF_TYPES in rows.index:
        mean = rows.loc[MEAN_OF_TYPES]
        cautions.append(
            f"The AUROC over all studies pools the scores of {overall['n_models']:.0f} models, "
            f"each on a scale of its own. Its mean over the study types is "
            f"{_interval(mean, 'auroc')}, that of kappa {_interval(mean, 'kappa')}."
        )
    if overall.get("caution"):
        cautions.append(
            f"{overall['caution'].capitalize()}: the intervals are likely to be too narrow."
        )
    return cautions


def _own_words(part):
    """Return the name of an object's class and the first paragraph of its own docstring."""
    own = type(part)
    words = " ".join((own.__doc__ or "").strip().split("\n\n")[0].split())
    return f"{own.__name__}. {words}" if words else f"{own.__name__}, which has no description."


def _weights_text(net):
    """Return what a network started from, without a folder."""
    weights = getattr(net, "module__weights", None)
    if weights is None:
        return "random weights"
    return f"the weights {Path(os.fspath(weights)).name}"


def to_markdown(card, title):
    """Return the card as a Markdown text, in which no text becomes HTML or a line of its own."""
    parts = [f"# Model card: {_line(title)}"]
    for heading, paragraphs in card.items():
        parts += [f"## {heading}", "\n".join(f"- {_line(text)}" for text in paragraphs)]
    return "\n\n".join(parts) + "\n"


def _line(text):
    return " ".join(text.split()).replace("<", "&lt;")


def _interval(row, metric):
    return interval_text(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])
