"""Model card: what a model is, how it scored, and what to know before using it."""

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mura_skorch.metrics import MEAN_OF_TYPES, OVERALL
from mura_skorch.training.fingerprint import FREE, FREE_PREFIXES
from mura_skorch.utils.members import members_of
from mura_skorch.utils.text import interval_text, number_text, printable

__all__ = [
    "card_anchors",
    "describe_model",
    "hub_metadata",
    "join_descriptions",
    "model_card",
    "recalibration",
    "to_markdown",
    "triage_sentences",
]

INTENDED = [
    "Research on classifying studies of radiographs as normal or abnormal, by people who know both "
    "the data and the method.",
    "Not a medical device: not cleared by any authority. Not for diagnosis or any other decision "
    "about a patient, nor for the order in which patients are seen.",
    "Out of scope: body parts, projections, age groups, scanners and countries other than those of "
    "the training data; single findings; anything but the complete study.",
]
INTENDED_OF_TRIAGE = (
    "The triage of this model is for research, too. The report measures how many studies it would "
    "leave to a reader, and how often it would be wrong on the others. A reader must still see "
    "every study of a patient."
)
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
    "The source of these labels is not stated. The author of the report can add it "
    "(reference_standard of study.toml, or notes of write_report)."
)
LIMITS = [
    "Figures hold for the studies they were measured on. Before use elsewhere, score the model on "
    "local labelled studies and choose its operating point there.",
    "Probabilities equal the share of abnormal studies only after recalibration (a slope and an "
    "intercept) on labelled studies of the place of use. The reliability curve shows the "
    "calibration on the studies of this report.",
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
LOSS, TRAINING = "Loss: ", "Training: "
BEFORE_TYPE = "study types |epochs were run for |training part: "  # in sentences of one type
NUMBER = r"\d*\.?\d+"
NO_MODEL = "The report was written without a description of the model."
# Recorded settings of a fit, in the words of the card; those of the loss and the network are said
# elsewhere, and those of the machine change no model.
SETTINGS = {
    "optimizer": "optimizer {}",
    "lr": "learning rate {}",
    "lr_policy": "schedule {}",
    "batch_size": "batches of {} studies",
    "max_epochs": "at most {} epochs",
    "image_size": "images of {0} x {0} px",
    "augment": "augmentation {}",
    "train_split": "validation part {}",
    "precision": "precision {}",
    "random_state": "seed {}",
}
WITHOUT = {"augment": "no augmentation", "train_split": "no validation part"}
OTHERWISE_SAID = (
    *("module", "criterion", "weights", "level", "count", "threshold", "patience", "code"),
    *("memory_format", "threads", "precision_set", "weights_loaded", "n_processes"),
    *("module__backbone", "module__pooling"),
)
USUAL = (("accumulate", "1"),)  # recorded always
# Names of measures as model hubs know them.
HUB_METRICS = {
    "kappa": ("cohen_kappa", "Cohen's kappa"),
    "auroc": ("roc_auc", "AUROC"),
    "sensitivity": ("recall", "Sensitivity"),
    "specificity": ("specificity", "Specificity"),
    "accuracy": ("accuracy", "Accuracy"),
    "f1": ("f1", "F1"),
}
# Licences that hubs know by these names: https://huggingface.co/docs/hub/repositories-licenses
HUB_LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "agpl-3.0", "lgpl-3.0"),
    *("mpl-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0"),
    *("cc-by-nd-4.0", "cc-by-nc-nd-4.0", "openrail", "unlicense"),
)


