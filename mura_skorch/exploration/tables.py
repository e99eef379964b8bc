"""Count studies, views, labels and patients of a study table."""

from typing import NamedTuple

import pandas as pd
from sklearn.metrics import roc_auc_score

from mura_skorch.evaluation.published import compare_counts
from mura_skorch.exploration.image_files import find_duplicates, read_image_files
from mura_skorch.metrics import OVERALL
from mura_skorch.metrics.intervals import wilson
from mura_skorch.studies.columns import SPLITS, join_notes
from mura_skorch.studies.validation import check_studies
from mura_skorch.utils.identity import patient_keys, warn_of_lookalikes
from mura_skorch.utils.text import printable

__all__ = ["Exploration", "explore_studies"]

NO_SPLIT = "all"  # name of the split in a table without splits
BY_TYPE = ["split", "study_type"]


class Exploration(NamedTuple):
    """What `explore_studies` returns: tidy tables, sorted by split and study type.

    Tables by study type have a row "overall" per split. Tables about patients are None for a study
    table without patients, and those about image files if the files were not read.
    """

    #: split, study_type, patients, studies, normal, abnormal, unlabelled, abnormal_share, views,
    #: normal_views, abnormal_views, unlabelled_views, mean_views, max_views
    counts: pd.DataFrame
    #: split, n_views, studies, normal, abnormal, abnormal_share with its 95 % interval (Wilson's)
    #: in abnormal_share_low and abnormal_share_high
    views_per_study: pd.DataFrame
    #: split, study_type, n, n_abnormal, auroc of the number of views as the score
    view_count_auroc: pd.DataFrame
    #: split, study_type, n_studies, patients
    studies_per_patient: pd.DataFrame | None
    #: split, patients, spanning (several types), spanning_share, max_types, max_studies
    spanning: pd.DataFrame | None
    #: patient, splits, studies: patients in more than one split; there should be none
    shared_patients: pd.DataFrame | None
    #: one row per view, see `mura_skorch.exploration.read_image_files`
    images: pd.DataFrame | None
    #: split, study_type, images, and min, median and max of the short and the long side in pixels
    sizes: pd.DataFrame | None
    #: split, format, mode, images
    modes: pd.DataFrame | None
    #: see `mura_skorch.exploration.find_duplicates`
    duplicates: pd.DataFrame | None
    #: study, view, path, problem
    unreadable: pd.DataFrame | None
    #: counts compared with MURA v1.1, see `mura_skorch.evaluation.published.compare_counts`
    published: pd.DataFrame
    #: caveat of the study table, or None
    note: str | None


def explore_studies(
    studies: pd.DataFrame, *, read_images: bool = True, n_jobs: int = -1
) -> Exploration:
    """Count the contents of a study table, and find problems that would invalidate results.

    Parameters
    ----------
    studies : DataFrame
        A study table. Only ``study_type`` and ``views`` are required. Without ``split``, all
        studies are in one split called "all"; without ``label``, all are unlabelled.
    read_images : bool, default=True
        Decode every view to find sizes, duplicates and unreadable files: 3 to 5 ms each.
    n_jobs : int, default=-1
        Number of threads; -1 means one per core.

    Returns
    -------
    Exploration

    Raises
    ------
    TypeError, ValueError
        The table is invalid, see `mura_skorch.studies.check_studies`, or has a study type called
        "overall". Unreadable files do not raise; they are listed.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.exploration import explore_studies
    >>> studies = pd.DataFrame(
    ...     {
    ...         "study_type": "XR_HAND",
    ...         "patient": ["p1", "p1", "p2"],
    ...         "views": [("a.png",), ("b.png", "c.png"), ("d.png", "e.png")],
    ...         "label": [0, 1, 1],
    ...     }
    ... )
    >>> found = explore_studies(studies, read_images=False)
    >>> found.counts.loc[0, ["patients", "studies", "abnormal", "views"]].tolist()
    [2, 3, 2, 5]
    >>> found.view_count_auroc["auroc"].tolist()
    [1.0, 1.0]
    """
    table = _completed(studies)
    both = pd.concat([table, table.assign(study_type=OVERALL)])
    counts = _counts(both)
    views = _views_per_study(table)
    images = read_image_files(table, n_jobs=n_jobs) if read_images else None
    readable = None if images is None else images[images["problem"].isna()]
    with_patients = bool(table["patient"].notna().any())
    return Exploration(
        counts=counts,
        views_per_study=views,
        view_count_auroc=_view_count_auroc(both),
        studies_per_patient=_studies_per_patient(both) if with_patients else None,
        spanning=_spanning(table) if with_patients else None,
        shared_patients=_shared_patients(table) if with_patients else None,
        images=images,
        sizes=_sizes(readable) if read_images else None,
        modes=_modes(readable) if read_images else None,
        duplicates=None if readable is None else find_duplicates(readable),
        unreadable=_unreadable(images) if read_images else None,
        published=compare_counts(counts, views),
        note=join_notes(table),
    )


def _completed(studies):
    """Return a validated copy with all columns of a study table, and 0/1 columns to sum."""
    studies, _ = check_studies(studies)
    if OVERALL in set(studies["study_type"]):
        raise ValueError(f"expected study types other than {OVERALL!r}; rename that one")
    table = studies.reset_index(drop=True)
    if "study" not in table:
        table["study"] = studies.index.astype(str)
    if "split" not in table:
        table["split"] = NO_SPLIT
    table["split"] = table["split"].map(str, na_action="ignore").fillna(NO_SPLIT)
    table["patient"] = _patients(table["patient"]) if "patient" in table else None
    label = table["label"].astype("Int8") if "label" in table else pd.NA
    table["label"] = pd.Series(label, index=table.index, dtype="Int8")
    table["views_"] = table["views"].map(len)
    masks = {"normal": table["label"] == 0, "abnormal": table["label"] == 1}
    masks["unlabelled"] = table["label"].isna()
    for name, mask in masks.items():
        table[name] = mask.fillna(False).astype(int)
        table[f"{name}_views"] = table[name] * table["views_"]
    return table


