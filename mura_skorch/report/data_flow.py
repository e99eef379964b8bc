"""What went into a model and its report: flow of studies, characteristics, sample size."""

import textwrap
from collections.abc import Mapping, Sequence, Set
from functools import reduce
from typing import Any

import pandas as pd

from mura_skorch.data.dataset import studies_of
from mura_skorch.evaluation.characteristics import (
    add_descriptions,
    characteristics_table,
    describe_studies,
    digest_of,
    patients_text,
)
from mura_skorch.evaluation.predictions import scored_rows
from mura_skorch.metrics import studies_needed
from mura_skorch.plots import FlowDisplay, FlowStep
from mura_skorch.studies.read_counts import read_counts
from mura_skorch.utils.identity import count_patients, patient_keys
from mura_skorch.utils.members import members_of
from mura_skorch.utils.text import interval_text, number_text

__all__ = ["collect_data", "data_flow_page", "join_data"]

HALF_WIDTH, HALF_WIDTH_TEXT = 0.05, ".05"  # of kappa's interval
BOX_LETTERS = 30  # of a line in a box
OTHER_TABLE = "another table"  # is not the one of the fit
NOT_RECORDED = (
    "The studies that the model was fitted on are not described here: it was saved by an older "
    "version, or only a prediction table was given. A new fit counts them."
)


def collect_data(
    clf: Any, studies: pd.DataFrame, *, train: pd.DataFrame | None = None
) -> dict[str, Any]:
    """Collect what went into a model, and into the studies that it is scored on.

    Parameters
    ----------
    clf : MuraClassifier or MuraEnsemble
        Fitted or loaded.
    studies : DataFrame of n_studies rows
        The study table that is predicted.
    train : DataFrame, optional
        The studies that the model was fitted on, to count shared patients of a loaded model, which
        holds no ids.

    Returns
    -------
    dict
        What JSON can hold: ``fits``, one record for each different set of studies that a member was
        fitted on; ``read``, ``predicted`` and ``scored``, what is known of `studies`; ``apart``,
        how shared patients were counted, and their number, None if they cannot be. There is no
        number if the digest of `train` is not the one that the model has on record.
    """
    fits = [net.record_.fitted_on for net in members_of(clf) if net.record_.fitted_on]
    labelled = studies[studies["label"].notna()] if "label" in studies else studies[:0]
    return {
        "fits": [fit for number, fit in enumerate(fits) if fit not in fits[:number]],
        "read": read_counts(studies),
        "predicted": len(studies),
        "scored": describe_studies(labelled) if len(labelled) else None,
        "apart": _count_shared(clf, studies, train, fits),
    }


def join_data(
    found: Sequence[dict[str, Any] | None],
    patients: Sequence[Mapping[str, Set[str]]] = (),
) -> dict[str, Any] | None:
    """Join what went into several models, each of other study types; None if one is missing.

    Parameters
    ----------
    found : sequence of dict or None
        What `collect_data` returns for each model.
    patients : sequence of mapping of str to set of str, default=()
        For each model, the patients of its ``training`` part, of its ``validation`` part and of
        the ``scored`` studies, as keys (`mura_skorch.utils.identity.patient_keys`). They let a
        patient of several models count once. Without them, numbers of patients are sums over the
        models, and the report says so. Only their numbers are kept.
    """
    known = [data for data in found if data is not None]
    if not known or len(known) < len(found):
        return None
    fits = [fit for data in known for fit in data["fits"]]
    aparts = [data["apart"] for data in known]
    unknown = [apart for apart in aparts if apart is None or "n_shared" not in apart]
    summed = {"summed_over": len(known)} if len(known) > 1 else {}
    scored = reduce(add_descriptions, [data["scored"] for data in known if data["scored"]])
    joined = {
        "fits": [fit for number, fit in enumerate(fits) if fit not in fits[:number]],
        "read": known[0]["read"],
        "predicted": sum(data["predicted"] for data in known),
        "scored": scored | summed,
        "apart": unknown[0] if unknown else reduce(add_descriptions, aparts) | summed,
    }
    if len(patients) == len(known) and all(own["training"] for own in patients):
        joined["patients"] = _count_once(patients)
        if not unknown:
            joined["apart"] = {"how": joined["apart"]["how"], **_count_apart(patients)}
    return joined


