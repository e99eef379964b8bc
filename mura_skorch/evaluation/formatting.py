"""Format tables of scores as text for terminal, figures and HTML page."""

import textwrap

import pandas as pd

from mura_skorch.evaluation.published import FOOTNOTE
from mura_skorch.evaluation.shortcuts import WORDS, is_constant
from mura_skorch.metrics import MEAN_OF_TYPES, OVERALL
from mura_skorch.utils.text import LINE_WIDTH, interval_text, number_text, printable, shorten

__all__ = [
    "decision_table",
    "footnotes",
    "format_scores",
    "probability_table",
    "score_texts",
    "shortcut_table",
    "undefined_table",
]

# Kappas of others that are shown next to a row's own.
_OTHER_KAPPAS = {
    "pooled_model": "pooled",
    "paper_model": "paper*",
    "best_radiologist": "best rad.*",
}
COUNTS = {"n_abnormal": "abnormal", "tp": "TP", "fn": "FN", "fp": "FP", "tn": "TN"}
# Metrics of decisions depend on the threshold, metrics of probabilities do not.
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

MODEL_EXCESS = "all types: the model's AUROC minus the shortcut's (at least .5)"
# Marks that refer to a footnote. The mark of the paper's figures is *.
FEW, POOL = "\u2020", "\u2021"  # dagger, double dagger
MARKED_FEW = ("kappa", "auroc")
MARKED_POOL = ("auroc", "average_precision", "ece")
SUMMARIES = (MEAN_OF_TYPES, OVERALL)


