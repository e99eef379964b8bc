"""Review labels: rank suspects, apply the verdicts of a reader, count what a review finds."""

import io
import math
import os
import warnings
from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from mura_skorch.metrics.checks import check_binary, check_lengths, check_scores
from mura_skorch.utils.csv_files import delimiter_of, read_text
from mura_skorch.utils.text import printable, some_names

__all__ = ["VERDICTS", "apply_verdicts", "flip_labels", "rank_suspects", "review_curve"]

# What a reader may say of a label.
RIGHT, WRONG, UNSURE = VERDICTS = ("right", "wrong", "unsure")
NEEDED = ["study", "label", "verdict"]


def rank_suspects(label: ArrayLike, y_score: ArrayLike, study_type: Iterable[str]) -> pd.DataFrame:
    """Rank studies by how likely their label is wrong.

    Parameters
    ----------
    label : array-like of shape (n_studies,)
        Labels as they are, 1 abnormal and 0 normal.
    y_score : array-like of shape (n_studies,)
        Out-of-fold probabilities of abnormality, of models that saw no study of the patient.
    study_type : iterable of n_studies str
        Study types.

    Returns
    -------
    DataFrame of n_studies rows
        ``row``, the position of the study; ``is_issue``, whether cleanlab calls its label an issue
        among the studies of its type; ``own_probability``, that of its label. Issues come first,
        each part by rising ``own_probability``.

    Raises
    ------
    ImportError
        cleanlab is not installed.
    ValueError
        Lengths differ, or a label or a probability is none.

    Notes
    -----
    cleanlab's ``find_label_issues`` [1]_ compares each probability with the mean of those of its
    class, and takes as many issues as the counts of confident disagreements suggest. Within a type,
    because types differ in how well they are told apart. A type without both labels has none.

    References
    ----------
    .. [1] Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset
       labels", Journal of Artificial Intelligence Research 70, 2021.
    """
    find_label_issues = import_cleanlab()
    labels, scores = check_binary(label, "label"), check_scores(y_score)
    types = np.asarray(list(study_type), dtype=object)
    check_lengths(label=labels, y_score=scores, study_type=types)
    is_issue = np.zeros(len(labels), dtype=bool)
    for name in set(types):
        rows = np.flatnonzero(types == name)
        if len(set(labels[rows])) == 2:
            proba = np.column_stack([1 - scores[rows], scores[rows]])
            with warnings.catch_warnings():
                # It says of a class of few studies that it may miss issues, not of which type.
                warnings.simplefilter("ignore", UserWarning)
                is_issue[rows] = find_label_issues(labels[rows], proba, n_jobs=1)
    own = np.where(labels == 1, scores, 1 - scores)
    found = pd.DataFrame({"row": np.arange(len(own)), "is_issue": is_issue, "own_probability": own})
    return found.sort_values(
        ["is_issue", "own_probability"], ascending=[False, True], kind="stable", ignore_index=True
    )