def data_flow_page(
    data: dict[str, Any] | None,
    predictions: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    note: str | None,
    is_external: bool = False,
) -> dict[str, Any]:
    """Return what the template shows, and the figure.

    Parameters
    ----------
    data : dict or None
        What `collect_data` or `join_data` returns.
    predictions : DataFrame
        The prediction table of the report.
    scores : DataFrame
        Scores at study level.
    note : str or None
        Caveat of the data.
    is_external : bool, default=False
        Whether the scored studies are of another hospital, which has patient ids of its own.
    """
    data = data or {}
    scored = scored_rows(predictions)
    fits = data.get("fits", [])
    fit = _add_fits(fits, data.get("patients")) if fits else None
    parts = dict(fit["parts"]) if fit else {}
    known = data.get("scored")
    if known and known["studies"] == len(scored):
        parts["scored here"] = known
        if "patient" in scored:
            unique = {"patients": count_patients(scored["patient"]), "summed_over": None}
            parts["scored here"] = known | unique
    else:
        parts["scored here"] = describe_studies(scored)
    own = _scored_steps(data, predictions, len(scored), parts["scored here"])
    columns = [_fit_steps(fit), own] if fit else [own]
    return {
        "figure": FlowDisplay(columns, note=note).plot().figure_,
        "table": characteristics_table(parts),
        "sentences": [
            *_apart_sentences(fit, data.get("apart"), parts, is_external, data.get("patients")),
            *_fit_sentences(fits, data.get("patients")),
        ],
        "sample_size": _sample_sizes(scores),
        "half_width": HALF_WIDTH_TEXT,
    }


def _add_fits(fits, patients):
    """Add up what several models were fitted on; what was read is the same for all, or unknown."""
    reads = [fit["read"] for fit in fits]
    added = reduce(add_descriptions, fits)
    if len(fits) > 1:
        parts = {
            name: part | ({"patients": patients[name]} if patients else {"summed_over": len(fits)})
            for name, part in added["parts"].items()
        }
        added = added | {"parts": parts}
    return added | {"read": reads[0] if all(read == reads[0] for read in reads) else {}}


def _count_once(patients):
    """Return the numbers of patients in any training part, in any validation part and in both."""
    training, validation = (
        set().union(*(own[name] for own in patients)) for name in ("training", "validation")
    )
    return {
        "training": len(training),
        "validation": len(validation),
        "both": len(training & validation),
    }


def _count_apart(patients):
    """Return how many different patients were scored, seen by a fit, and shared by one model."""
    seen = [own["training"] | own["validation"] for own in patients]
    shared = [own["scored"] & known for own, known in zip(patients, seen, strict=True)]
    return {
        "n_shared": len(set().union(*shared)),
        "n_seen": len(set().union(*seen)),
        "n_scored": len(set().union(*(own["scored"] for own in patients))),
    }


def _count_shared(clf, studies, train, fits):
    """Return how many scored patients a fit saw, and how that was found out; None if unknown."""
    if "patient" not in studies:
        return None
    scored = set(patient_keys(studies["patient"].dropna()))
    members = members_of(clf)
    if all(net.trained_patients_ for net in members):
        seen = set().union(*(net.trained_patients_ | net.validated_patients_ for net in members))
        how = "fit"
    elif train is not None and "patient" in train and fits:
        digest = digest_of(studies_of(train))
        if any(digest != fit["digest"] for fit in fits):
            return {"how": OTHER_TABLE}
        seen, how = set(patient_keys(train["patient"].dropna())), "table"
    else:
        return None
    return {
        "how": how,
        "n_shared": len(scored & seen),
        "n_seen": len(seen),
        "n_scored": len(scored),
    }


def _apart_sentences(fit, apart, parts, is_external, patients):
    """Say what is known of patients on both sides."""
    found = []
    if fit and "validation" in fit["parts"]:
        a, b = (patients_text(fit["parts"][name]) for name in ("training", "validation"))
        of_each = " of each model" if patients else ""
        found.append(
            f"Training and validation part{of_each} share {_none(fit['n_shared'])} of their {a} "
            f"and {b} patients, counted at the fit."
        )
        if patients and patients["both"] > fit["n_shared"]:
            found.append(
                "Patients in the training part of one model and in the validation part of "
                f"another: {patients['both']:,}."
            )
    if apart is None:
        found.append(
            "Patients of the fit and of the studies scored here were not compared: a saved model "
            "holds no patient ids, and a table may have none. Score in the process of the fit, or "
            "pass the table that was fitted on (train of collect_predictions, --similar-from of "
            "predict.py), to count them."
        )
        return found
    if apart["how"] == OTHER_TABLE:
        found.append(
            "Patients of the fit and of the studies scored here were not compared: the table that "
            "was passed as that of the fit is another one, since their digests differ."
        )
        return found
    source = {
        "fit": "counted in the process of the fit",
        "table": "counted with the table of the fit, which its digest identifies",
    }.get(apart["how"], "counted for each model")
    over = apart.get("summed_over")
    summed = f" (sum over {over} models)" if over else ""
    if is_external:
        n = apart["n_shared"]
        found.append(
            f"{_none(n).capitalize()} of the {apart['n_scored']:,} patient ids here{summed} "
            f"{'occur' if n > 1 else 'occurs'} among the {apart['n_seen']:,}{summed} of "
            f"training and validation, {source}. Two hospitals may use one id for different "
            "patients, and different ids for one patient."
        )
    else:
        found.append(
            f"The {apart['n_scored']:,} patients scored here{summed} share "
            f"{_none(apart['n_shared'])} with the {apart['n_seen']:,}{summed} of training and "
            f"validation{' of their own model' if patients else ''}, {source}."
            + (" The figures are too good." if apart["n_shared"] else "")
        )
    if "training" in parts:
        found.append("The digests in the last row identify the studies and labels of each side.")
    return found


