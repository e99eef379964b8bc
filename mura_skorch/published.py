"""Results as printed: the figures of the MURA paper, and tables of scores set beside them as text.

The figures are those of Table 2 and section 4 of arXiv:1712.06957v4, on the hidden test set of 207
studies, with intervals that leave out a square root (`kappa_interval(method="as-printed")`).
"""

import textwrap
from types import MappingProxyType

import pandas as pd

FOOTNOTE = (
    "* kappa printed in arXiv:1712.06957v4 for its hidden test set of 207 studies: another test set"
    " than the one scored here. best rad.: the highest of three radiologists on each row."
)
LINE_WIDTH = 100  # characters a terminal is taken to have

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

# Kappas of others that may stand beside a row's own.
_BESIDE_HEADERS = {
    "pooled_model": "pooled",
    "paper_model": "paper*",
    "best_radiologist": "best rad.*",
}


def published_kappas():
    """Table 2 of the paper, one row per study type and reader.

    Returns
    -------
    DataFrame
        Columns `study_type` ("overall" for the pooled studies), `reader` (one of `READERS`),
        `kappa`, `kappa_low`, `kappa_high`, with the interval as printed.

    Examples
    --------
    >>> from mura_skorch.published import published_kappas
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


def is_mura(studies):
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
    >>> from mura_skorch.published import is_mura
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
        if counts != published.get(study_type) or sum(counts) != len(labels):
            return False
    return True


def beside_published(scores):
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
    >>> from mura_skorch.published import beside_published
    >>> scores = study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1], study_type=["XR_HAND"] * 4)
    >>> beside_published(scores)[["study_type", "kappa", "paper_model", "best_radiologist"]]
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


def format_scores(scores):
    """Table of scores as aligned plain text, at most 100 columns wide.

    Parameters
    ----------
    scores : DataFrame
        What :func:`mura_skorch.metrics.study_scores` or :func:`beside_published` returns. A row
        whose figures are all NaN shows the text of its `status` instead, if there is that column.

    Returns
    -------
    str
        Lines without a final line break. Undefined figures read "n/a", what is too long is cut,
        and published kappas come with their footnote.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> from mura_skorch.published import format_scores
    >>> print(format_scores(study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1])))
    study type  studies      kappa (95 % CI)  AUROC  sensitivity  specificity
    -------------------------------------------------------------------------
    overall           4  .500 (-.349, 1.000)  1.000         .500        1.000
    """
    columns = score_texts(scores)
    rows = list(zip(*columns.values(), strict=True))
    # A status has no columns to align with: it may run to the end of the line.
    plain = [row for row in rows if row[3]]
    widths = [max(map(len, cells)) for cells in zip(columns, *plain, strict=True)]
    names = max(len(row[0]) for row in [list(columns), *rows])
    widths[0] = min(names, LINE_WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = [_line(columns, widths)]
    rule = "-" * len(lines[0])
    for i, row in enumerate(rows):
        if i == 0 or row[0] == "overall":
            lines.append(rule)
        lines.append(_line(row, widths) if row[3] else _line(row[:2], widths) + "  " + row[2])
    if needs_footnote(columns):
        lines += textwrap.wrap(FOOTNOTE, LINE_WIDTH)
    return "\n".join(shorten(line, LINE_WIDTH) for line in lines)


def score_texts(scores):
    """Texts of a table of scores, column by column, as format_scores aligns and plots draw them.

    Parameters
    ----------
    scores : DataFrame
        What :func:`mura_skorch.metrics.study_scores` or :func:`beside_published` returns.

    Returns
    -------
    dict of str to list of str
        Header to the texts of the rows: study type, studies, kappa with interval, AUROC,
        sensitivity, specificity and those of `pooled_model` (a model of all types), `paper_model`
        and `best_radiologist` that there are. In a row that has a
        `status` and no figures, the third column holds the status and all after it are empty.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> from mura_skorch.published import score_texts
    >>> score_texts(study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1]))["kappa (95 % CI)"]
    ['.500 (-.349, 1.000)']
    """
    figures = ["kappa", "auroc", "sensitivity", "specificity"]
    published = [column for column in _BESIDE_HEADERS if column in scores]
    headers = ["study type", "studies", "kappa (95 % CI)", "AUROC", *figures[2:]]
    headers += [_BESIDE_HEADERS[column] for column in published]
    rows = []
    for row in scores.to_dict("records"):
        cells = [str(row["study_type"]), "n/a" if pd.isna(row["n"]) else str(int(row["n"]))]
        status = row.get("status")
        if all(pd.isna(row[figure]) for figure in figures) and pd.notna(status) and status:
            cells += [" ".join(str(status).split()), *[""] * (len(headers) - 3)]
        else:
            cells.append(interval_text(row["kappa"], row["kappa_low"], row["kappa_high"]))
            cells += [number_text(row[figure]) for figure in figures[1:] + published]
        rows.append(cells)
    return {header: [row[i] for row in rows] for i, header in enumerate(headers)}


def needs_footnote(headers):
    """Whether figures from another test set are among the columns.

    Parameters
    ----------
    headers : iterable of str
        Keys of what :func:`score_texts` returns.

    Returns
    -------
    bool
    """
    return any(header.endswith("*") for header in headers)


def shorten(text, width):
    """Text cut to a number of characters, with an ellipsis for what is gone.

    Parameters
    ----------
    text : str
        Any text.
    width : int
        Most characters to keep, the ellipsis included.

    Returns
    -------
    str
        The text itself if it fits.

    Examples
    --------
    >>> from mura_skorch.published import shorten
    >>> shorten("XR_METACARPOPHALANGEAL", 10)
    'XR_METACA…'
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def number_text(value):
    """Text of a figure with three decimals, as journals print it: .705, 1.000, n/a."""
    if pd.isna(value):
        return "n/a"
    return f"{value:.3f}".replace("-0.000", ".000").replace("0.", ".", 1)


def interval_text(value, low, high):
    """Text of a figure and its interval: .705 (.608, .803)."""
    if pd.isna(value):
        return "n/a"
    if pd.isna(low) or pd.isna(high):
        return f"{number_text(value)} (n/a)"
    if low == high:  # all agree or all are called alike: no certainty
        return f"{number_text(value)} (zero width)"
    return f"{number_text(value)} ({number_text(low)}, {number_text(high)})"


def _line(cells, widths):
    """Cells side by side, the first to the left and the others to the right."""
    (name, width), *others = zip(cells, widths, strict=False)
    texts = [shorten(name, width).ljust(width), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(texts).rstrip()
