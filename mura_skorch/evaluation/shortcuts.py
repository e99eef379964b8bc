"""Shortcuts: what is known without looking at a bone in, how well that alone predicts out."""

import warnings

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler

from mura_skorch.evaluation.predictions import check_columns
from mura_skorch.metrics.checks import check_binary, check_scores
from mura_skorch.metrics.intervals import RankedScores, draw_groups, percentiles
from mura_skorch.metrics.tables import OVERALL, type_parts
from mura_skorch.utils.identity import patient_codes
from mura_skorch.utils.text import number_text

__all__ = ["SHORTCUTS", "is_constant", "shortcut_alert", "shortcut_scores"]

# Shortcut -> the columns of a prediction table that it is made of.
SHORTCUTS = {
    "n_views": ["n_views"],
    "study_type": ["study_type"],
    "mean_intensity": ["mean_intensity"],
    "size": ["height", "width"],
}
WORDS = {
    "n_views": "the number of views",
    "study_type": "the study type",
    "mean_intensity": "the mean intensity",
    "size": "the size of the views",
}
FIGURES = [
    *("auroc", "low", "high", "model_auroc"),
    *("difference", "difference_low", "difference_high"),
]
DECIMALS = 6  # of log-odds: what differs less is the same, up to the solver's tolerance


def shortcut_scores(
    predictions: pd.DataFrame,
    *,
    n_splits: int = 5,
    n_resamples: int = 2000,
    random_state: int | None = 0,
) -> pd.DataFrame:
    """AUROC that shortcuts alone would reach, and by how much the model exceeds it, by study type.

    Parameters
    ----------
    predictions : DataFrame
        A prediction table with `label` and `score`, and any of `n_views`, `study_type`,
        `mean_intensity`, and `height` with `width`; `patient` is what folds and resamples keep
        together, each study its own without it. A row without a label, a score or a shortcut's
        value does not count for that shortcut.
    n_splits : int, default=5
        Folds of the cross-validation; fewer where fewer patients have either label.
    n_resamples : int, default=2000
        Resamples of the bootstrap.
    random_state : int or None, default=0
        Source of folds and resamples.

    Returns
    -------
    DataFrame
        For each study type, sorted, and then "overall", a row for each shortcut whose columns are
        there; the study type itself is one overall only. Columns `study_type`, `shortcut`, `n`
        (studies), `auroc` with `low` and `high`, `model_auroc` (on the same studies), `difference`
        (model minus shortcut, or minus .5 where the shortcut is below) with `difference_low` and
        `difference_high`, `includes_zero` (nullable boolean) and `undefined`, the reason where
        figures are NaN, else "".

    Raises
    ------
    ValueError
        If `label` or `score` is missing or not as described, a study type is missing or called
        "overall", or `n_splits` is less than 2.

    Warns
    -----
    UserWarning
        Once, if the interval of a difference includes 0 or lies below it: `shortcut_alert`.

    Notes
    -----
    Each shortcut is a logistic regression: of the one-hot study type, or of the standardised
    numbers with their squares and product, so that a dependence may have its peak in the middle.
    No patient is in both parts of a fold. The rows of a study type are learned from its studies
    alone: what tells the label in one type, and its reverse in another, is invisible in the pool,
    but not to a network that sees the type. Intervals are percentiles, 95 %, over resamples of
    whole patients, the same ones for model and shortcut; the regressions are not fitted again.

    The AUROC is that of each fold, averaged with the number of its pairs of an abnormal and a
    normal study as weights: only studies that one regression scored are ranked against each other.
    The AUROC of all folds pooled would be too low [1]_ [2]_ [3]_: a fold that holds many abnormal
    studies leaves few to its training part, whose regression then gives the whole fold low
    log-odds. A resample draws whole patients and is averaged over the folds in the same way.

    A shortcut without a relation to the label comes out on either side of .5, by chance. Where the
    studies at hand show no trace of one it comes out below: what a training part has too much of,
    the part left out lacks. Below .5 it is as useless as at .5, and a model that "exceeds" it has
    shown nothing. So `difference` is the model's AUROC less the larger of the shortcut's and .5, in
    each resample too.

    Each interval stands for itself. A table of seven study types has 25 of them, of which one may
    miss the truth by chance alone; the rows over all study types are those to look at first.

    The AUROC of the plain number of views, as :func:`mura_skorch.exploration.explore_studies` gives
    it, is another figure: nothing is fitted there, and more views always count as more abnormal.

    References
    ----------
    .. [1] Parker, Guenter and Bedo, "Stratification bias in low signal microarray studies", BMC
       Bioinformatics 8, 2007.
    .. [2] Forman and Scholz, "Apples-to-apples in cross-validation studies", ACM SIGKDD
       Explorations 12, 2010.
    .. [3] Airola et al., "An experimental comparison of cross-validation techniques for estimating
       the area under the ROC curve", Computational Statistics & Data Analysis 55, 2011.

    Examples
    --------
    >>> import pandas as pd
    >>> from mura_skorch.evaluation.shortcuts import shortcut_scores
    >>> predictions = pd.DataFrame(
    ...     {
    ...         "patient": range(40),
    ...         "label": [0, 1] * 20,
    ...         "n_views": [2] * 40,
    ...         "score": [0.1, 0.8] * 20,
    ...     }
    ... )
    >>> shortcut_scores(predictions)[["shortcut", "n", "auroc", "difference"]]
      shortcut   n  auroc  difference
    0  n_views  40    0.5         0.5
    """
    check_columns(predictions, ["label", "score"])
    if n_splits < 2:
        raise ValueError(f"expected at least 2 folds, got n_splits={n_splits!r}")
    # One order for the same studies, so that their order as given decides nothing.
    keys = [name for name in ("study", "patient", "score") if name in predictions]
    table = predictions.sort_values(keys, kind="stable") if len(predictions) else predictions
    rows = []
    for study_type, part in type_parts(table.get("study_type"), len(table)).items():
        for name, needed in SHORTCUTS.items():
            if not set(needed) <= set(table) or (study_type != OVERALL and name == "study_type"):
                continue
            used = table[part].dropna(subset=["label", "score", *needed])
            features = used[needed].astype(str if name == "study_type" else float)
            rows.append(
                {"study_type": study_type, "shortcut": name, "n": len(used)}
                | _row(used, features, n_splits, n_resamples, random_state)
            )
    names = ["study_type", "shortcut", "n", *FIGURES, "includes_zero", "undefined"]
    scores = pd.DataFrame(rows, columns=names)
    low, high = scores["difference_low"].to_numpy(float), scores["difference_high"].to_numpy(float)
    scores["includes_zero"] = pd.array((low <= 0) & (high >= 0), dtype="boolean")
    scores.loc[np.isnan(low), "includes_zero"] = pd.NA
    if alert := shortcut_alert(scores):
        warnings.warn(alert, UserWarning, stacklevel=2)
    return scores


