"""Findings: what an exploration found goes in, sentences that matter before training come out."""

from typing import NamedTuple

from mura_skorch.evaluation.published import resembles_mura
from mura_skorch.exploration.tables import Exploration
from mura_skorch.metrics import OVERALL
from mura_skorch.utils.text import printable, some_names

__all__ = ["Finding", "describe"]

N_NAMED = 5  # patients that a sentence names


class Finding(NamedTuple):
    """A sentence on the dataset, and whether it is "good", "bad" or "plain"."""

    kind: str
    text: str


def describe(exploration: Exploration) -> list[Finding]:
    """Say what matters before a model is trained: leaks, copies, bad files, shortcuts.

    Parameters
    ----------
    exploration : mura_skorch.exploration.Exploration

    Returns
    -------
    list of Finding
        The worst first.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import explore_studies
    >>> from mura_skorch.exploration import describe
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png",)]})
    >>> describe(explore_studies(studies, read_images=False))[0].text
    'The table has no patients: no split can keep them apart.'
    """
    found = [
        *_on_patients(exploration),
        *_on_files(exploration),
        *_on_duplicates(exploration),
        *_on_publication(exploration),
        *_on_labels(exploration),
        *_on_views(exploration),
    ]
    return sorted(found, key=lambda finding: ("bad", "plain", "good").index(finding.kind))


def _on_patients(found):
    shared, n_splits = found.shared_patients, found.counts["split"].nunique()
    if shared is None:
        yield Finding("plain", "The table has no patients: no split can keep them apart.")
    elif len(shared):
        names = some_names(shared["patient"])
        yield Finding(
            "bad",
            f"Patients in more than one split: {len(shared):,} ({names}). Figures on a held-out "
            "split would be too good. Mend the patient column, or move the patients' studies.",
        )
    elif n_splits > 1:
        yield Finding("good", "No patient is in more than one split.")


def _on_files(found):
    if found.images is None:
        yield Finding("plain", "The image files were not read.")
    elif len(found.unreadable):
        n, n_files = len(found.unreadable), len(found.images)
        yield Finding("bad", f"{n:,} of {n_files:,} image files cannot be read; they are listed.")
    else:
        yield Finding("good", f"All {len(found.images):,} image files can be read.")


def _on_duplicates(found):
    if found.duplicates is None:
        return
    places = {"across splits": "in another split", "in several studies": "in another study"}
    groups = found.duplicates.groupby("found")["group"].agg(["size", "nunique"])
    for place, (n, n_pictures) in groups.iterrows():
        where = places.get(place, "in the same study")
        kind = "bad" if place == "across splits" else "plain"
        pictures = f"{n_pictures:,} picture{'s' * (n_pictures != 1)}"
        named = _named(found.duplicates[found.duplicates["found"] == place])
        yield Finding(kind, f"{n:,} images are copies of one {where}: {pictures} ({named}).")
    differ = found.duplicates[found.duplicates["labels_differ"]]
    if len(differ):
        yield Finding(
            "bad",
            f"{len(differ):,} images are copies of one whose study has the other label "
            f"({_named(differ)}).",
        )
    if groups.empty:
        yield Finding("good", "No two images have the same pixels.")


def _named(copies):
    """Return the first groups of copies as a text, by study and view."""
    groups = [
        " = ".join(f"{row.study} view {row.view}" for row in group.head(N_NAMED).itertuples())
        for _, group in list(copies.groupby("group"))[:N_NAMED]
    ]
    return printable("; ".join(groups)) + ("; ..." if copies["group"].nunique() > N_NAMED else "")


def _on_publication(found):
    published = found.published
    if not resembles_mura(published):
        yield Finding("plain", "By its counts this is not MURA v1.1.")
        return
    n, n_differ = len(published), int((~published["agrees"]).sum())
    if n_differ:
        yield Finding(
            "bad", f"{n_differ} of {n} counts differ from the published ones of MURA v1.1."
        )
    else:
        yield Finding("good", f"Agrees with the published counts of MURA v1.1, all {n} of them.")


def _on_labels(found):
    types = found.counts[found.counts["study_type"] != OVERALL]
    for row in types.to_dict("records"):
        n = row["studies"]
        if row["unlabelled"] < n and not (row["normal"] and row["abnormal"]):
            yield Finding(
                "plain",
                f"{row['study_type']} has {n:,} {'study' if n == 1 else 'studies'} in the split "
                f"{row['split']}, of which {row['normal']:,} are normal and {row['abnormal']:,} "
                "abnormal: no AUROC.",
            )
    unlabelled = types.groupby("split", sort=False)["unlabelled"].sum()
    for split, n in unlabelled[unlabelled > 0].items():
        yield Finding("plain", f"{n:,} studies of the split {split} have no label.")


def _on_views(found):
    overall = found.view_count_auroc
    overall = overall[(overall["study_type"] == OVERALL) & overall["auroc"].notna()]
    aurocs = [f"{auroc:.3f} in {split}" for split, auroc in overall[["split", "auroc"]].to_numpy()]
    if aurocs:
        yield Finding(
            "plain",
            f"The number of views alone, taken as a score, has an AUROC of {' and '.join(aurocs)}, "
            "over all study types; 0.5 is chance.",
        )
