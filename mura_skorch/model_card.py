"""Model card: what was trained and how it scored go in, what to know before using it comes out."""

from mura_skorch.metrics import OVERALL
from mura_skorch.texts import interval_text

__all__ = ["model_card", "to_markdown"]

INTENDED = [
    "Research on the classification of studies of radiographs as normal or abnormal, by people who "
    "know both the data and the method.",
    "Not a medical device: not cleared by any authority, not for diagnosis, triage or any decision "
    "about a patient.",
    "Out of scope: body parts, projections, age groups, scanners and countries other than those of "
    "the training data; single findings; anything but the study as a whole.",
]
# Numbers: Rajpurkar et al. (arXiv:1712.06957) and an outside review of the released images.
LABELS = [
    "A label belongs to a whole study, not to a view: a view of an abnormal study may look normal.",
    "MURA's labels were taken from clinical reports. About half of its abnormal studies show "
    "plates, casts or marks, some 240 studies with hardware are labelled normal, and the "
    "sensitivity of the labels for degenerative joint disease was put at 60 % by an outside "
    "review.",
    "In MURA the number of views alone tells something of the label (AUROC .58 on the public "
    "valid split), since more pictures are taken of what looks suspicious; the report's table of "
    "shortcuts has the figure for this data.",
]
LIMITS = [
    "Figures hold for the studies they were measured on. Before use elsewhere, score the model on "
    "local, labelled studies and choose its operating point there.",
    "A loss that gives the rarer class the larger weight, as the default one does, shifts "
    "probabilities towards that class. They are the share of abnormal studies only after "
    "recalibration, by a slope and an intercept fitted on labelled studies of the place of use; "
    "see the reliability curve.",
    "Activation maps show which places raised or lowered the network's output. They are no "
    "outlines of findings and no explanation of a decision.",
    "Intervals describe the sampling of patients, not the training: another random seed gives "
    "another model.",
]
PHANTOMS = (
    "Trained or scored on phantoms, that is on drawings. The figures say that the software works, "
    "and nothing about radiographs."
)


def model_card(scores, *, about=None, note=None):
    """Return the sections of the card.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.evaluation.score_predictions` returns.
    about : dict of str to str, optional
        What was run on what.
    note : str, optional
        A caveat of the data, such as "phantoms: no clinical meaning".

    Returns
    -------
    dict of str to list of str
        Heading to paragraphs.
    """
    overall = scores[scores["study_type"] == OVERALL].iloc[0]
    return {
        "Model": [
            "DenseNet-169 reads each view of a study; the study's probability of abnormality is "
            "the mean over its views (Rajpurkar et al., arXiv:1712.06957).",
            *([PHANTOMS] if "phantoms" in (note or "") else []),
        ],
        "Intended use": INTENDED,
        "Data and training": [f"{name}: {value}" for name, value in (about or {}).items()],
        "Labels": LABELS,
        "Figures": [
            f"{int(overall['n'])} studies scored, {int(overall['n_abnormal'])} of them abnormal: "
            f"kappa {_interval(overall, 'kappa')}, AUROC {_interval(overall, 'auroc')}, "
            f"sensitivity {_interval(overall, 'sensitivity')}, specificity "
            f"{_interval(overall, 'specificity')}; 95 % intervals in brackets.",
            *([f"Caveat: {note}."] if note else []),
        ],
        "Limits": LIMITS,
    }


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
