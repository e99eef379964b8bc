"""Compare the counts of a dataset with the published counts of MURA v1.1."""

from types import MappingProxyType

import pandas as pd

from mura_skorch.evaluation.published.csv_tables import read_published
from mura_skorch.metrics import OVERALL

__all__ = ["compare_counts", "is_mura", "published_counts", "resembles_mura"]


def _by_split(table, columns):
    """Return the columns of a table of counts: split -> study type -> numbers."""
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for split, name, *row in table[["split", "study_type", *columns]].itertuples(index=False):
        found.setdefault(split, {})[name] = tuple(row)
    return MappingProxyType({split: MappingProxyType(types) for split, types in found.items()})


# Counted in public copies of the dataset's own lists of paths, train_image_paths.csv and
# valid_image_paths.csv.
_counts = read_published("counts")
_of_types = _counts[_counts["study_type"] != OVERALL]

# Studies: split -> study type -> (normal, abnormal).
STUDY_COUNTS = _by_split(_of_types, ["normal", "abnormal"])

# Images: split -> study type -> (of normal studies, of abnormal studies).
IMAGE_COUNTS = _by_split(_of_types, ["normal_views", "abnormal_views"])

# Patients: split -> study type -> how many. Some have studies of several types.
PATIENT_COUNTS = MappingProxyType(
    {
        split: MappingProxyType({name: n for name, (n,) in types.items()})
        for split, types in _by_split(_counts, ["patients"]).items()
    }
)

# Split -> number of views -> studies with that many.
VIEW_COUNTS = MappingProxyType(
    {
        str(split): MappingProxyType(rows.set_index("n_views")["studies"].to_dict())
        for split, rows in read_published("views_per_study").groupby("split", sort=False)
    }
)

WHAT = {
    "normal": "normal studies",
    "abnormal": "abnormal studies",
    "normal_views": "images of normal studies",
    "abnormal_views": "images of abnormal studies",
    "patients": "patients",
}


def published_counts() -> pd.DataFrame:
    """Return the counts of MURA v1.1, one row per split and study type.

    Returns
    -------
    DataFrame
        Columns `split`, `study_type` ("overall" for all of them), `normal` and `abnormal`
        (studies), `normal_views` and `abnormal_views` (images), `patients`.

    Examples
    --------
    >>> from mura_skorch.evaluation.published import published_counts
    >>> counts = published_counts().set_index(["split", "study_type"])
    >>> counts.loc[("valid", "overall")].to_dict()  # doctest: +NORMALIZE_WHITESPACE
    {'normal': 661, 'abnormal': 538, 'normal_views': 1667, 'abnormal_views': 1530, 'patients': 783}
    """
    return read_published("counts")


def compare_counts(
    counts: pd.DataFrame, views_per_study: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Compare the counts of a dataset with those of MURA v1.1.

    Parameters
    ----------
    counts : DataFrame
        The columns of `published_counts`, as `mura_skorch.exploration.explore_studies` makes them.
    views_per_study : DataFrame or None, default=None
        Columns `split`, `n_views` and `studies`, over all study types.

    Returns
    -------
    DataFrame
        Columns `split`, `study_type`, `what`, `found`, `published` and `agrees`. It has rows for
        the study types of `counts` in its splits train and valid, and for "overall" only if
        `counts` has all seven types. A count that is in one of the two tables only is missing in
        the other column, and `agrees` is False.

    Examples
    --------
    >>> from mura_skorch.evaluation.published import compare_counts, published_counts
    >>> compare_counts(published_counts()).agrees.all()
    np.True_
    """
    whole = set(STUDY_COUNTS["valid"]) <= set(counts["study_type"])
    types = set(counts["study_type"]) - (set() if whole else {OVERALL})
    splits = set(counts["split"]) & set(STUDY_COUNTS)
    found, published = (
        table[table["split"].isin(splits) & table["study_type"].isin(types)]
        .melt(["split", "study_type"], list(WHAT), "what", value_name=side)
        .replace({"what": WHAT})
        for table, side in ((counts, "found"), (published_counts(), "published"))
    )
    keys = ["split", "study_type", "what"]
    both = found.merge(published, "outer", on=keys)
    if whole and views_per_study is not None:
        known = views_per_study[views_per_study["split"].isin(splits)]
        own = known.set_index(["split", "n_views"])["studies"].rename("found")
        theirs = pd.Series(
            {(split, n): VIEW_COUNTS[split][n] for split in splits for n in VIEW_COUNTS[split]},
            name="published",
        ).rename_axis(["split", "n_views"])
        views = pd.concat([own, theirs], axis=1).fillna(0).sort_index().reset_index()
        what = "studies of " + views.pop("n_views").astype(str) + " views"
        both = pd.concat([both, views.assign(study_type=OVERALL, what=what)])
    both = both.astype({"found": "Int64", "published": "Int64"}).reset_index(drop=True)
    both["agrees"] = (both["found"] == both["published"]).fillna(False).astype(bool)
    return both[[*keys, "found", "published", "agrees"]]


def resembles_mura(comparison: pd.DataFrame) -> bool:
    """Return whether a dataset is MURA v1.1, or a copy of it with some studies missing.

    Parameters
    ----------
    comparison : DataFrame
        As returned by `compare_counts`.

    Returns
    -------
    bool
        True if at least half of the counts agree.
    """
    return len(comparison) > 0 and bool(comparison["agrees"].mean() >= 0.5)


def is_mura(studies: pd.DataFrame) -> bool:
    """Return whether the valid split of a table is MURA v1.1's, by the published counts.

    It separates MURA from other datasets in the same folder layout, whose scores cannot be compared
    with MURA's.

    Parameters
    ----------
    studies : DataFrame
        Study table with columns `split`, `study_type` and `label`, of all types or some.

    Returns
    -------
    bool
        True if the numbers of normal and abnormal studies equal the published ones for every study
        type in the valid split. False if the valid split or a column is missing, if MURA does not
        have a type, or if a study has no label.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.published import is_mura
    >>> wrists = pd.DataFrame(
    ...     {"split": "valid", "study_type": "XR_WRIST", "label": [0] * 140 + [1] * 97}
    ... )
    >>> is_mura(wrists), is_mura(wrists[1:])
    (True, False)
    """
    if not {"split", "study_type", "label"} <= set(studies.columns):
        return False
    valid = studies[studies["split"] == "valid"]
    if valid.empty or valid[["study_type", "label"]].isna().any(axis=None):
        return False
    published = STUDY_COUNTS["valid"]
    for study_type, labels in valid.groupby("study_type", observed=True)["label"]:
        counts = int((labels == 0).sum()), int((labels == 1).sum())
        if counts != published.get(str(study_type)) or sum(counts) != len(labels):
            return False
    return True