def shortcut_alert(scores: pd.DataFrame) -> str | None:
    """Say where a shortcut may be as good as the model: overall, and in which study types.

    Parameters
    ----------
    scores : DataFrame
        What :func:`shortcut_scores` returns.

    Returns
    -------
    str or None
        Which shortcuts the model is worse than (the interval of the difference lies below 0), and
        which it cannot be told from (it includes 0). None where the intervals of all differences
        lie above 0. A shortcut that is a constant, such as the one study type there is, is left
        out.
    """
    types = [name for name in scores["study_type"].unique() if name != OVERALL]
    rows = scores[~is_constant(scores) & (scores["difference_low"] <= 0)]
    is_worse = rows["difference_high"] < 0
    sentences = []
    if named := _named(rows[is_worse], types):
        sentences.append(
            f"The model predicts worse than what is known without looking at a bone: {named}."
        )
    if named := _named(rows[~is_worse], types):
        sentences.append(
            "The model cannot be told from what is known without looking at a bone, as the 95 % "
            f"interval of the difference includes 0: {named}. It may know no more, or the studies "
            "may be too few to tell."
        )
    if not sentences:
        return None
    if (rows["auroc"] < 0.5).any():
        sentences.append("AUROCs of shortcuts below .5 count as .5.")
    return " ".join(
        [
            *sentences,
            "Such figures do not show that the model looks at the bones: train longer or on more "
            "studies, test on more, or score it among studies with equal values of these.",
        ]
    )


def is_constant(scores: pd.DataFrame) -> pd.Series:
    """Return where a shortcut has one value for all studies: AUROC .5 in every resample.

    Parameters
    ----------
    scores : DataFrame
        What :func:`shortcut_scores` returns.

    Returns
    -------
    Series of bool
    """
    return (scores["low"] == 0.5) & (scores["high"] == 0.5)