def _none(n):
    """Return a number as a word or digits."""
    return "none" if n == 0 else f"{n:,}"


def _fit_sentences(fits, patients):
    """Say what is missing, added up or counted as a study."""
    if not fits:
        return [NOT_RECORDED]
    found = []
    if len(fits) > 1:
        counted = (
            "A patient of several models counts once"
            if patients
            else "A patient of several models is counted by each, so that a sum of patients is not "
            "the number of different people"
        )
        found.append(
            f"{len(fits)} models were fitted on different studies: their numbers are added up. "
            f"{counted}."
        )
    if any(fit.get("is_exploded") for fit in fits):
        found.append("The fit was given single views: in its parts each view counts as a study.")
    return found


def _fit_steps(fit):
    """Return the boxes of the fit."""
    read, steps = fit["read"], []
    if read and read["studies"] >= fit["given"]:
        steps.append(FlowStep(f"{read['studies']:,} studies read", _not_given(read, fit["given"])))
    steps = [*_file_steps(read), *steps]
    unreadable = "No unreadable view"
    if fit["unreadable_views"]:
        unreadable = (
            f"Left out: {fit['unreadable_studies']:,} without\na readable view\n"
            f"({fit['unreadable_views']:,} unreadable views)"
        )
    steps.append(FlowStep(f"{fit['given']:,} studies given to the fit", unreadable))
    texts = [_part_text(f"{name.capitalize()} part", own) for name, own in fit["parts"].items()]
    if fit["is_separate"]:
        texts[-1] += "\n(from a table of its own)"
    return [*steps, FlowStep("\n".join(texts))]


def _file_steps(read):
    """Return the box of the files that were left out, if any were."""
    files = read.get("files_left_out", {})
    if not files:
        return []
    lines = [f"{n:,} {reason}" for reason, n in files.items()]
    wrapped = [part for line in lines for part in textwrap.wrap(line, BOX_LETTERS)]
    return [FlowStep("Files of the folder", "\n".join(["Files left out:", *wrapped]))]


def _count(n, one, many):
    """Return a number with its noun."""
    return f"{n:,} {one if n == 1 else many}"


def _not_given(read, given):
    """Return what was read and not given to the fit."""
    left = read["studies"] - given
    if not left:
        return ""
    unlabelled = min(read["unlabelled"], left)
    lines = [f"{unlabelled:,} unlabelled"]
    if left - unlabelled:
        lines.append(f"{left - unlabelled:,} of other splits or types,\nor not chosen")
    return "Left out:\n" + "\n".join(lines)


def _scored_steps(data, predictions, n_scored, described):
    """Return the boxes of the studies of the report."""
    read, steps = data.get("read") or {}, []
    n = len(predictions)
    if read and read["studies"] >= n:
        left = read["studies"] - n
        steps.append(
            FlowStep(f"{read['studies']:,} studies read", f"{left:,} not predicted" if left else "")
        )
        steps = [*_file_steps(read), *steps]
    unlabelled = int(predictions["label"].isna().sum())
    without = n - n_scored - unlabelled
    lines = [f"{unlabelled:,} unlabelled"]
    lines += [f"{without:,} without a score"] if without > 0 else []
    steps.append(FlowStep(f"{n:,} studies predicted", "\n".join(lines)))
    return [*steps, FlowStep(_part_text("Scored here", described))]


def _part_text(title, own):
    """Return the lines of a box of a partition."""
    known, over = own["patients"] is not None, own.get("summed_over")
    patients = f" of {_count(own['patients'], 'patient', 'patients')}" if known else ""
    patients += f"\n(patients: sum over {over} models)" if known and over else ""
    studies = _count(own["studies"], "study", "studies")
    return f"{title}:\n{studies}{patients}\n{own['views']:,} views, {own['abnormal']:,} abnormal"


def _sample_sizes(scores):
    """Return the half-width of kappa that was reached, and the studies for the wanted one."""
    rows = []
    for row in scores.dropna(subset="n").to_dict("records"):
        low, high = row["kappa_low"], row["kappa_high"]
        needed = studies_needed(int(row["n"]), low, high, half_width=HALF_WIDTH)
        rows.append(
            {
                "study type": row["study_type"],
                "studies": int(row["n"]),
                "kappa (95 % CI)": interval_text(row["kappa"], low, high),
                "half-width": number_text((high - low) / 2),
                f"studies for ±{HALF_WIDTH_TEXT}": "n/a" if pd.isna(needed) else f"{needed:,.0f}",
            }
        )
    return pd.DataFrame(rows)