def describe_model(clf: Any) -> list[str]:
    """Describe a model for the card: network, pooling, loss, training and recalibration.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.

    Returns
    -------
    list of str
        Sentences. A network or a loss is described by the name of its class and the first
        paragraph of its docstring, a training by the settings that the fit recorded.
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
            f"{LOSS}{_describe_class(loss)}"
            + (f" Settings: {', '.join(settings)}." if settings else ""),
            *_describe_class_weights(net),
            f"Trained on the study types {', '.join(map(str, net.study_types_))}.",
            *_describe_training(net),
            *_describe_calibration(net),
        ]
    if clf is not members[0]:  # an ensemble, which has a calibration of its own
        found += _describe_calibration(clf)
    if clf.triage_ is not None:  # an ensemble does not use those of its members
        found += clf.triage_.describe()
    return list(dict.fromkeys(found))


def join_descriptions(models: Mapping[str, Sequence[str]]) -> list[str]:
    """Join the descriptions of models of one study type each, and say what they share once.

    Parameters
    ----------
    models : mapping of str to sequence of str
        What `describe_model` returns, by study type.

    Returns
    -------
    list of str
        Sentences that differ only in the study type or its class weights are one, with a list.

    Examples
    --------
    >>> start = "Trained on the study types"
    >>> join_descriptions({"XR_HAND": [f"{start} XR_HAND."], "XR_WRIST": [f"{start} XR_WRIST."]})
    ['Trained on the study types XR_HAND, XR_WRIST.']
    """
    found: dict[tuple[str, str], list[str]] = {}
    for name, sentences in models.items():
        own = rf"{re.escape(name)}(?: {NUMBER} and {NUMBER})?"
        for text in sentences:
            match = re.fullmatch(rf"(.*(?:{BEFORE_TYPE}))({own})([.;].*)", text)
            head, item, tail = match.groups() if match else (text, "", "")
            items = found.setdefault((head, tail), [])
            if item not in items:
                items.append(item)
    return [f"{head}{', '.join(items)}{tail}" for (head, tail), items in found.items()]


def _backbone_text(module):
    """Return the name of a backbone."""
    name = getattr(module, "backbone", None)
    return (
        name if isinstance(name, str) else f"a {type(getattr(module, 'network', module)).__name__}"
    )


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


def _describe_class_weights(net):
    """Return a sentence on the class weights that the training part gave the loss, if any."""
    weights = getattr(net.criterion_, "class_weight", None)
    if weights is None or len(weights) != len(net.study_types_) + 1:
        return []
    pairs = [
        f"{name} {number_text(abnormal)} and {number_text(normal)}"
        for name, (normal, abnormal) in zip(net.study_types_, weights.tolist(), strict=False)
    ]
    return [
        f"{LOSS}class weights of the abnormal and the normal term, from the training part: "
        f"{', '.join(pairs)}. They shift probabilities towards the rarer class."
    ]


def _describe_training(net):
    """Return sentences on the settings of the fit, as it recorded them; none without a record."""
    settings = net.record_.settings
    if not settings:
        return []
    known = [
        WITHOUT[name] if settings[name] == "None" else text.format(settings[name])
        for name, text in SETTINGS.items()
        if name in settings and (settings[name] != "None" or name in WITHOUT)
    ]
    said = (*SETTINGS, *OTHERWISE_SAID, *FREE)
    others = [
        f"{name} {value}"
        for name, value in sorted(settings.items())
        if name not in said and not name.startswith(FREE_PREFIXES) and (name, value) not in USUAL
    ]
    found = [f"{TRAINING}{'; '.join(known)}."]
    if others:
        found.append(f"{TRAINING}other settings that are not the default: {'; '.join(others)}.")
    if net.record_.digests.get("validation", "none") != "none":
        found.append(f"{TRAINING}no patient is in both the training and the validation part.")
    return [*found, *_describe_epochs(net)]


def _describe_epochs(net):
    """Return a sentence on the epochs that were run, and on the one whose weights are kept."""
    rows = list(net.history)
    if not rows:
        return []
    types = ", ".join(map(str, net.study_types_))
    text = f"{TRAINING}{len(rows)} epochs were run for {types}"
    monitor = net.record_.settings.get("callbacks__best__monitor", "valid_loss_best")
    best = [row["epoch"] for row in rows if row.get(monitor)]
    keeps_best = net.record_.settings.get("callbacks__best", "") == ""
    if best and keeps_best:
        text += f"; the weights are those of epoch {best[-1]}, the best by {monitor[:-5]}"
    return [f"{text}."]


def _describe_calibration(clf):
    """Return a sentence if the probabilities are not those of the network's own logits."""
    changes = []
    if clf.prior_correction_:
        changes.append("corrected for the class weights of the loss")
    if (clf.slope_, clf.intercept_) != (1, 0):
        changes.append(
            f"slope {clf.slope_:.3g} and intercept {clf.intercept_:.3g} on the logit of the study, "
            "fitted on labelled studies. A study's probability is then no longer the mean of its "
            "views'"
        )
    return [f"{RECALIBRATED}{'; '.join(changes)}."] if changes else []


