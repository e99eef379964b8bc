"""Tables of scores: figures go in, columns of texts for screen, picture and page come out."""

import textwrap

import pandas as pd

from mura_skorch.metrics import OVERALL
from mura_skorch.published import FOOTNOTE
from mura_skorch.shortcuts import WORDS, is_constant
from mura_skorch.texts import LINE_WIDTH, interval_text, number_text, printable, shorten

__all__ = [
    "decision_table",
    "format_scores",
    "needs_footnote",
    "probability_table",
    "score_texts",
    "shortcut_table",
    "undefined_table",
]

# Kappas of others that may stand beside a row's own.
_BESIDE_HEADERS = {
    "pooled_model": "pooled",
    "paper_model": "paper*",
    "best_radiologist": "best rad.*",
}
COUNTS = {"n_abnormal": "abnormal", "tp": "TP", "fn": "FN", "fp": "FP", "tn": "TN"}
# Figures of decisions, which depend on the operating point, and of probabilities, which do not.
DECISIONS = {
    "kappa": "kappa",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "accuracy": "accuracy",
    "f1": "F1",
}
PROBABILITIES = {
    "auroc": "AUROC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "ece": "calibration error",
}

MODEL_EXCESS = "overall, the model exceeds it (or .5) by"


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
    >>> from mura_skorch.score_tables import format_scores
    >>> print(format_scores(study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1])))
    study type  studies      kappa (95 % CI)  AUROC  sensitivity  specificity
    -------------------------------------------------------------------------
    overall           4  .500 (-.349, 1.000)  1.000         .500        1.000
    """
    columns = {name: list(map(printable, texts)) for name, texts in score_texts(scores).items()}
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
    >>> from mura_skorch.score_tables import score_texts
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


def decision_table(scores, unit="studies"):
    """Return counts and the figures of decisions as texts.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.metrics.study_scores` or `mura_skorch.breakdown.scores_by` returns.
    unit : str
        What is counted.

    Returns
    -------
    DataFrame
        Each figure as ``.705``, and its interval in a second line. Scores by the values of a column
        begin with that column under its own name, and name study types only where there are any.
    """
    return _texts(scores, {"n": unit, **COUNTS}, DECISIONS)


def probability_table(scores, unit="studies"):
    """Return the figures of probabilities as texts; parameters are those of `decision_table`."""
    return _texts(scores, {"n": unit}, PROBABILITIES)


def _texts(scores, counts, metrics):
    scores = scores.dropna(subset="n")
    table = _keys(scores).assign(
        **{header: scores[name].astype(int) for name, header in counts.items()}
    )
    for metric, header in metrics.items():
        ends = scores[[metric, f"{metric}_low", f"{metric}_high"]].itertuples(index=False)
        table[header] = [interval_text(*row).replace(" (", "\n(") for row in ends]
    return table


def undefined_table(scores):
    """Return which figures are not defined, and why, in words.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.metrics.study_scores` or `mura_skorch.breakdown.scores_by` returns.

    Returns
    -------
    DataFrame
        A row for each reason of a study type, or of a column's value; columns as those of
        `decision_table` that name it, then `not defined` and `why`. Empty where all is defined.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.score_tables import undefined_table
    >>> scores = {"study_type": ["overall"], "undefined": ["auroc: only one class"]}
    >>> undefined_table(pd.DataFrame(scores)).to_dict("list")
    {'study type': ['overall'], 'not defined': ['AUROC'], 'why': ['only one class']}
    """
    reasons = scores["undefined"].astype(object).fillna("")
    keys = _keys(scores)
    rows = []
    for key, text in zip(keys.to_dict("records"), reasons, strict=True):
        found = [part.partition(": ")[::2] for part in text.split("; ") if part]
        for why in dict.fromkeys(why for _, why in found):
            figures = ", ".join(_figure_words(name) for name, reason in found if reason == why)
            rows.append(key | {"not defined": figures, "why": why})
    return pd.DataFrame(rows, columns=[*keys, "not defined", "why"])


def _figure_words(name):
    """Return "interval of ppv" or "ppv" as it heads a column."""
    words, metric = name.rpartition(" ")[::2]
    return f"{words} {(DECISIONS | PROBABILITIES).get(metric, metric)}".strip()


def _keys(scores):
    """Return the columns that say what a row is of, under readable headers."""
    if "by" not in scores:
        return scores[["study_type"]].rename(columns={"study_type": "study type"})
    keys = scores[["value"]].set_axis(scores["by"].iloc[:1].tolist() or ["value"], axis=1)
    if (scores["study_type"] == OVERALL).all():
        return keys
    return keys.assign(**{"study type": scores["study_type"]})


def shortcut_table(shortcuts):
    """Return the table of shortcuts as texts.

    Parameters
    ----------
    shortcuts : DataFrame
        What `mura_skorch.shortcuts.shortcut_scores` returns.

    Returns
    -------
    DataFrame
        One row per study type and one overall, and a last one of by how much the model exceeds
        each shortcut overall, or .5 where that is more; one column per shortcut, "" where it has no
        row. What is of fewer studies than the row has says of how many.
    """
    studies = shortcuts.groupby("study_type", sort=False)["n"].max()
    rows = {name: {"studies": str(n)} for name, n in studies.items()}
    excess = rows.setdefault(MODEL_EXCESS, {"studies": ""}) if rows else {}
    for row in shortcuts.assign(constant=is_constant(shortcuts)).to_dict("records"):
        word, most = WORDS[row["shortcut"]], studies[row["study_type"]]
        few = f" of {row['n']}" if row["n"] < most else ""
        text = interval_text(row["auroc"], row["low"], row["high"])
        rows[row["study_type"]][word] = (".500 (constant)" if row["constant"] else text) + few
        if row["study_type"] == OVERALL:
            ends = (row["difference_low"], row["difference_high"])
            excess[word] = interval_text(row["difference"], *ends)
    table = pd.DataFrame.from_dict(rows, orient="index").fillna("")
    return table.rename_axis("study type").reset_index()


def _line(cells, widths):
    """Cells side by side, the first to the left and the others to the right."""
    (name, width), *others = zip(cells, widths, strict=False)
    texts = [shorten(name, width).ljust(width), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(texts).rstrip()
