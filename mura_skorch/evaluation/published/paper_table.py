"""Add a model as a column of the MURA paper's Table 2."""

import textwrap

import pandas as pd

from mura_skorch.evaluation.published.counts import STUDY_COUNTS
from mura_skorch.evaluation.published.table_2 import READERS, published_kappas
from mura_skorch.metrics import OVERALL
from mura_skorch.utils.text import LINE_WIDTH, interval_text, number_text

__all__ = ["format_paper_table", "paper_table"]

FOOTNOTE = (
    "* kappas of other test sets than the one scored here: Table 2 of arXiv:1712.06957v4, hidden "
    "test set of 207 studies; v3 model: the paper's version 3, 209 studies. The intervals printed "
    "there lack a square root."
)
HEADERS = {
    "paper_model": "paper*",
    "v3_model": "v3 model*",
    "radiologist_1": "rad. 1*",
    "radiologist_2": "rad. 2*",
    "radiologist_3": "rad. 3*",
}


def paper_table(scores: pd.DataFrame, *, published: bool = True) -> pd.DataFrame:
    """Return a model's kappas as a column of the paper's Table 2.

    Parameters
    ----------
    scores : DataFrame
        As returned by `mura_skorch.metrics.study_scores`.
    published : bool, default=True
        Whether to add the model and the radiologists of the paper. Only for MURA, see
        `mura_skorch.evaluation.published.is_mura`.

    Returns
    -------
    DataFrame
        One row per study type, "overall" last: ``study_type``, ``n``, ``this_model``,
        ``this_model_low``, ``this_model_high``. If `published`, also the same three columns for
        each of `mura_skorch.evaluation.published.READERS`, with intervals as printed, and the
        ``footnote`` that has to be shown with them. NaN for types that the paper does not have,
        and for "overall" if one of the paper's seven types is missing.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> scores = study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1], study_type=["XR_HAND"] * 4)
    >>> paper_table(scores)[["study_type", "this_model", "paper_model", "radiologist_2"]]
      study_type  this_model  paper_model  radiologist_2
    0    XR_HAND         0.5        0.851          0.927
    1    overall         0.5          NaN            NaN
    """
    own = {f"kappa{end}": f"this_model{end}" for end in ("", "_low", "_high")}
    table = scores[["study_type", "n", *own]].rename(columns=own).reset_index(drop=True)
    if not published:
        return table
    kappas = published_kappas()
    if set(table["study_type"]) - {OVERALL} != set(STUDY_COUNTS["valid"]):
        kappas = kappas[kappas["study_type"] != OVERALL]
    for reader in READERS:
        ends = kappas[kappas["reader"] == reader].set_index("study_type")
        for end in ("", "_low", "_high"):
            table[f"{reader}{end}"] = table["study_type"].map(ends[f"kappa{end}"])
    return table.assign(footnote=FOOTNOTE)


def format_paper_table(table: pd.DataFrame) -> str:
    """Format a `paper_table` as aligned plain text, with its footnote.

    Parameters
    ----------
    table : DataFrame
        As returned by `paper_table`.

    Returns
    -------
    str

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> scores = study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1])
    >>> print(format_paper_table(paper_table(scores, published=False)))
    study type studies this model (95 % CI)
       overall       4  .500 (-.349, 1.000)
    """
    ends = table[["this_model", "this_model_low", "this_model_high"]].itertuples(index=False)
    texts = {
        "study type": table["study_type"],
        "studies": ["n/a" if pd.isna(n) else str(int(n)) for n in table["n"]],
        "this model (95 % CI)": [interval_text(*row) for row in ends],
    }
    shown = {header: table[reader] for reader, header in HEADERS.items() if reader in table}
    texts |= {header: values.map(number_text) for header, values in shown.items()}
    text = pd.DataFrame(texts).to_string(index=False)
    return "\n".join([text, *textwrap.wrap(FOOTNOTE, LINE_WIDTH)] if shown else [text])