def model_card(
    scores,
    *,
    model=(),
    notes=(),
    about=None,
    note=None,
    is_mura=False,
    has_maps=False,
    facts=None,
):
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
    facts : dict of str to str, optional
        What the authors state, see `mura_skorch.report.study_facts.FACTS`.

    Returns
    -------
    dict of str to list of str
        Heading to paragraphs.
    """
    facts = dict(facts or {})
    rows = scores.set_index("study_type")
    overall = rows.loc[OVERALL]
    labels = list(LABELS)
    stated = [key for key in ("reference_standard", "annotators") if key in facts]
    labels += [_fact(key, facts[key]) for key in stated]
    if is_mura:
        labels += LABELS_OF_MURA
    elif not notes and not stated:
        labels.append(UNKNOWN_LABELS)
    loss, training = ([t for t in model if t.startswith(start)] for start in (LOSS, TRAINING))
    about_model = [text for text in model if text not in (*loss, *training)] or [NO_MODEL]
    if "phantoms" in (note or ""):
        about_model.append(PHANTOMS)
    card = {
        "Model": about_model,
        "Loss": [_without(LOSS, text) for text in loss],
        "Training": [_without(TRAINING, text) for text in training],
        "Intended use": INTENDED + ([INTENDED_OF_TRIAGE] if triage_sentences(model) else []),
        "What was run": [f"{name}: {value}" for name, value in (about or {}).items()],
        "Labels": labels,
        "Study": [_fact(key, text) for key, text in facts.items()],
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


def card_anchors(card):
    """Return the anchor on the page of each heading of the card that says something.

    Parameters
    ----------
    card : dict of str to list of str
        What `model_card` returns.

    Returns
    -------
    dict of str to str
    """
    return {
        heading: "model-card-" + re.sub(r"\W+", "-", heading.lower())
        for heading, paragraphs in card.items()
        if NO_MODEL not in paragraphs
    }


def hub_metadata(scores, *, title, about=None, note=None, facts=None):
    """Return the metadata of the card that model hubs read.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.evaluation.score_predictions` returns. Undefined figures are left out.
    title : str
        Name of the model.
    about : dict of str to str, optional
        What was run on which data; "Data" names the dataset.
    note : str, optional
        A caveat of the data, which becomes part of the dataset's name.
    facts : dict of str to str, optional
        What the authors state; ``licence`` becomes the licence.

    Returns
    -------
    dict of str to object
        ``license`` if it is stated, ``library_name``, ``pipeline_tag``, ``tags``, ``metrics`` and
        ``model-index``, by the fields of Hugging Face's model cards.
    """
    overall = scores.set_index("study_type").loc[OVERALL]
    metrics = []
    for name, (kind, label) in HUB_METRICS.items():
        value = float(overall[name])
        if math.isfinite(value):
            text = f"{label}, each study counted once: {_interval(overall, name)}"
            metrics.append({"type": kind, "value": round(value, 4), "name": text})
    data = (about or {}).get("Data", title)
    dataset = {"type": _slug(data), "name": f"{data} ({note})" if note else data}
    result = {
        "task": {"type": "image-classification", "name": "Abnormal or normal study"},
        "dataset": dataset,
        "metrics": metrics,
    }
    licence = " ".join((facts or {}).get("licence", "").split())
    found: dict[str, Any] = {}
    if licence.lower() in HUB_LICENCES:
        found["license"] = licence.lower()
    elif licence:
        found |= {"license": "other", "license_name": _slug(licence)}
    found |= {
        "library_name": "mura_skorch",
        "pipeline_tag": "image-classification",
        "tags": ["radiography", "musculoskeletal", "medical-imaging", "multi-view", "skorch"],
    }
    if metrics:
        found["metrics"] = [metric["type"] for metric in metrics]
        found["model-index"] = [{"name": title, "results": [result]}]
    return found


def _without(start, text):
    """Return a sentence without its first word, which is the heading."""
    rest = text.removeprefix(start)
    return rest[:1].upper() + rest[1:]


def _fact(key, text):
    """Return a statement of the authors as a sentence of the card."""
    return f"{key.replace('_', ' ').capitalize()}: {text}"


def _slug(text):
    """Return a text as an identifier: "Wrists, split valid" gives wrists-split-valid."""
    return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")[:60] or "unnamed"


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


def to_markdown(card, title, metadata=None):
    """Return the card as Markdown; texts are escaped and stay on one line each.

    Parameters
    ----------
    card : dict of str to list of str
        What `model_card` returns.
    title : str
        Name of the model.
    metadata : dict of str to object, optional
        What `hub_metadata` returns, for a YAML header.

    Returns
    -------
    str
    """
    parts = [f"# Model card: {_line(title)}"]
    if metadata:
        parts.insert(0, "\n".join(["---", *_yaml_lines(metadata), "---"]))
    for heading, paragraphs in card.items():
        parts += [f"## {heading}", "\n".join(f"- {_line(text)}" for text in paragraphs)]
    return "\n\n".join(parts) + "\n"


def _yaml_lines(values: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """Give a mapping as lines of YAML; texts are quoted as in JSON, which YAML reads."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{key}:"
            yield from _yaml_lines(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{key}:"
            for item in value:
                if isinstance(item, Mapping):
                    first, *others = _yaml_lines(item, indent + "  ")
                    yield f"{indent}- {first.strip()}"
                    yield from others
                else:
                    yield f"{indent}- {_yaml_scalar(item)}"
        else:
            yield f"{indent}{key}: {_yaml_scalar(value)}"


def _yaml_scalar(value):
    """Return a text or a number in YAML."""
    if isinstance(value, str):
        value = printable(_line(value))  # YAML refuses more control characters than JSON escapes
    return json.dumps(value, ensure_ascii=False)


def _line(text):
    """Return a text on one line, without HTML."""
    return " ".join(text.split()).replace("<", "&lt;")


def _interval(row, metric):
    return interval_text(row[metric], row[f"{metric}_low"], row[f"{metric}_high"])