def _patients(patients):
    """Return patient ids as str, each in its first spelling; missing ids stay missing."""
    keys = pd.Series(patient_keys(patients, missing=""), index=patients.index, dtype=object)
    warn_of_lookalikes(keys.unique(), stacklevel=5)
    written = patients.map(str, na_action="ignore").astype(object)
    return written.groupby(keys).transform("first").where(keys != "")


def _counts(both):
    """Count patients, studies, views and labels by split and study type."""
    labels = ["normal", "abnormal", "unlabelled"]
    counts = both.groupby(BY_TYPE).agg(
        patients=("patient", "nunique"),
        studies=("study", "size"),
        **{name: (name, "sum") for name in labels},
        views=("views_", "sum"),
        **{f"{name}_views": (f"{name}_views", "sum") for name in labels},
        mean_views=("views_", "mean"),
        max_views=("views_", "max"),
    )
    counts.insert(5, "abnormal_share", _abnormal_share(counts))
    return _ordered(counts)


def _views_per_study(table):
    """Count the studies by their number of views, and how many of them are abnormal."""
    grouped = table.rename(columns={"views_": "n_views"}).groupby(["split", "n_views"])
    views = grouped.agg(
        studies=("study", "size"), normal=("normal", "sum"), abnormal=("abnormal", "sum")
    )
    views["abnormal_share"] = _abnormal_share(views)
    labelled = views["normal"] + views["abnormal"]
    limits = [wilson(*pair) for pair in zip(views["abnormal"], labelled, strict=True)]
    views[["abnormal_share_low", "abnormal_share_high"]] = limits
    return _ordered(views)


def _abnormal_share(counts):
    """Return the share of abnormal studies among those with a label; NaN without any."""
    return counts["abnormal"] / (counts["normal"] + counts["abnormal"])


def _view_count_auroc(both):
    """Return the AUROC of the number of views as a score; NaN if a class is missing."""
    rows = []
    for key, part in both.groupby(BY_TYPE):
        known = part[part["unlabelled"] == 0]
        n, n_abnormal = len(known), int(known["abnormal"].sum())
        auroc = float("nan")
        if 0 < n_abnormal < n:
            auroc = float(roc_auc_score(known["abnormal"], known["views_"]))
        rows.append((*key, n, n_abnormal, auroc))
    table = pd.DataFrame(rows, columns=[*BY_TYPE, "n", "n_abnormal", "auroc"])
    return _ordered(table.set_index(BY_TYPE))


def _studies_per_patient(both):
    """Count patients by their number of studies, per type and over all types."""
    sizes = both.groupby([*BY_TYPE, "patient"]).size().rename("n_studies").reset_index()
    return _ordered(sizes.groupby([*BY_TYPE, "n_studies"]).agg(patients=("patient", "size")))


def _spanning(table):
    """Count patients with several study types."""
    patients = table.groupby(["split", "patient"]).agg(
        types=("study_type", "nunique"), studies=("study", "size")
    )
    spanning = (patients["types"] > 1).groupby("split").agg(["size", "sum", "mean"])
    spanning.columns = ["patients", "spanning", "spanning_share"]
    most = patients.groupby("split").max().add_prefix("max_")
    return _ordered(spanning.join(most))


def _shared_patients(table):
    """Return patients in more than one split."""
    patients = table.groupby("patient").agg(
        n_splits=("split", "nunique"),
        splits=("split", lambda splits: ", ".join(sorted(set(splits), key=_rank))),
        studies=("study", "size"),
    )
    return patients[patients.pop("n_splits") > 1].reset_index()


def _sizes(readable):
    """Return minimum, median and maximum of the shorter and the longer side."""
    sides = pd.DataFrame(
        {
            "short": readable[["width", "height"]].min(axis=1).astype(float),
            "long": readable[["width", "height"]].max(axis=1).astype(float),
        }
    ).join(readable[BY_TYPE])
    grouped = pd.concat([sides, sides.assign(study_type=OVERALL)]).groupby(BY_TYPE)
    names = [f"{side}_{part}" for side in ("short", "long") for part in ("min", "median", "max")]
    sizes = grouped[["short", "long"]].agg(["min", "median", "max"]).set_axis(names, axis=1)
    sizes.insert(0, "images", grouped.size())
    return _ordered(sizes)


def _modes(readable):
    """Count images by format and colour mode."""
    return _ordered(readable.groupby(["split", "format", "mode"]).agg(images=("path", "size")))


def _unreadable(images):
    """Return the views that cannot be read."""
    bad = images[images["problem"].notna()]
    bad = bad.assign(path=bad["path"].map(printable))
    return bad[["study", "view", "path", "problem"]].reset_index(drop=True)


def _ordered(table):
    """Return the keys as sorted columns: train, valid, test; "overall" after the study types."""
    return table.reset_index().sort_values(list(table.index.names), key=_ranks, ignore_index=True)


def _ranks(values):
    return values.map(_rank) if values.name == "split" else values.map(lambda v: (v == OVERALL, v))


def _rank(split):
    return (SPLITS.index(split) if split in SPLITS else len(SPLITS), split)