def format_scores(scores):
    """Format a table of scores as aligned plain text, at most 100 columns wide.

    Parameters
    ----------
    scores : DataFrame
        What :func:`mura_skorch.metrics.study_scores` or :func:`add_published` returns. If
        all figures of a row are NaN, its `status` is shown instead, if there is one.

    Returns
    -------
    str
        Lines without a final line break. Undefined figures read "n/a", long names are cut, and
        footnotes explain marks and published kappas.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> from mura_skorch.evaluation.formatting import format_scores
    >>> print(format_scores(study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1])))
    study type  studies       kappa (95 % CI)  AUROC  sensitivity  specificity
    --------------------------------------------------------------------------
    overall           4  .500 (-.349, 1.000)†  1.000         .500        1.000
    † fewer than 50 studies: intervals are likely to be too narrow
    """
    columns = {name: list(map(printable, texts)) for name, texts in score_texts(scores).items()}
    rows = list(zip(*columns.values(), strict=True))
    # A status is not aligned: it may run to the end of the line.
    plain = [row for row in rows if row[3]]
    widths = [max(map(len, cells)) for cells in zip(columns, *plain, strict=True)]
    names = max(len(row[0]) for row in [list(columns), *rows])
    widths[0] = min(names, LINE_WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    lines = [_line(columns, widths)]
    rule = "-" * len(lines[0])
    for i, row in enumerate(rows):
        if i == 0 or (row[0] in SUMMARIES and rows[i - 1][0] not in SUMMARIES):
            lines.append(rule)
        lines.append(_line(row, widths) if row[3] else _line(row[:2], widths) + "  " + row[2])
    for note in footnotes(scores):
        lines += textwrap.wrap(note, LINE_WIDTH)
    return "\n".join(shorten(line, LINE_WIDTH) for line in lines)


def score_texts(scores):
    """Format a table of scores column by column, for `format_scores` and plots.

    Parameters
    ----------
    scores : DataFrame
        What :func:`mura_skorch.metrics.study_scores` or :func:`add_published` returns.

    Returns
    -------
    dict of str to list of str
        Header to the cells: study type, studies, kappa with interval, AUROC, sensitivity,
        specificity and, if present, `pooled_model` (a model of all types), `paper_model` and
        `best_radiologist`. In a row with a `status` and no figures, the third column holds the
        status and those after it are empty. `footnotes` explains the marks.

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> from mura_skorch.evaluation.formatting import score_texts
    >>> score_texts(study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1]))["kappa (95 % CI)"]
    ['.500 (-.349, 1.000)†']
    """
    figures = ["kappa", "auroc", "sensitivity", "specificity"]
    published = [column for column in _OTHER_KAPPAS if column in scores]
    headers = ["study type", "studies", "kappa (95 % CI)", "AUROC", *figures[2:]]
    headers += [_OTHER_KAPPAS[column] for column in published]
    rows = []
    for row in scores.to_dict("records"):
        cells = [str(row["study_type"]), "n/a" if pd.isna(row["n"]) else str(int(row["n"]))]
        status = row.get("status")
        if all(pd.isna(row[figure]) for figure in figures) and pd.notna(status) and status:
            cells += [" ".join(str(status).split()), *[""] * (len(headers) - 3)]
        else:
            text = interval_text(row["kappa"], row["kappa_low"], row["kappa_high"])
            cells.append(text if text == "n/a" else text + _few(row))
            text = number_text(row["auroc"])
            cells.append(text if text == "n/a" else text + _pool(row))
            cells += [number_text(row[figure]) for figure in figures[2:] + published]
        rows.append(cells)
    texts = {header: [row[i] for row in rows] for i, header in enumerate(headers)}
    for header, mark in (("kappa (95 % CI)", FEW), ("AUROC", POOL)):
        texts[header] = _flush(texts[header], mark)
    return texts


def _few(row):
    """Return the mark of an interval from few patients, or ""."""
    caution = row.get("caution")
    return FEW if isinstance(caution, str) and caution else ""


def _pool(row):
    """Return the mark of a figure that pools several models, or ""."""
    is_pool = row["study_type"] == OVERALL and row.get("n_models", 1) > 1
    return POOL if is_pool else ""


def _flush(texts, mark):
    """Pad figures without a mark, so that digits align with those of marked figures."""
    if not any(text.endswith(mark) for text in texts):
        return texts
    return [
        text + " " * len(mark) if text and text[0] in "-.0123456789" and mark not in text else text
        for text in texts
    ]


def footnotes(scores, *, published=True):
    """Return the footnotes of a table of scores, one for each mark in it.

    Parameters
    ----------
    scores : DataFrame
        As for :func:`score_texts`; subgroup scores are accepted.
    published : bool, default=True
        Add the footnote of published kappas, if there are any.

    Returns
    -------
    list of str

    Examples
    --------
    >>> from mura_skorch.metrics import study_scores
    >>> from mura_skorch.evaluation.formatting import footnotes
    >>> footnotes(study_scores([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1]))[0][2:23]
    'fewer than 50 studies'
    """
    notes = []
    if "caution" in scores and (cautions := [text for text in scores["caution"].dropna() if text]):
        notes.append(f"{FEW} {cautions[0]}: intervals are likely to be too narrow")
    if "n_models" in scores and (n_models := scores["n_models"].max()) > 1:
        notes.append(
            f"{POOL} pools the scores of {n_models:.0f} models, each on its own scale; the "
            f"{MEAN_OF_TYPES} does not"
        )
    if published and any(name in scores for name in _OTHER_KAPPAS if name != "pooled_model"):
        notes.append(FOOTNOTE)
    return notes


def decision_table(scores, unit="studies"):
    """Format counts and the metrics of decisions.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.metrics.study_scores` or `mura_skorch.evaluation.subgroup_scores` returns.
    unit : str
        Name of what is counted.

    Returns
    -------
    DataFrame
        Each figure as ``.705``, with its interval in a second line. Subgroup scores start with the
        column of the subgroup, and have study types only if they are broken down by them.
    """
    return _texts(scores, {"n": unit, **COUNTS}, DECISIONS)


def probability_table(scores, unit="studies"):
    """Format the metrics of probabilities; for parameters see `decision_table`."""
    return _texts(scores, {"n": unit}, PROBABILITIES)


def _texts(scores, counts, metrics):
    """Return counts and metrics under their headers, as text."""
    scores = scores.dropna(subset="n")
    table = _keys(scores)
    for name, header in counts.items():
        table[header] = scores[name].astype(int)
    for metric, header in metrics.items():
        table[header] = [_cell(row, metric) for row in scores.to_dict("records")]
    return table


def _cell(row, metric):
    """Return a figure with its marks, and its interval, if any, in a second line."""
    text = number_text(row[metric])
    if text == "n/a":
        return text
    if metric in MARKED_POOL:
        text += _pool(row)
    if f"{metric}_low" not in row:
        return text
    ends = interval_text(row[metric], row[f"{metric}_low"], row[f"{metric}_high"]).partition(" ")[2]
    few = _few(row) if metric in MARKED_FEW else ""
    return f"{text}\n{ends}{few}"


def undefined_table(scores):
    """List undefined figures with the reason.

    Parameters
    ----------
    scores : DataFrame
        What `mura_skorch.metrics.study_scores` or `mura_skorch.evaluation.subgroup_scores` returns.

    Returns
    -------
    DataFrame
        One row per study type (or subgroup) and reason: the columns of `decision_table` that name
        it, then `not defined` and `why`. Empty if all figures are defined.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.formatting import undefined_table
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
    """Return "interval of ppv" or "ppv" in the words of the column headers."""
    words, metric = name.rpartition(" ")[::2]
    return f"{words} {(DECISIONS | PROBABILITIES).get(metric, metric)}".strip()


def _keys(scores):
    """Return the columns that name a row, under readable headers."""
    if "by" not in scores:
        return scores[["study_type"]].rename(columns={"study_type": "study type"})
    keys = scores[["value"]].set_axis(scores["by"].iloc[:1].tolist() or ["value"], axis=1)
    if (scores["study_type"] == OVERALL).all():
        return keys
    keys["study type"] = scores["study_type"]
    return keys


def shortcut_table(shortcuts):
    """Format the table of shortcuts.

    Parameters
    ----------
    shortcuts : DataFrame
        What `mura_skorch.evaluation.shortcut_scores` returns.

    Returns
    -------
    DataFrame
        One row per study type, one overall, and a last one with the AUROC by which the model
        exceeds each shortcut, or .5 if that is larger. One column per shortcut, "" if a row has
        none. A cell of fewer studies than its row shows their number.
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
    """Join cells, the first left-aligned and the others right-aligned."""
    (name, width), *others = zip(cells, widths, strict=False)
    texts = [shorten(name, width).ljust(width), *(cell.rjust(width) for cell, width in others)]
    return "  ".join(texts).rstrip()
