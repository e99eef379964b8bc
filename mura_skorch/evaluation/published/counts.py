"""Counts of MURA v1.1 as published: a table's counts go in, the two side by side come out.

They follow from public copies of the dataset's own lists of paths, train_image_paths.csv and
valid_image_paths.csv.
"""

from types import MappingProxyType

import pandas as pd

from mura_skorch.metrics import OVERALL

__all__ = ["compare_counts", "is_mura", "published_counts", "resembles_mura"]

# Dataset v1.1, studies: split -> type -> (normal, abnormal).
STUDY_COUNTS = MappingProxyType(
    {
        "train": MappingProxyType(
            {
                "XR_ELBOW": (1094, 660),
                "XR_FINGER": (1280, 655),
                "XR_FOREARM": (590, 287),
                "XR_HAND": (1497, 521),
                "XR_HUMERUS": (321, 271),
                "XR_SHOULDER": (1364, 1457),
                "XR_WRIST": (2134, 1326),
            }
        ),
        "valid": MappingProxyType(
            {
                "XR_ELBOW": (92, 66),
                "XR_FINGER": (92, 83),
                "XR_FOREARM": (69, 64),
                "XR_HAND": (101, 66),
                "XR_HUMERUS": (68, 67),
                "XR_SHOULDER": (99, 95),
                "XR_WRIST": (140, 97),
            }
        ),
    }
)

# Images: split -> type -> (of normal studies, of abnormal studies).
IMAGE_COUNTS = MappingProxyType(
    {
        "train": MappingProxyType(
            {
                "XR_ELBOW": (2925, 2006),
                "XR_FINGER": (3138, 1968),
                "XR_FOREARM": (1164, 661),
                "XR_HAND": (4059, 1484),
                "XR_HUMERUS": (673, 599),
                "XR_SHOULDER": (4211, 4168),
                "XR_WRIST": (5765, 3987),
            }
        ),
        "valid": MappingProxyType(
            {
                "XR_ELBOW": (235, 230),
                "XR_FINGER": (214, 247),
                "XR_FOREARM": (150, 151),
                "XR_HAND": (271, 189),
                "XR_HUMERUS": (148, 140),
                "XR_SHOULDER": (285, 278),
                "XR_WRIST": (364, 295),
            }
        ),
    }
)

# Patients: split -> type -> how many. Some have studies of several types.
PATIENT_COUNTS = MappingProxyType(
    {
        "train": MappingProxyType(
            {
                "XR_ELBOW": 1711,
                "XR_FINGER": 1865,
                "XR_FOREARM": 865,
                "XR_HAND": 1945,
                "XR_HUMERUS": 587,
                "XR_SHOULDER": 2694,
                "XR_WRIST": 3267,
                OVERALL: 11184,
            }
        ),
        "valid": MappingProxyType(
            {
                "XR_ELBOW": 152,
                "XR_FINGER": 166,
                "XR_FOREARM": 129,
                "XR_HAND": 159,
                "XR_HUMERUS": 132,
                "XR_SHOULDER": 173,
                "XR_WRIST": 207,
                OVERALL: 783,
            }
        ),
    }
)

# Views of a study: split -> number of views -> studies.
VIEW_COUNTS = MappingProxyType(
    {
        "train": MappingProxyType(
            {1: 1131, 2: 3733, 3: 6466, 4: 1887, 5: 197, 6: 27, 7: 13, 8: 2, 11: 1}
        ),
        "valid": MappingProxyType({1: 101, 2: 412, 3: 517, 4: 135, 5: 30, 6: 1, 7: 1, 8: 1, 10: 1}),
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
    parts = []
    for split, types in STUDY_COUNTS.items():
        rows = {name: (*types[name], *IMAGE_COUNTS[split][name]) for name in types}
        part = pd.DataFrame.from_dict(rows, orient="index", columns=list(WHAT)[:4])
        part.loc[OVERALL] = part.sum()
        part["patients"] = pd.Series(PATIENT_COUNTS[split])
        parts.append(part.rename_axis("study_type").reset_index().assign(split=split))
    return pd.concat(parts, ignore_index=True)[["split", "study_type", *WHAT]]


def compare_counts(
    counts: pd.DataFrame, views_per_study: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Set the counts of a table beside those of MURA v1.1.

    Parameters
    ----------
    counts : DataFrame
        As `mura_skorch.exploration.explore_studies` counts: columns as `published_counts`.
    views_per_study : DataFrame or None, default=None
        Columns `split`, `n_views` and `studies`, of all study types together.

    Returns
    -------
    DataFrame
        Columns `split`, `study_type`, `what`, `found`, `published` and `agrees`. Rows are there for
        the splits train and valid as far as the table has them, and for its study types; for all
        types together only if it has the seven. A count that nobody published is missing, as is
        one that the table has not, and agrees with nothing.

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
    """Whether a table is MURA v1.1, or a copy that some studies are missing from.

    Parameters
    ----------
    comparison : DataFrame
        What `compare_counts` returns.

    Returns
    -------
    bool
        True if at least half of the counts agree.
    """
    return len(comparison) > 0 and bool(comparison["agrees"].mean() >= 0.5)


def is_mura(studies: pd.DataFrame) -> bool:
    """Whether a table's valid split is that of MURA v1.1, by its published counts.

    Another dataset in MURA's folder layout is told apart, and its scores are not to be set beside
    MURA's.

    Parameters
    ----------
    studies : DataFrame
        Study table with columns `split`, `study_type` and `label`. A selection of types is fine.

    Returns
    -------
    bool
        True if, for every study type in the valid split, the numbers of normal and of abnormal
        studies are exactly the published ones. False without a valid split or one of the columns,
        with a type that MURA has not, or with an unlabelled study.

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