def _named(as_good, types):
    """Return shortcuts in words, with where they are as good as the model; "" without any."""
    named = []
    for shortcut, rows in as_good.groupby("shortcut", sort=False):
        found = [
            f"AUROC {number_text(row.auroc)}, the model {number_text(row.model_auroc)} on the same "
            f"{row.n:,} studies"
            for row in rows[rows["study_type"] == OVERALL].itertuples()
        ]
        within = [name for name in types if name in set(rows["study_type"])]
        if len(types) > 1 and within:  # of one type alone, overall says it all
            names = "each study type" if within == types else ", ".join(map(str, within))
            found.append(f"{'also ' if found else ''}in {names}")
        named.append(f"{WORDS[shortcut]} ({'; '.join(found)})")
    return ", ".join(named)


def _row(used, features, n_splits, n_resamples, random_state):
    """Return the figures of one shortcut."""
    y_true = check_binary(used["label"], "label")
    y_score = check_scores(used["score"], "score")
    codes = np.arange(len(used))
    if "patient" in used:
        codes = patient_codes(used["patient"])
    empty = dict.fromkeys(FIGURES, np.nan)
    if len(np.unique(y_true)) < 2:
        why = "only one class" if len(used) else "no studies"
        return empty | {"undefined": f"auroc: {why}"}
    model_auroc = float(roc_auc_score(y_true, y_score))
    n_folds = min(n_splits, *(len(np.unique(codes[y_true == label])) for label in (0, 1)))
    if n_folds < 2:
        why = "auroc: fewer than two patients with either label, no cross-validation"
        return empty | {"model_auroc": model_auroc, "undefined": why}
    fold, log_odds = _cross_validate(features, y_true, codes, n_folds, random_state)
    folds = FoldedScores(y_true, log_odds, codes, fold)
    n_groups = int(np.max(codes)) + 1
    auroc = float(folds.auroc(np.ones((1, n_groups)))[0])
    if np.isnan(auroc):
        why = "auroc: no fold of the cross-validation has both classes"
        return empty | {"model_auroc": model_auroc, "undefined": why}
    ranked = RankedScores(y_true, y_score, codes)
    drawn = [
        (ranked.areas(weights)[0], folds.auroc(weights))
        for weights in draw_groups(n_groups, n_resamples, random_state, n_rows=len(used))
    ]
    model, alone = (np.concatenate(chunks) for chunks in zip(*drawn, strict=True))
    low, high = percentiles(alone, n_resamples)
    ends = percentiles(model - np.maximum(alone, 0.5), n_resamples)
    figures = (auroc, low, high, model_auroc, model_auroc - max(auroc, 0.5), *ends)
    undefined = "intervals: too few resamples have both classes" if np.isnan(low) else ""
    return dict(zip(FIGURES, figures, strict=True)) | {"undefined": undefined}


class FoldedScores:
    """Scores of the folds of a cross-validation, each ranked among those of its own fold."""

    def __init__(self, y_true, y_score, groups, fold):
        parts = [fold == k for k in np.unique(fold)]
        self.folds = [
            (RankedScores(y_true[part], y_score[part], groups[part]), y_true[part], groups[part])
            for part in parts
            if len(np.unique(y_true[part])) == 2
        ]

    def auroc(self, weights):
        """Return the mean AUROC under weights of shape (n_resamples, n_groups).

        A fold counts by its pairs of an abnormal and a normal study; NaN where none has a pair.
        """
        right = pairs = np.zeros(len(weights))
        for ranked, y_true, groups in self.folds:
            drawn = weights[:, groups]
            n_abnormal = drawn @ y_true
            n_pairs = n_abnormal * (drawn.sum(axis=1) - n_abnormal)
            right = right + n_pairs * np.nan_to_num(ranked.areas(weights)[0])
            pairs = pairs + n_pairs
        return np.divide(right, pairs, out=np.full(len(weights), np.nan), where=pairs > 0)


def _cross_validate(features, y_true, codes, n_folds, random_state):
    """Return each study's fold, and its log-odds from the other folds."""
    if all(pd.api.types.is_numeric_dtype(dtype) for dtype in features.dtypes):
        steps = [StandardScaler(), PolynomialFeatures(include_bias=False), StandardScaler()]
    else:
        steps = [OneHotEncoder(handle_unknown="ignore")]
    pipeline = make_pipeline(*steps, LogisticRegression())
    folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=random_state)
    fold, log_odds = np.zeros(len(y_true), dtype=int), np.zeros(len(y_true))
    for k, (train, test) in enumerate(folds.split(features, y_true, codes)):
        fold[test] = k
        if len(np.unique(y_true[train])) < 2:
            continue  # learns nothing, and says nothing
        pipeline.fit(features.iloc[train], y_true[train])
        log_odds[test] = np.round(pipeline.decision_function(features.iloc[test]), DECIMALS)
    return fold, log_odds