def apply_verdicts(
    studies: pd.DataFrame, file: str | os.PathLike[str]
) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return a copy of a study table with the labels that a reader has corrected.

    Parameters
    ----------
    studies : DataFrame of n_studies rows
        A study table with ``study`` and ``label``. It is not changed.
    file : path
        CSV file that the page of a review has exported: ``study``; ``label``, 1 or 0, as it was
        when the page was written; ``verdict``, "right", "wrong", "unsure" or empty. Other columns
        are ignored. Commas, semicolons or tabs, as a spreadsheet writes it.

    Returns
    -------
    studies : DataFrame of n_studies rows
        With the opposite ``label`` where the verdict is "wrong".
    counts : dict of str to int
        Number of verdicts of each kind.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    ValueError
        It is no such file; a study is unknown or named twice; a verdict is another word; or a
        label is not that of the table, since the table has changed after the page was written.
    """
    table = _read(file)
    own = studies.set_index(studies["study"].astype(str))["label"]
    _refuse(
        file, "studies of the table", "unknown", table["study"][~table["study"].isin(own.index)]
    )
    _refuse(file, "each study once", "repeated", table["study"][table["study"].duplicated()])
    given = table["verdict"] != ""
    is_word = table["verdict"].isin([*VERDICTS, ""])
    _refuse(file, f"verdicts {', '.join(VERDICTS)} or none", "others", table["verdict"][~is_word])
    known = own.astype("Int8").astype(str).reindex(table["study"]).to_numpy()
    differs = given & (table["label"] != known)
    remedy = (
        "; if the page was written with --flip, pass the same --flip and --random-state; otherwise "
        "the labels have changed since: write the page again"
    )
    _refuse(file, "labels as in the table", "others for", table["study"][differs], remedy)
    wrong = studies["study"].astype(str).isin(table["study"][table["verdict"] == WRONG])
    label = studies["label"].mask(wrong, 1 - studies["label"])
    return studies.assign(label=label), {
        word: int((table["verdict"] == word).sum()) for word in VERDICTS
    }


def flip_labels(label: ArrayLike, share: float, random_state: int = 0) -> np.ndarray:
    """Return which labels to flip, to see how many of them a review finds.

    Parameters
    ----------
    label : array-like of shape (n_studies,)
        Labels, 1 abnormal and 0 normal.
    share : float
        Share of the studies, above 0 and below 0.5, drawn with equal chances.
    random_state : int, default=0
        Seed of the draw.

    Returns
    -------
    ndarray of shape (n_studies,), bool

    Raises
    ------
    ValueError
        The share is not above 0 and below 0.5.

    Examples
    --------
    >>> int(flip_labels([0, 1] * 50, 0.05).sum())
    5
    """
    if not 0 < share < 0.5:
        raise ValueError(f"expected a share above 0 and below 0.5 to flip, got {share!r}")
    n = len(check_binary(label, "label"))
    drawn = np.random.default_rng(random_state).permutation(n)[: math.ceil(share * n)]
    return np.isin(np.arange(n), drawn)


def review_curve(is_wrong: ArrayLike) -> pd.DataFrame:
    """Return what a review in the order of suspicion finds, next to a review in random order.

    Parameters
    ----------
    is_wrong : array-like of shape (n_studies,)
        Whether each label is wrong, the most suspect study first.

    Returns
    -------
    DataFrame of n_studies rows
        ``n_reviewed``; ``n_found``, wrong labels among them; ``precision``, their share of
        ``n_reviewed``; ``recall``, their share of all wrong labels; ``random_recall``, what a
        random order finds on average.

    Examples
    --------
    >>> review_curve([True, False, True, False])["recall"].tolist()
    [0.5, 0.5, 1.0, 1.0]
    """
    is_wrong = np.asarray(is_wrong, dtype=bool)
    reviewed, found = np.arange(1, len(is_wrong) + 1), np.cumsum(is_wrong)
    return pd.DataFrame(
        {
            "n_reviewed": reviewed,
            "n_found": found,
            "precision": found / reviewed,
            "recall": found / max(1, is_wrong.sum()),
            "random_recall": reviewed / len(is_wrong),
        }
    )


def import_cleanlab():
    """Return cleanlab's `find_label_issues`; raise ImportError that names the extra."""
    try:
        from cleanlab.filter import find_label_issues
    except ImportError as error:
        raise ImportError(
            "expected cleanlab to rank suspect labels, got none installed; "
            "pip install 'mura-skorch[labels]'"
        ) from error
    return find_label_issues


def _read(file):
    """Return the verdicts as a table of text."""
    try:
        text = read_text(file)
        delimiter = delimiter_of(text, lambda fields: set(NEEDED) <= set(fields))
        table = pd.read_csv(io.StringIO(text), sep=delimiter, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{file}: expected a CSV file of verdicts, got no such file; check the path"
        ) from error
    except ValueError as error:  # pandas' own for a damaged file are ValueErrors
        raise ValueError(
            f"{printable(file)}: expected a CSV file in UTF-8, got "
            f"{printable(str(error).strip())}; export it again from the page"
        ) from error
    if missing := [name for name in NEEDED if name not in table]:
        raise ValueError(
            f"{printable(file)}: expected the columns {', '.join(NEEDED)}, got "
            f"{some_names(table)}: no {' and no '.join(missing)}; export it from the page"
        )
    return table.apply(lambda column: column.str.strip())


def _refuse(file, expected, kind, values, remedy="; correct the file"):
    """Raise a ValueError if there are any such values."""
    if len(values):
        raise ValueError(
            f"{printable(file)}: expected {expected}, got {len(values):,} {kind}: "
            f"{some_names(values)}{remedy}"
        )
