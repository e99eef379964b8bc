"""Describe in sentences what matters before training: leaks, copies, bad files, shortcuts."""

from typing import NamedTuple

from mura_skorch.evaluation.published import resembles_mura
from mura_skorch.exploration.tables import Exploration
from mura_skorch.metrics import OVERALL
from mura_skorch.utils.text import printable, some_names

__all__ = ["Finding", "describe"]

N_NAMED = 5  # names in a sentence


class Finding(NamedTuple):
    """A sentence about the dataset, of kind "good", "bad" or "plain"."""

    kind: str
    text: str


def describe(exploration: Exploration) -> list[Finding]:
    """Describe leaks, copies, bad files and shortcuts in a dataset.

    Parameters
    ----------
    exploration : mura_skorch.exploration.Exploration
        What `explore_studies` returns.

    Returns
    -------
    list of Finding
        Problems first.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import explore_studies
    >>> from mura_skorch.exploration import describe
    >>> studies = pd.DataFrame({"study_type": ["XR_HAND"], "views": [("a.png",)]})
    >>> describe(explore_studies(studies, read_images=False))[0].text
    'The table has no patients, so no split can separate them.'
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
    """Report patients in several splits."""
    shared, n_splits = found.shared_patients, found.counts["split"].nunique()
    if shared is None:
        yield Finding("plain", "The table has no patients, so no split can separate them.")
    elif len(shared):
        names = some_names(shared["patient"])
        yield Finding(
            "bad",
            f"Patients in more than one split: {len(shared):,} ({names}). Figures on a held-out "
            "split would be too good. Correct the patient column, or move the patients' studies.",
        )
    elif n_splits > 1:
        yield Finding("good", "No patient is in more than one split.")


def _on_files(found):
    """Report unreadable files."""
    if found.images is None:
        yield Finding("plain", "The image files were not read.")
    elif len(found.unreadable):
        n, n_files = len(found.unreadable), len(found.images)
        yield Finding("bad", f"{n:,} of {n_files:,} image files cannot be read; see the list.")
    else:
        yield Finding("good", f"All {len(found.images):,} image files can be read.")


def _on_duplicates(found):
    """Report copies, and copies with different labels."""
    if found.duplicates is None:
        return
    places = {"across splits": "in another split", "in several studies": "in another study"}
    groups = found.duplicates.groupby("found")["group"].agg(["size", "nunique"])
    for place, (n, n_pictures) in groups.iterrows():
        where = places.get(place, "in the same study")
        kind = "bad" if place == "across splits" else "plain"
        pictures = f"{n_pictures:,} {'picture' if n_pictures == 1 else 'pictures'}"
        named = _named(found.duplicates[found.duplicates["found"] == place])
        yield Finding(kind, f"{n:,} images are copies of an image {where}: {pictures} ({named}).")
    differ = found.duplicates[found.duplicates["labels_differ"]]
    if len(differ):
        yield Finding(
            "bad",
            f"{len(differ):,} images are copies of an image whose study has the other label "
            f"({_named(differ)}).",
        )
    if groups.empty:
        yield Finding("good", "No two images have the same pixels.")


def _named(copies):
    """Name the first groups of copies by study and view."""
    groups = [
        " = ".join(f"{row.study} view {row.view}" for row in group.head(N_NAMED).itertuples())
        for _, group in list(copies.groupby("group"))[:N_NAMED]
    ]
    return printable("; ".join(groups)) + ("; ..." if copies["group"].nunique() > N_NAMED else "")


def _on_publication(found):
    """Report differences from the published counts of MURA."""
    published = found.published
    if not resembles_mura(published):
        yield Finding("plain", "The counts are not those of MURA v1.1.")
        return
    n, n_differ = len(published), int((~published["agrees"]).sum())
    if n_differ:
        yield Finding(
            "bad", f"{n_differ} of {n} counts differ from the published counts of MURA v1.1."
        )
    else:
        yield Finding("good", f"Agrees with all {n} published counts of MURA v1.1.")


def _on_labels(found):
    """Report study types of one class and studies without a label."""
    types = found.counts[found.counts["study_type"] != OVERALL]
    for row in types.to_dict("records"):
        n = row["studies"]
        if row["unlabelled"] < n and not (row["normal"] and row["abnormal"]):
            yield Finding(
                "plain",
                f"{row['study_type']} has {n:,} {'study' if n == 1 else 'studies'} in the split "
                f"{row['split']}, of which {row['normal']:,} are normal and {row['abnormal']:,} "
                "abnormal: the AUROC is undefined.",
            )
    unlabelled = types.groupby("split", sort=False)["unlabelled"].sum()
    for split, n in unlabelled[unlabelled > 0].items():
        yield Finding("plain", f"{n:,} studies of the split {split} have no label.")


def _on_views(found):
    """Report the AUROC of the number of views."""
    overall = found.view_count_auroc
    overall = overall[(overall["study_type"] == OVERALL) & overall["auroc"].notna()]
    aurocs = [f"{auroc:.3f} in {split}" for split, auroc in overall[["split", "auroc"]].to_numpy()]
    if aurocs:
        yield Finding(
            "plain",
            f"As a score, the number of views alone has an AUROC of {' and '.join(aurocs)} over "
            "all study types; 0.5 is chance.",
        )
