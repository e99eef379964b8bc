"""The kappas of Table 2 of the MURA paper, and how to add them to a table of scores."""

from types import MappingProxyType

import pandas as pd

from mura_skorch.evaluation.published.counts import STUDY_COUNTS
from mura_skorch.evaluation.published.csv_tables import read_published

__all__ = ["add_published", "published_kappas"]

FOOTNOTE = (
    "* kappa printed in arXiv:1712.06957v4 for its hidden test set of 207 studies: another test set"
    " than the one scored here. best rad.: the highest of three radiologists on each row."
)

READERS = ("radiologist_1", "radiologist_2", "radiologist_3", "paper_model", "v3_model")
RADIOLOGISTS = READERS[:3]

# Table 2 and section 4 of arXiv:1712.06957v4, on the hidden test set of 207 studies (dataset v1.1).
# "v3_model" is the model of arXiv:1712.06957v3 on its 209 studies. The printed intervals lack a
# square root: `kappa_interval(method="as-printed")`.
# Study type -> (kappa, low, high) for each of READERS.
TABLE_2 = MappingProxyType(
    {
        str(study_type): tuple(
            tuple(row) for row in rows[["kappa", "kappa_low", "kappa_high"]].to_numpy().tolist()
        )
        for study_type, rows in read_published("table_2").groupby("study_type", sort=False)
    }
)

# The paper's model (v4) on the hidden test set, and the only confusion table that fits its
# sensitivity, specificity and kappa interval.
OVERALL_MODEL = MappingProxyType({"auroc": 0.929, "sensitivity": 0.815, "specificity": 0.887})
OVERALL_COUNTS = MappingProxyType({"tp": 75, "fn": 17, "fp": 13, "tn": 102})

# Studies of the hidden test set by type. Inferred: no other sizes give the printed intervals.
TEST_STUDIES = MappingProxyType(
    read_published("hidden_test_set").set_index("study_type")["studies"].to_dict()
)


def published_kappas() -> pd.DataFrame:
    """Return Table 2 of the paper, one row per study type and reader.

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
    return read_published("table_2")


def add_published(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores together with the paper's kappas.

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
