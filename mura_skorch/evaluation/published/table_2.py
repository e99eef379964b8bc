"""Table 2 of the paper: nothing goes in, kappas of radiologists and models as printed come out.

The figures are those of Table 2 and section 4 of arXiv:1712.06957v4, on the hidden test set of 207
studies, with intervals that leave out a square root (`kappa_interval(method="as-printed")`).
"""

from types import MappingProxyType

import pandas as pd

from mura_skorch.evaluation.published.counts import STUDY_COUNTS

__all__ = ["add_published", "published_kappas"]

FOOTNOTE = (
    "* kappa printed in arXiv:1712.06957v4 for its hidden test set of 207 studies: another test set"
    " than the one scored here. best rad.: the highest of three radiologists on each row."
)

READERS = ("radiologist_1", "radiologist_2", "radiologist_3", "paper_model", "v3_model")
RADIOLOGISTS = READERS[:3]

# (kappa, low, high) for each of READERS. "v3_model" is the model of paper v3 on its 209 studies;
# all others are of paper v4 (dataset v1.1) on the hidden 207.
TABLE_2 = MappingProxyType(
    {
        "XR_ELBOW": (
            (0.850, 0.830, 0.871),
            (0.710, 0.674, 0.745),
            (0.719, 0.685, 0.752),
            (0.710, 0.674, 0.745),
            (0.733, 0.703, 0.764),
        ),
        "XR_FINGER": (
            (0.304, 0.249, 0.358),
            (0.403, 0.339, 0.467),
            (0.410, 0.358, 0.463),
            (0.389, 0.332, 0.446),
            (0.525, 0.476, 0.573),
        ),
        "XR_FOREARM": (
            (0.796, 0.772, 0.821),
            (0.802, 0.779, 0.825),
            (0.798, 0.774, 0.822),
            (0.737, 0.707, 0.766),
            (0.670, 0.634, 0.705),
        ),
        "XR_HAND": (
            (0.661, 0.623, 0.698),
            (0.927, 0.917, 0.937),
            (0.789, 0.762, 0.815),
            (0.851, 0.830, 0.871),
            (0.780, 0.752, 0.809),
        ),
        "XR_HUMERUS": (
            (0.867, 0.850, 0.883),
            (0.733, 0.703, 0.764),
            (0.933, 0.925, 0.942),
            (0.600, 0.558, 0.642),
            (0.800, 0.776, 0.824),
        ),
        "XR_SHOULDER": (
            (0.864, 0.847, 0.881),
            (0.791, 0.765, 0.816),
            (0.864, 0.847, 0.881),
            (0.729, 0.697, 0.760),
            (0.795, 0.770, 0.819),
        ),
        "XR_WRIST": (
            (0.791, 0.766, 0.817),
            (0.931, 0.922, 0.940),
            (0.931, 0.922, 0.940),
            (0.931, 0.922, 0.940),
            (0.931, 0.922, 0.940),
        ),
        "overall": (
            (0.731, 0.726, 0.735),
            (0.763, 0.759, 0.767),
            (0.778, 0.774, 0.782),
            (0.705, 0.700, 0.710),
            (0.749, 0.744, 0.753),
        ),
    }
)

# The paper's model (v4) on the hidden test set, and the one confusion table that fits it all.
OVERALL_MODEL = MappingProxyType({"auroc": 0.929, "sensitivity": 0.815, "specificity": 0.887})
OVERALL_COUNTS = MappingProxyType({"tp": 75, "fn": 17, "fp": 13, "tn": 102})

# Studies of the hidden test set by type, inferred: no other sizes give the printed intervals.
TEST_STUDIES = MappingProxyType(
    {
        "XR_ELBOW": 28,
        "XR_FINGER": 30,
        "XR_FOREARM": 30,
        "XR_HAND": 30,
        "XR_HUMERUS": 30,
        "XR_SHOULDER": 30,
        "XR_WRIST": 29,
        "overall": 207,
    }
)


def published_kappas() -> pd.DataFrame:
    """Table 2 of the paper, one row per study type and reader.

    Returns
    -------
    DataFrame
        Columns `study_type` ("overall" for the pooled studies), `reader` (one of `READERS`),
        `kappa`, `kappa_low`, `kappa_high`, with the interval as printed.

    Examples
    --------
    >>> from mura_skorch.evaluation.published import published_kappas
    >>> kappas = published_kappas()
    >>> kappas[kappas.study_type == "overall"].set_index("reader").kappa.to_dict()["paper_model"]
    0.705
    """
    return pd.DataFrame(
        [
            (study_type, reader, *cell)
            for study_type, row in TABLE_2.items()
            for reader, cell in zip(READERS, row, strict=True)
        ],
        columns=["study_type", "reader", "kappa", "kappa_low", "kappa_high"],
    )


def add_published(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores with the paper's kappas beside them.

    Parameters
    ----------
    scores : DataFrame
        What :func:`mura_skorch.metrics.study_scores` returns for MURA; see :func:`is_mura`.

    Returns
    -------
    DataFrame
        A copy with the columns `paper_model` and `best_radiologist`: kappas on *another* test set,
        as `FOOTNOTE` says, which has to be shown with them. NaN for types that the paper has not,
        and for the pooled row when the types above it are some of the seven only, since a pool of
        fewer types is compared with nothing that was published.

    Raises
    ------
    ValueError
        If there is no column `study_type`.

    Notes
    -----
    The best radiologist is the one with the highest kappa on that row, of three: a different one
    from row to row, and so a little better than any one of them.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> from mura_skorch.evaluation.published import add_published
    >>> scores = study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1], study_type=["XR_HAND"] * 4)
    >>> add_published(scores)[["study_type", "kappa", "paper_model", "best_radiologist"]]
      study_type  kappa  paper_model  best_radiologist
    0    XR_HAND    0.5        0.851             0.927
    1    overall    0.5          NaN               NaN
    """
    if "study_type" not in scores:
        raise ValueError(
            f"expected a table with a column study_type, got {list(scores.columns)}; "
            "pass what study_scores returns"
        )
    rows = {study_type: [cell[0] for cell in row] for study_type, row in TABLE_2.items()}
    kappas = pd.DataFrame.from_dict(rows, orient="index", columns=READERS)
    shown = set(scores["study_type"]) - {"overall"}
    if shown and shown != set(STUDY_COUNTS["valid"]):
        kappas = kappas.drop("overall")
    return scores.assign(
        paper_model=scores["study_type"].map(kappas["paper_model"]).astype(float),
        best_radiologist=scores["study_type"]
        .map(kappas[list(RADIOLOGISTS)].max(axis=1))
        .astype(float),
    )
